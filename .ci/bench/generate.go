package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// generation changes whenever this file makes something else, so that no old
// corpus is taken for a new one.
const generation = 3

// The corpora.
const (
	treeCorpus  = "tree"  // 40 repositories × 5 tags, about 1.4 GB of unique blobs at scale 1
	manyCorpus  = "many"  // 1,000 repositories × 3 tags of tiny images at scale 1
	layerCorpus = "layer" // one image with a layer of 3 GiB at scale 1
)

// prepared is a corpus in the storage of a registry, ready to be served.
type prepared struct {
	corpus  *corpus
	storage string
	moved   *prepared // the same with 5 % of the tags moved; only of the tree
}

// prepare gives a corpus from the cache below dir, or makes it: it starts a
// registry, fills it over HTTP as any client would, and stops it. What is in the
// cache is complete, since it gets its name last.
func prepare(ctx context.Context, dir, registry, kind string, scale float64) (*prepared, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%d %s %g %s", generation, kind, scale, runtime.Version()))
	home := filepath.Join(dir, "corpus-"+kind+"-"+hex.EncodeToString(key[:6]))
	if _, err := os.Stat(home); err == nil {
		return load(home, kind)
	}
	progress("making the corpus %q at scale %g; it is kept in %s", kind, scale, home)
	half := home + ".part"
	if err := os.RemoveAll(half); err != nil {
		return nil, err
	}
	g := &generator{kind: kind, scale: scale, made: map[string]made{}, placed: map[[2]string]bool{}}
	var err error
	if g.files, err = findFiles(); err != nil {
		return nil, err
	}
	if err := g.fill(ctx, registry, half); err != nil {
		return nil, fmt.Errorf("make the corpus %q: %w", kind, err)
	}
	if err := os.Rename(half, home); err != nil {
		return nil, err
	}
	return load(home, kind)
}

func load(home, kind string) (*prepared, error) {
	p := &prepared{corpus: &corpus{}, storage: filepath.Join(home, "source")}
	if err := readJSON(filepath.Join(home, "source.json"), p.corpus); err != nil || kind != treeCorpus {
		return p, err
	}
	p.moved = &prepared{corpus: &corpus{}, storage: filepath.Join(home, "moved")}
	return p, readJSON(filepath.Join(home, "moved.json"), p.moved.corpus)
}

// generator makes one corpus.
type generator struct {
	kind  string
	scale float64
	files *files
	r     *remote

	mu     sync.Mutex
	made   map[string]made    // layers by name
	placed map[[2]string]bool // repository, digest
}

type made struct {
	blob blob
	in   string // a repository that has it
}

// fill makes the corpus in dir: storage and description, and the same with
// moved tags.
func (g *generator) fill(ctx context.Context, registry, dir string) error {
	var c *corpus
	err := g.serve(ctx, registry, filepath.Join(dir, "source"), func(ctx context.Context) (err error) {
		switch g.kind {
		case treeCorpus:
			c, err = g.tree(ctx)
		case manyCorpus:
			c, err = g.many(ctx)
		case layerCorpus:
			c, err = g.layer3G(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "source.json"), c); err != nil || g.kind != treeCorpus {
		return err
	}
	if err := cloneStorage(filepath.Join(dir, "source"), filepath.Join(dir, "moved")); err != nil {
		return err
	}
	err = g.serve(ctx, registry, filepath.Join(dir, "moved"), func(ctx context.Context) error { return g.move(ctx, c) })
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "moved.json"), c)
}

// serve runs do against a registry on dir.
func (g *generator) serve(ctx context.Context, registry, dir string, do func(context.Context) error) error {
	process, err := startRegistry(ctx, registry, dir, "")
	if err != nil {
		return err
	}
	defer process.stop()
	g.r = dial(process.address)
	defer g.r.client.CloseIdleConnections()
	return do(ctx)
}

// app is one repository of the tree.
type app struct {
	name     string
	number   int
	multi    bool // linux/amd64 and linux/arm64 in an index
	docker   bool // Docker's media types
	attested bool // with buildx's attestations
}

func (a app) architectures() []string {
	if a.multi {
		return []string{"amd64", "arm64"}
	}
	return []string{"amd64"}
}

const stacks = 6

// treeApps are 40 repositories: a third are multi-arch, about a third have
// Docker's media types.
func treeApps() []app {
	var apps []app
	for i := range 40 {
		a := app{name: fmt.Sprintf("team-%d/app-%02d", i%5, i), number: i, multi: i%3 == 0, docker: i%3 == 1 && i%2 == 0 || i%9 == 3}
		a.attested = a.multi && !a.docker
		apps = append(apps, a)
	}
	return apps
}

