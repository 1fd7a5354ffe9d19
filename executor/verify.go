package executor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// VerifyOptions say how closely [Verify] looks.
type VerifyOptions struct {
	Deep        bool                      // read and hash every byte of every blob, instead of asking for it
	Wants       func(address string) bool // which records; nil for all
	Parallelism int                       // tags under way at once at each registry; default 16
	Progress    func(VerifyReport)        // called now and then with the counts so far; nil for none
}

// VerifyReport is what Verify looked at.
type VerifyReport struct {
	Tags, Manifests, Blobs int
	Bytes                  int64      // of blobs read and hashed
	Mismatches             []Mismatch // sorted by address
}

// Mismatch is something at a destination that is not as the state says.
type Mismatch struct {
	Address string
	On      string // where: "registry.example/mirror/api:1.2"
	Err     error
}

// Verify reads the destinations of everything that the state records: every tag
// must have the recorded digest, every manifest must hash to its own, and every
// blob must be there, or with Deep hash to its digest. Each manifest is read in
// each repository that has it, so client must not keep manifests (see
// registry.Options.ManifestCache). It writes nothing. The error is only ctx's.
func Verify(ctx context.Context, state *statefile.State, client *registry.Client, opts VerifyOptions) (*VerifyReport, error) {
	v := &verifier{client: client, opts: opts, report: &VerifyReport{}, blobs: map[blobIn]bool{}, read: map[blobAt]bool{},
		lists: map[providers.Repository]func() (*registry.TagList, error){}}
	if v.opts.Parallelism == 0 {
		v.opts.Parallelism = defaultParallelism
	}
	byHost := map[string][]string{} // addresses
	for record := range state.All() {
		if opts.Wants != nil && !opts.Wants(record.Address) {
			continue
		}
		if record.Kind == statefile.KindTag || record.Kind == statefile.KindImage {
			_, repo, _ := whereIs(state, record.Address)
			byHost[repo.Host] = append(byHost[repo.Host], record.Address)
		}
	}
	err := registry.EachHost(ctx, v.opts.Parallelism, byHost, func(ctx context.Context, address string) error {
		record, repo, tag := whereIs(state, address)
		v.tag(ctx, record, place{repo, tag})
		return ctx.Err()
	})
	slices.SortFunc(v.report.Mismatches, func(a, b Mismatch) int {
		return strings.Compare(a.Address+" "+a.On, b.Address+" "+b.On)
	})
	return v.report, err
}

// whereIs is a record and the destination tag that it speaks of.
func whereIs(state *statefile.State, address string) (record statefile.Record, repo providers.Repository, tag string) {
	record, _ = state.Lookup(address)
	block, _ := state.Lookup(planner.BlockOf(address))
	repo, tag = planner.Place(block, record)
	return record, repo, tag
}

// place is a destination tag.
type place struct {
	repo providers.Repository
	tag  string
}

type blobIn struct {
	repo   providers.Repository
	digest providers.Digest
}

type blobAt struct {
	host   string
	digest providers.Digest
}

type verifier struct {
	client *registry.Client
	opts   VerifyOptions

	mu     sync.Mutex
	report *VerifyReport
	blobs  map[blobIn]bool // looked at, so that shared layers cost one request a repository
	read   map[blobAt]bool // read to the end, once a registry
	lists  map[providers.Repository]func() (*registry.TagList, error)
}

func (v *verifier) tag(ctx context.Context, record statefile.Record, where place) {
	on := where.repo.Tag(where.tag)
	v.count(VerifyReport{Tags: 1})
	head, err := v.client.Head(ctx, where.repo, where.tag)
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		v.mismatch(record.Address, on, &providers.Error{Class: providers.NotFound, Op: "the tag is gone"})
		return
	case err != nil:
		v.mismatch(record.Address, on, err)
		return
	case head.Digest != record.Digest:
		v.mismatch(record.Address, on, &providers.Error{Class: providers.Conflict,
			Op: fmt.Sprintf("the tag has %s, the state says %s", head.Digest.Short(), record.Digest.Short())})
	}
	v.content(ctx, record.Address, where.repo, record.Digest)
	tags, err := v.tags(ctx, where.repo)
	if err != nil {
		v.mismatch(record.Address, on, err)
		return
	}
	referrers, err := v.client.ReferrerSet(ctx, where.repo, []providers.Digest{record.Digest}, tags)
	if err != nil {
		v.mismatch(record.Address, on, err)
	}
	for _, r := range referrers {
		v.content(ctx, record.Address, where.repo, r.Digest)
	}
}

// tags lists a repository once: referrers that it can not have then cost no
// request.
func (v *verifier) tags(ctx context.Context, repo providers.Repository) (*registry.TagList, error) {
	v.mu.Lock()
	list := v.lists[repo]
	if list == nil {
		list = sync.OnceValues(func() (*registry.TagList, error) {
			tags, err := v.client.Tags(ctx, repo)
			return &tags, err
		})
		v.lists[repo] = list
	}
	v.mu.Unlock()
	return list()
}

// content walks everything below one manifest.
func (v *verifier) content(ctx context.Context, address string, repo providers.Repository, root providers.Digest) {
	contents, err := v.client.Contents(ctx, repo, root, nil)
	if err != nil {
		v.mismatch(address, repo.At(root), err)
		return
	}
	v.count(VerifyReport{Manifests: len(contents.Manifests)})
	for _, blob := range contents.Blobs {
		deep, ok := v.take(repo, blob.Digest)
		if !ok {
			continue
		}
		err := v.client.CheckBlob(ctx, repo, blob, deep, nil)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			v.mismatch(address, repo.At(blob.Digest), err)
			continue
		}
		more := VerifyReport{Blobs: 1}
		if deep {
			more.Bytes = blob.Size
		}
		v.count(more)
	}
}

// take decides how a blob is looked at: not at all if it was in this repository,
// to the end once a registry.
func (v *verifier) take(repo providers.Repository, d providers.Digest) (deep, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.blobs[blobIn{repo, d}] {
		return false, false
	}
	v.blobs[blobIn{repo, d}] = true
	deep = v.opts.Deep && !v.read[blobAt{repo.Host, d}]
	if deep {
		v.read[blobAt{repo.Host, d}] = true
	}
	return deep, true
}

func (v *verifier) mismatch(address, on string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Mismatches = append(v.report.Mismatches, Mismatch{address, on, err})
}

func (v *verifier) count(more VerifyReport) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Tags += more.Tags
	v.report.Manifests += more.Manifests
	v.report.Blobs += more.Blobs
	v.report.Bytes += more.Bytes
	if v.opts.Progress != nil {
		v.opts.Progress(*v.report)
	}
}
