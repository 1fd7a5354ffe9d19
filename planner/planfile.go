package planner

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// A saved plan is a zstd stream of JSON Lines:
//
//	{"freightliner":"plan","v":1,"state":"sha256:…","destroy":false}
//	{"registry":{…}}   one a registry, sorted by host and path
//	{"block":{…}}      one a block, in order
//	{"action":{…}}     one an action, in order; needs and block are indices
//	{"problem":{…}}    one a problem, in order
//	{"end":"sha256:…"} over all bytes before this line
//
// The digest in the end line is the plan's id. Nothing in it depends on when,
// where or by which build the plan was made, and nothing secret is in it. A
// plan file is read by the version that wrote it only (v); state files are what
// lasts.

// Errors that Decode wraps.
var (
	ErrDamaged = errors.New("the plan file is damaged")
	ErrVersion = errors.New("the plan file has another version")
)

const (
	planVersion = 1
	maxLine     = 64 << 20 // bytes of one line: an action with a million needs fits
	maxWindow   = 64 << 20 // bytes of memory that a plan file may make the decoder take
	maxContent  = 4 << 30  // bytes of a whole plan: ten million actions
)

type planHeader struct {
	Freightliner string           `json:"freightliner"`
	Version      int              `json:"v"`
	State        providers.Digest `json:"state,omitempty"`
	Destroy      bool             `json:"destroy,omitempty"`
}

type planLine struct {
	Registry *registryLine    `json:"registry,omitempty"`
	Block    *Block           `json:"block,omitempty"`
	Action   *actionLine      `json:"action,omitempty"`
	Problem  *Problem         `json:"problem,omitempty"`
	End      providers.Digest `json:"end,omitempty"`
}

// registryLine is a Registry. It has no room for an auth block, so that no
// credential can ever reach a plan file.
type registryLine struct {
	Name               string   `json:"name,omitempty"`
	Host               string   `json:"host"`
	Path               string   `json:"path,omitempty"`
	Kind               string   `json:"kind"`
	PlainHTTP          bool     `json:"plain_http,omitempty"`
	CAFile             string   `json:"ca_file,omitempty"`
	ClientCert         string   `json:"client_cert,omitempty"`
	ClientKey          string   `json:"client_key,omitempty"` // the path of the file
	CreateRepositories bool     `json:"create_repositories,omitempty"`
	Created            *created `json:"created,omitempty"`
	Concurrency        int      `json:"concurrency,omitempty"`
	RequestsPerSecond  float64  `json:"requests_per_second,omitempty"`
	MaxBandwidth       int64    `json:"max_bandwidth,omitempty"`
	TokenHosts         []string `json:"token_hosts,omitempty"`
	UploadHosts        []string `json:"upload_hosts,omitempty"`
	Auth               bool     `json:"auth,omitempty"`
	Touched            bool     `json:"touched,omitempty"`
}