// tree fills 40 repositories with five tags each. An image stands on one of six
// base stacks that repositories share, then come the layers that the tags of a
// repository share, then what one version changes. In every other repository
// "latest" is the newest version under a second name.
func (g *generator) tree(ctx context.Context) (*corpus, error) {
	apps := treeApps()
	// The stacks first: afterwards everybody mounts them.
	err := inParallel(ctx, 2*stacks, func(ctx context.Context, i int) error {
		_, err := g.stack(ctx, sourcePrefix+"/"+apps[i].name, i%stacks, []string{"amd64", "arm64"}[i/stacks])
		return err
	})
	if err != nil {
		return nil, err
	}
	c := &corpus{Repositories: make([]repository, len(apps))}
	return c, inParallel(ctx, len(apps), func(ctx context.Context, i int) (err error) {
		c.Repositories[i], err = g.treeRepository(ctx, apps[i])
		return err
	})
}

func (g *generator) treeRepository(ctx context.Context, a app) (repository, error) {
	repo := repository{Name: a.name}
	versions := []string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"}
	if a.number%2 == 1 {
		versions[4] = "latest"
	}
	for i, version := range versions {
		var root *manifest
		if version == "latest" {
			root = repo.Tags[i-1].Root
		} else {
			var err error
			if root, err = g.treeImage(ctx, a, version); err != nil {
				return repo, err
			}
		}
		if err := g.r.put(ctx, sourcePrefix+"/"+a.name, version, root); err != nil {
			return repo, err
		}
		repo.Tags = append(repo.Tags, tag{Name: version, Root: root})
	}
	return repo, nil
}

// move points every twentieth tag at a new image, which shares all but the
// layers of its version with the old one.
func (g *generator) move(ctx context.Context, c *corpus) error {
	apps := treeApps()
	n := 0
	for i, repo := range c.Repositories {
		for j, t := range repo.Tags {
			if n++; n%20 != 7 {
				continue
			}
			root, err := g.treeImage(ctx, apps[i], t.Name+"-moved")
			if err != nil {
				return err
			}
			if err := g.r.put(ctx, sourcePrefix+"/"+repo.Name, t.Name, root); err != nil {
				return err
			}
			repo.Tags[j].Root = root
		}
	}
	return nil
}

// treeImage makes the image of one version, all but its tag.
func (g *generator) treeImage(ctx context.Context, a app, version string) (*manifest, error) {
	at := sourcePrefix + "/" + a.name
	var children []child
	for _, architecture := range a.architectures() {
		layers, err := g.stack(ctx, at, a.number%stacks, architecture)
		if err != nil {
			return nil, err
		}
		name := a.name + "/" + architecture
		for i := range 3 {
			if layers, err = g.grow(ctx, layers, at, fmt.Sprintf("%s/dependencies-%d", name, i), 5_300_000); err != nil {
				return nil, err
			}
		}
		for i := range 2 {
			if layers, err = g.grow(ctx, layers, at, fmt.Sprintf("%s/%s/layer-%d", name, version, i), 420_000); err != nil {
				return nil, err
			}
		}
		image, err := g.image(ctx, at, name+":"+version, architecture, a.docker, layers)
		if err != nil {
			return nil, err
		}
		children = append(children, child{manifest: image, platform: platform{architecture, "linux"}})
	}
	if !a.multi {
		return children[0].manifest, nil
	}
	for _, c := range children[:2] {
		if !a.attested {
			break
		}
		attestation, err := g.attestation(ctx, at, c.manifest)
		if err != nil {
			return nil, err
		}
		children = append(children, child{manifest: attestation, platform: platform{"unknown", "unknown"}, of: c.manifest})
	}
	for _, c := range children {
		if err := g.r.put(ctx, at, c.digest(), c.manifest); err != nil {
			return nil, err
		}
	}
	return indexOf(a.docker, children...), nil
}

