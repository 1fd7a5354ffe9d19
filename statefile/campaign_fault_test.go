package statefile_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// errnos are what file operations fail with.
var errnos = []syscall.Errno{
	syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT, syscall.EMFILE, syscall.EACCES, syscall.EINTR,
}

// TestCampaignFaults runs random jobs and fails each of their file operations,
// once and for ever, with every errno, and writes also after half of their
// bytes. The run says which error it was; the state is an old or a new one and
// opens; what was acknowledged is in it, or in the place that the error names;
// a run without the fault gets to the desired state.
func TestCampaignFaults(t *testing.T) {
	started := time.Now()
	var cases, silent atomic.Int64
	verbs := map[string]*atomic.Int64{}
	for _, verb := range strings.Fields("open create read write truncate chmod sync lock stat close lstat rename link remove mkdir names syncdir") {
		verbs[verb] = &atomic.Int64{}
	}
	jobs := sized(3, 60)
	seeded(t, jobs*len(errnos)*4, func(seed uint64) error {
		n := int(seed - *campaignSeed)
		errno := errnos[n/4%len(errnos)]
		always, short := n%2 == 1, n/2%2 == 1
		r := rand.New(rand.NewPCG(*campaignSeed+uint64(n/4/len(errnos)), 23))
		start := map[string]Record{}
		for range r.IntN(6) {
			rec := tag(fmt.Sprintf("app-%d:v%d", r.IntN(3), r.IntN(5)), r.IntN(9))
			start[rec.Address] = rec
		}
		b, how := randomJob(r, start), n/4/len(errnos)%3
		for at := 1; ; at++ {
			d := faultStart(how, start)
			fault := statefiletest.Fault{At: at, Err: errno, Always: always, Short: short}
			reached, verb, said, err := b.withFault(d, start, &fault)
			if err != nil {
				return fmt.Errorf("%+v at a %s: %w", fault, verb, err)
			}
			if !reached {
				return nil
			}
			cases.Add(1)
			if said == nil {
				silent.Add(1)
			}
			verbs[verb].Add(1)
		}
	})
	var per []string
	for verb, n := range verbs {
		if n.Load() == 0 && !*campaignOnly {
			t.Errorf("no %s ever failed", verb)
		}
		per = append(per, fmt.Sprintf("%s %d", verb, n.Load()))
	}
	told(t, started, cases.Load(), "0 bad; %s; %d were no error to the run (no room set aside, no backup kept, a close after everything was durable)", strings.Join(per, ", "), silent.Load())
}

// faultStart is a disk on which a run begins: a canonical state with a wide
// mode; what a crash left, with a journal, a torn tail, a temporary file and a
// second name.
func faultStart(how int, start map[string]Record) *statefiletest.Disk {
	d := statefiletest.New()
	switch how {
	case 0:
		d.Put(file, mustBuild(start), 0o600)
	case 1:
		d.Put(file, mustBuild(start), 0o644)
		must(d.Mkdir(".freightliner", 0o700))
	case 2:
		d.Put(file, append(mustBuild(start), 0), 0o600)
		must(d.Mkdir(".freightliner", 0o700))
		d.Put("."+file+".tmp-0123456789abcdef", []byte("x"), 0o600)
		must(d.Link(file, ".freightliner/"+file+".bak"))
	}
	return d.Clone()
}

// withFault does one run with one fault and reports whether it was reached, and
// by what operation, and what the run said.
func (b *job) withFault(d *statefiletest.Disk, start map[string]Record, fault *statefiletest.Fault) (reached bool, verb string, said, wrong error) {
	elsewhere, printed := statefiletest.New(), &bytes.Buffer{}
	b.options = Options{Emergency: &Place{FS: elsewhere, Path: "emergency.state"}, LastResort: printed}
	defer func() { b.options = Options{} }()
	w := &watch{}
	ops := d.Ops()
	d.Fail(fault)
	err := b.run(d, &clock{}, map[string]int{}, w.acknowledged)
	said = err
	d.Fail(nil)
	for _, op := range d.Trace()[ops:] {
		if errors.Is(op.Err, fault.Err) {
			verb = op.Verb
			break
		}
	}
	if verb == "" {
		return false, "", nil, err
	}
	s, readErr := Read(d, file)
	if readErr != nil {
		return true, verb, err, fmt.Errorf("the state does not open: %w", readErr)
	}
	has := byAddress(s)
	for address, is := range has {
		if is != b.desired[address] && is != start[address] {
			return true, verb, err, fmt.Errorf("%s is neither old nor new: %v", address, is)
		}
	}
	switch {
	case err == nil && !maps.Equal(b.desired, has):
		return true, verb, err, fmt.Errorf("success, and the state is not the desired one")
	case err != nil && !errors.Is(err, fault.Err):
		return true, verb, err, fmt.Errorf("the error does not say what happened: %w", err)
	case err != nil && !strings.Contains(err.Error(), file) && !strings.Contains(err.Error(), "lock"):
		return true, verb, err, fmt.Errorf("the error does not say where: %w", err)
	}
	if !b.somewhere(w, d, elsewhere, printed) {
		return true, verb, err, fmt.Errorf("acknowledged work is nowhere; the run said: %w", err)
	}
	if err := b.run(d, &clock{}, map[string]int{}, func(string, bool) {}); err != nil {
		return true, verb, err, fmt.Errorf("the run after the fault: %w", err)
	}
	if s, err := Read(d, file); err != nil || !maps.Equal(b.desired, byAddress(s)) {
		return true, verb, err, fmt.Errorf("the run after the fault did not get there: %v", err)
	}
	return true, verb, said, nil
}

// somewhere reports whether one of the places that a state is saved to has
// everything that the journal acknowledged.
func (b *job) somewhere(w *watch, d, elsewhere *statefiletest.Disk, printed *bytes.Buffer) bool {
	texts := [][]byte{d.Bytes(file), elsewhere.Bytes("emergency.state"), printed.Bytes()}
	for _, name := range d.Files() {
		if strings.HasPrefix(name, file+".saved-") {
			texts = append(texts, d.Bytes(name))
		}
	}
	for _, text := range texts {
		s, err := Parse(text)
		if err != nil {
			continue
		}
		all := true
		for _, address := range w.done {
			is, has := s.Lookup(address)
			want, wanted := b.desired[address]
			all = all && has == wanted && is == want
		}
		if all {
			return true
		}
	}
	return false
}