// created is a config.RepositorySettings; nil when nothing is set.
type created struct {
	ScanOnPush    bool              `json:"scan_on_push,omitempty"`
	ImmutableTags bool              `json:"immutable_tags,omitempty"`
	KMSKey        string            `json:"kms_key,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
}

func (r *Registry) line() *registryLine {
	c := r.Config
	var settings *created
	if s := c.Created; s.ScanOnPush || s.ImmutableTags || s.KMSKey != "" || len(s.Labels) > 0 {
		settings = (*created)(&s)
	}
	return &registryLine{
		c.Name, c.Host, c.Path, c.Kind, c.PlainHTTP, c.CAFile, c.ClientCert, c.ClientKey, c.CreateRepositories, settings,
		c.Concurrency, c.RequestsPerSecond, c.MaxBandwidth, c.TokenHosts, c.UploadHosts, r.Auth, r.Touched,
	}
}

func (l *registryLine) registry() Registry {
	var settings config.RepositorySettings
	if l.Created != nil {
		settings = config.RepositorySettings(*l.Created)
	}
	return Registry{Auth: l.Auth, Touched: l.Touched, Config: config.Registry{
		Name: l.Name, Host: l.Host, Path: l.Path, Kind: l.Kind, PlainHTTP: l.PlainHTTP, CAFile: l.CAFile,
		ClientCert: l.ClientCert, ClientKey: l.ClientKey, CreateRepositories: l.CreateRepositories, Created: settings,
		Concurrency: l.Concurrency, RequestsPerSecond: l.RequestsPerSecond, MaxBandwidth: l.MaxBandwidth,
		TokenHosts: l.TokenHosts, UploadHosts: l.UploadHosts,
	}}
}

// actionLine is an Action with short names and without what is empty: a plan
// may have a million of them.
type actionLine struct {
	Address   string           `json:"a"`
	Kind      statefile.Kind   `json:"k"`
	Verb      Verb             `json:"v"`
	Cause     Cause            `json:"c"`
	Reason    string           `json:"why"`
	Block     int              `json:"b"`
	From      string           `json:"from,omitempty"`
	FromTag   string           `json:"from_tag,omitempty"`
	To        string           `json:"to,omitempty"`
	ToTag     string           `json:"to_tag,omitempty"`
	Pin       providers.Digest `json:"pin,omitempty"`
	Want      providers.Digest `json:"want,omitempty"`
	Observed  providers.Digest `json:"observed,omitempty"`
	Prior     providers.Digest `json:"prior,omitempty"`
	Fresh     bool             `json:"fresh,omitempty"`
	Referrers []Referrer       `json:"referrers,omitempty"`
	Bytes     int64            `json:"bytes,omitempty"`
	Present   int64            `json:"present,omitempty"`
	Requests  int              `json:"requests,omitempty"`
	Needs     []int            `json:"needs,omitempty"`
	Secret    *SecretChange    `json:"secret,omitempty"`
}

func (a *Action) line() *actionLine {
	return &actionLine{
		a.Address, a.Kind, a.Verb, a.Cause, a.Reason, a.Block, place(a.From), a.FromTag, place(a.To), a.ToTag,
		a.Pin, a.Want, a.Observed, a.Prior, a.Fresh, a.Referrers, a.Bytes, a.Present, a.Requests, a.Needs, a.Secret,
	}
}

func (l *actionLine) action() Action {
	return Action{
		Address: l.Address, Kind: l.Kind, Verb: l.Verb, Cause: l.Cause, Reason: l.Reason, Block: l.Block,
		From: repositoryOf(l.From), FromTag: l.FromTag, To: repositoryOf(l.To), ToTag: l.ToTag,
		Pin: l.Pin, Want: l.Want, Observed: l.Observed, Prior: l.Prior, Fresh: l.Fresh, Referrers: l.Referrers,
		Bytes: l.Bytes, Present: l.Present, Requests: l.Requests, Needs: l.Needs, Secret: l.Secret,
	}
}

// place is "host/path", empty for no repository.
func place(r providers.Repository) string {
	if r == (providers.Repository{}) {
		return ""
	}
	return r.String()
}

// ID is the digest of the plan's content: equal plans have equal ids on any
// machine, and an approval names one.
func (p *Plan) ID() providers.Digest {
	h := sha256.New()
	if err := p.content(h); err != nil {
		panic(err) // a hash does not fail, and the types are plain data
	}
	return providers.FromSum(h.Sum(nil))
}

// content writes all lines before the end line.
func (p *Plan) content(w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 1<<16)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(planHeader{"plan", planVersion, p.State, p.Destroy}); err != nil {
		return err
	}
	for i := range p.Registries {
		if err := encoder.Encode(planLine{Registry: p.Registries[i].line()}); err != nil {
			return err
		}
	}
	for i := range p.Blocks {
		if err := encoder.Encode(planLine{Block: &p.Blocks[i]}); err != nil {
			return err
		}
	}
	for i := range p.Actions {
		if err := encoder.Encode(planLine{Action: p.Actions[i].line()}); err != nil {
			return err
		}
	}
	for i := range p.Problems {
		if err := encoder.Encode(planLine{Problem: &p.Problems[i]}); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// Encode writes the plan to w. Equal plans give equal bytes.
func Encode(w io.Writer, p *Plan) error {
	// One goroutine and a fixed level: the compressed bytes do not depend on
	// the number of processors.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	h := sha256.New()
	if err := p.content(io.MultiWriter(z, h)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(z, "{\"end\":\"%s\"}\n", providers.FromSum(h.Sum(nil))); err != nil {
		return err
	}
	return z.Close()
}

// Decode reads a plan that Encode wrote. The bytes come from a CI artifact and
// are not trusted: their digest, every index, word and digest in them is
// checked, and every line has to be as Encode would write it, so that two
// readers can not understand one file differently. Errors wrap [ErrDamaged] or
// [ErrVersion].
func Decode(r io.Reader) (*Plan, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer z.Close()
	return decode(io.LimitReader(z, maxContent))
}

// decode reads the lines of a plan file.
func decode(r io.Reader) (*Plan, error) {
	d := &decoder{lines: bufio.NewScanner(r), hash: sha256.New(), plan: &Plan{Saved: true}}
	d.lines.Buffer(make([]byte, 1<<16), maxLine)
	if err := d.header(); err != nil {
		return nil, err
	}
	for {
		done, err := d.line()
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrDamaged, d.number, err)
		}
		if done {
			return d.plan, nil
		}
	}
}

type decoder struct {
	lines  *bufio.Scanner
	hash   hash.Hash
	plan   *Plan
	number int
}

func (d *decoder) next() ([]byte, error) {
	d.number++
	if d.lines.Scan() {
		return d.lines.Bytes(), nil
	}
	if err := d.lines.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

func (d *decoder) header() error {
	line, err := d.next()
	if err != nil {
		return fmt.Errorf("%w: it does not begin like a plan: %w", ErrDamaged, err)
	}
	var h planHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Freightliner != "plan" {
		return fmt.Errorf("%w: it does not begin like a plan", ErrDamaged)
	}
	if h.Version != planVersion {
		return fmt.Errorf("%w: it has version %d, this freightliner reads version %d; make the plan again", ErrVersion, h.Version, planVersion)
	}
	if err := checkDigest(h.State); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := canonical(line, h); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	d.plan.State, d.plan.Destroy = h.State, h.Destroy
	d.add(line)
	return nil
}

func (d *decoder) add(line []byte) {
	d.hash.Write(line)
	d.hash.Write([]byte{'\n'})
}

// line reads one line; done is true at the end line.
func (d *decoder) line() (done bool, err error) {
	raw, err := d.next()
	if err != nil {
		return false, err
	}
	var l planLine
	if err := json.Unmarshal(raw, &l); err != nil {
		return false, err
	}
	if err := canonical(raw, l); err != nil {
		return false, err
	}
	switch {
	case l.End != "":
		return true, d.end(l.End)
	case l.Registry != nil:
		r := l.Registry.registry()
		if err := canonical(raw, planLine{Registry: r.line()}); err != nil { // settings that set nothing
			return false, err
		}
		d.plan.Registries = append(d.plan.Registries, r)
	case l.Block != nil:
		d.plan.Blocks = append(d.plan.Blocks, *l.Block)
	case l.Action != nil:
		err = d.action(l.Action.action())
	case l.Problem != nil:
		if l.Problem.Class > providers.Canceled {
			return false, fmt.Errorf("class %d of a problem is unknown", l.Problem.Class)
		}
		d.plan.Problems = append(d.plan.Problems, *l.Problem)
	default:
		err = errors.New("the line says nothing")
	}
	d.add(raw)
	return false, err
}

// canonical refuses a line that Encode would write in another way: with members
// that are unknown, repeated, or named in another case.
func canonical(raw []byte, v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), raw) {
		return errors.New("it is not written as freightliner writes it")
	}
	return nil
}

// plausible checks that an action is one that New could have planned.
func (a *Action) plausible() error {
	kinds := []statefile.Kind{statefile.KindTree, statefile.KindImage, statefile.KindRepo, statefile.KindTag, statefile.KindReferrers, statefile.KindSecret}
	tagged := a.Kind == statefile.KindTag || a.Kind == statefile.KindImage
	switch {
	case !slices.Contains(Verbs, a.Verb):
		return fmt.Errorf("verb %s is unknown", providers.Printable(string(a.Verb), 40))
	case !slices.Contains(Causes, a.Cause):
		return fmt.Errorf("cause %s is unknown", providers.Printable(string(a.Cause), 40))
	case !slices.Contains(kinds, a.Kind):
		return fmt.Errorf("kind %s is unknown", providers.Printable(string(a.Kind), 40))
	case (a.Kind == statefile.KindSecret) != (a.Secret != nil):
		return errors.New("a secret without what is done with it")
	case a.Kind == statefile.KindSecret:
		return a.Secret.plausible(a.Verb)
	case a.Verb == Delete && (!tagged || a.Prior == "" || a.Prior != a.Observed):
		return errors.New("a delete of what is not recorded")
	case tagged && a.Verb != Delete && a.Verb != Forget && (a.Pin == "" || a.Want == ""):
		return errors.New("a copy of nothing")
	}
	return nil
}

// plausible checks that a change is one that New could have planned for verb.
func (c *SecretChange) plausible(verb Verb) error {
	var names []string
	switch {
	case c.Place == "" || c.Name == "":
		return errors.New("a secret without a place")
	case !slices.Contains([]Verb{Create, Update, Adopt, Delete, Forget}, verb):
		return fmt.Errorf("a secret does not know %s", verb)
	case verb != Forget && c.Store == "":
		return errors.New("a secret without a store")
	case verb == Delete && (c.Prior == "" || c.Expect != c.Prior && c.Expect != ""):
		return errors.New("a delete of a secret that is not recorded")
	case (verb == Create) && (!c.Write || c.Metadata == nil || c.Found), verb == Update && !c.Write && !c.Update, verb != Create && verb != Update && (c.Write || c.Update):
		return errors.New("a secret's change and its verb do not agree")
	case c.Update && c.Metadata == nil:
		return errors.New("metadata is to be changed, and there is none")
	case c.Write && !slices.Contains([]string{"value", "json", "generate", "copy"}, c.Way):
		return errors.New("a value from nowhere")
	case (c.Way == "generate") != (c.Recipe != nil), (c.Way == "copy") != (c.From != nil):
		return errors.New("a secret's value has no single source")
	case c.Recipe != nil && secret.CheckRecipe(*c.Recipe) != nil:
		return errors.New("a secret's recipe can not be followed")
	case c.Merge && c.Way != "json":
		return errors.New("only a JSON object has keys")
	case c.Drop != "" && json.Unmarshal([]byte(c.Drop), &names) != nil:
		return errors.New("keys to be dropped are no list")
	case c.Window < 0 || c.Window > 3650:
		return errors.New("a window is out of range")
	}
	return nil
}

func (d *decoder) action(a Action) error {
	if a.Block < 0 || a.Block >= len(d.plan.Blocks) {
		return fmt.Errorf("the action names block %d of %d", a.Block, len(d.plan.Blocks))
	}
	for _, need := range a.Needs {
		if need < 0 || need >= len(d.plan.Actions) {
			return fmt.Errorf("the action needs action %d, which does not come before it", need)
		}
	}
	if block := d.plan.Blocks[a.Block].Address; BlockOf(a.Address) != block {
		return fmt.Errorf("an action of %s at %s", providers.Printable(block, 200), providers.Printable(a.Address, 300))
	}
	if err := a.plausible(); err != nil {
		return err
	}
	digests := []providers.Digest{a.Pin, a.Want, a.Observed, a.Prior}
	for _, r := range a.Referrers {
		digests = append(digests, r.Digest, r.Subject)
	}
	for _, digest := range digests {
		if err := checkDigest(digest); err != nil {
			return err
		}
	}
	if a.Bytes < 0 || a.Present < 0 || a.Requests < 0 {
		return errors.New("a count is negative")
	}
	d.plan.Actions = append(d.plan.Actions, a)
	return nil
}

func (d *decoder) end(want providers.Digest) error {
	if got := providers.FromSum(d.hash.Sum(nil)); got != want {
		return fmt.Errorf("its content has digest %s, the end line says %s", got.Short(), providers.Printable(string(want), 80))
	}
	if d.lines.Scan() {
		return errors.New("there is more after the end line")
	}
	for i, block := range d.plan.Blocks {
		for _, after := range block.After {
			if after < 0 || after >= i {
				return fmt.Errorf("block %d comes after block %d, which is not before it", i, after)
			}
		}
	}
	return d.lines.Err()
}

func checkDigest(d providers.Digest) error {
	if d == "" {
		return nil
	}
	_, err := providers.ParseDigest(string(d))
	return err
}