// stack gives the base layers of an architecture, present in the repository.
func (g *generator) stack(ctx context.Context, at string, number int, architecture string) (layers []blob, err error) {
	for i, size := range []int64{20_000_000, 8_000_000, 2_700_000} {
		if layers, err = g.grow(ctx, layers, at, fmt.Sprintf("stack-%d/%s/%d", number, architecture, i), size); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

// many fills 1,000 repositories with three tags each. The images stand on one
// small layer that all share; the tags of a repository differ in their config.
func (g *generator) many(ctx context.Context) (*corpus, error) {
	base := "svc/app-0000"
	if _, err := g.layer(ctx, sourcePrefix+"/"+base, "base", 6000); err != nil {
		return nil, err
	}
	c := &corpus{Repositories: make([]repository, max(20, int(1000*g.scale)))}
	return c, inParallel(ctx, len(c.Repositories), func(ctx context.Context, i int) (err error) {
		c.Repositories[i], err = g.tiny(ctx, fmt.Sprintf("svc/app-%04d", i), i%3 == 0)
		return err
	})
}

func (g *generator) tiny(ctx context.Context, name string, docker bool) (repository, error) {
	repo := repository{Name: name}
	at := sourcePrefix + "/" + name
	for _, version := range []string{"1.0", "1.1", "1.2"} {
		var layers []blob
		for _, layer := range []string{"base", name + "/own"} {
			b, err := g.layer(ctx, at, layer, 2000)
			if err != nil {
				return repo, err
			}
			layers = append(layers, b)
		}
		root, err := g.image(ctx, at, name+":"+version, "amd64", docker, layers)
		if err != nil {
			return repo, err
		}
		if err := g.r.put(ctx, at, version, root); err != nil {
			return repo, err
		}
		repo.Tags = append(repo.Tags, tag{Name: version, Root: root})
	}
	return repo, nil
}

// layer3G makes one image with one very large layer.
func (g *generator) layer3G(ctx context.Context) (*corpus, error) {
	const name = "model/weights"
	at := sourcePrefix + "/" + name
	layer, err := g.place(ctx, at, "weights", ociLayer, func(w io.Writer) (string, error) {
		return writeNoise(w, "model/weights.bin", int64(g.scale*(3<<30)))
	})
	if err != nil {
		return nil, err
	}
	root, err := g.image(ctx, at, name, "amd64", false, []blob{layer})
	if err != nil {
		return nil, err
	}
	c := &corpus{Repositories: []repository{{Name: name, Tags: []tag{{Name: "1", Root: root}}}}}
	return c, g.r.put(ctx, at, "1", root)
}

// grow appends a layer whose size is about size times the scale.
func (g *generator) grow(ctx context.Context, layers []blob, at, name string, size int64) ([]blob, error) {
	b, err := g.layer(ctx, at, name, max(512, spread(name, int64(g.scale*float64(size)))))
	return append(layers, b), err
}

// layer gives the layer of that name, present in the repository at.
func (g *generator) layer(ctx context.Context, at, name string, size int64) (blob, error) {
	return g.place(ctx, at, name, ociLayer, func(w io.Writer) (string, error) { return g.files.writeLayer(w, name, size) })
}

// image uploads the config and gives the manifest.
func (g *generator) image(ctx context.Context, at, name, architecture string, docker bool, layers []blob) (*manifest, error) {
	config, err := g.bytes(ctx, at, "config of "+name, ociConfig, imageConfig(name, architecture, layers))
	if err != nil {
		return nil, err
	}
	return imageManifest(docker, config, layers), nil
}

// attestation is what buildx adds for an image: a manifest for no platform.
func (g *generator) attestation(ctx context.Context, at string, of *manifest) (*manifest, error) {
	statement := marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
		"subject": []map[string]any{{"name": "app", "digest": map[string]string{"sha256": of.digest()[len("sha256:"):]}}},
	})
	layer, err := g.bytes(ctx, at, "statement of "+of.digest(), inTotoLayer, statement)
	if err != nil {
		return nil, err
	}
	return g.image(ctx, at, "attestation of "+of.digest(), "unknown", false, []blob{layer})
}

// bytes places a small blob; its diff ID is its digest.
func (g *generator) bytes(ctx context.Context, at, name, mediaType string, content []byte) (blob, error) {
	return g.place(ctx, at, name, mediaType, func(w io.Writer) (string, error) {
		_, err := w.Write(content)
		return digestOf(content), err
	})
}

// place makes a blob present in a repository: it is there, or is mounted, or is
// written. Nobody places one name from two goroutines at once, except names
// that were placed before these began.
func (g *generator) place(ctx context.Context, at, name, mediaType string, write func(io.Writer) (diffID string, err error)) (blob, error) {
	g.mu.Lock()
	before, known := g.made[name]
	there := g.placed[[2]string{at, before.blob.Digest}]
	g.mu.Unlock()
	if known && there {
		return before.blob, nil
	}
	b := before.blob
	if known {
		if err := g.r.mount(ctx, at, before.in, b.Digest); err != nil {
			return b, err
		}
	} else {
		b.MediaType = mediaType
		var err error
		b.Digest, b.Size, err = g.r.upload(ctx, at, func(w io.Writer) (err error) {
			b.DiffID, err = write(w)
			return err
		})
		if err != nil {
			return b, fmt.Errorf("layer %s: %w", name, err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !known {
		g.made[name] = made{b, at}
	}
	g.placed[[2]string{at, b.Digest}] = true
	return b, nil
}

// inParallel calls do with 0 to n-1, as many at once as there are processors.
func inParallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

func readJSON(name string, into any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func writeJSON(name string, from any) error { return os.WriteFile(name, marshal(from), 0o600) }
