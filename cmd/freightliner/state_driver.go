package main

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freightliner/config"
)

func (p *program) stateMergeDriver() *cobra.Command {
	var f stateFlags
	var resolve string
	cmd := &cobra.Command{
		Use:   "merge-driver BASE OURS THEIRS [SIZE [PATH]]",
		Short: "Merge the state for git (git config merge.freightliner.driver)",
		Long: `What git runs to merge a state, once "freightliner init -merge-driver" told you the
configuration for it: git hands over %O %A %B %L %P. The merge is by record; the
result goes into OURS. With conflicts the exit code is 1, and each conflict stands
between markers; whichever side of each you keep, the file is valid.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return &usageError{cmd, "missing argument: git hands over %O %A %B %L %P", ""}
			}
			return atMost(5)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkResolve(cmd, resolve); err != nil {
				return err
			}
			d, err := newDriver(cmd, args)
			if err != nil {
				return err
			}
			return d.run(p, cmd, &f, resolve)
		},
	}
	cmd.Flags().StringVar(&resolve, "resolve", "", "settle conflicts by `HOW`: live, ours or theirs")
	return f.add(cmd, true)
}

// driver is one merge for git.
type driver struct {
	base, ours, theirs string // absolute
	markers            int    // how many characters a conflict marker has
	path               string // of the state in the work tree, for people
}

// newDriver reads git's arguments and goes to the state's directory, where its
// configuration is.
func newDriver(cmd *cobra.Command, args []string) (*driver, error) {
	d := &driver{markers: 7, path: config.DefaultState}
	for i, into := range []*string{&d.base, &d.ours, &d.theirs} {
		full, err := filepath.Abs(args[i])
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", clean(args[i]), err)
		}
		*into = full
	}
	if len(args) > 3 {
		n, err := strconv.Atoi(args[3])
		if err != nil || n < 1 || n > 1000 {
			return nil, &usageError{cmd, "the marker size must be a number from 1 to 1000, not " + quoted(args[3]), ""}
		}
		d.markers = max(n, d.markers) // fewer would not be known as markers by readers
	}
	if len(args) > 4 {
		d.path = args[4]
		if err := os.Chdir(filepath.Dir(d.path)); err != nil {
			return nil, fmt.Errorf("change to the directory of %s: %w", clean(d.path), err)
		}
	}
	return d, nil
}

func (d *driver) run(p *program, cmd *cobra.Command, f *stateFlags, resolve string) error {
	m, err := readMerging([]string{d.base, d.ours, d.theirs}, d.path)
	if err == nil {
		err = m.decide(p, cmd, f, resolve)
	}
	if err != nil {
		return d.wholeConflict(p, err)
	}
	for _, note := range m.notes {
		fmt.Fprintln(p.stderr, clean(note))
	}
	if len(m.conflicts) == 0 {
		return writeFile(d.ours, private, true, m.merged.WriteCanonical)
	}
	if err := d.writeConflicts(m); err != nil {
		return d.wholeConflict(p, err)
	}
	fmt.Fprintf(p.stderr, "%s: %s changed on both sides, in different ways:\n", clean(d.path), plural(len(m.conflicts), "record"))
	writeConflicts(p.stderr, m.conflicts)
	fmt.Fprint(p.stderr, "Let the destinations decide with \"freightliner state merge -resolve=live\" (or ours, or\ntheirs), or keep one side of each conflict by hand; then \"git add\" it.\n")
	return &exit{code: exitError}
}

// wholeConflict is for sides that can not be merged by record: one conflict with
// all of both. Leaving ours as it is would look like a merge that went well, and
// what theirs says would be lost at the next commit.
func (d *driver) wholeConflict(p *program, why error) error {
	p.tell(why)
	ours, err := os.ReadFile(d.ours)
	if err != nil {
		return &exit{exitError, fmt.Errorf("read %w", pathless(err, d.ours))}
	}
	theirs, err := os.ReadFile(d.theirs)
	if err != nil {
		return &exit{exitError, fmt.Errorf("read %w", pathless(err, d.theirs))}
	}
	err = writeFile(d.ours, private, true, func(w io.Writer) error {
		_, err := io.WriteString(w, d.hunk(string(ours), string(theirs)))
		return err
	})
	if err != nil {
		return &exit{exitError, err}
	}
	fmt.Fprintf(p.stderr, "%s could not be merged by record; both sides are in it, between markers. Keep one with \"git checkout --ours\"\nor \"git checkout --theirs\", and run \"freightliner state verify\".\n", clean(d.path))
	return &exit{code: exitError}
}

func (d *driver) hunk(ours, theirs string) string {
	mark := func(c string) string { return strings.Repeat(c, d.markers) }
	return mark("<") + " ours\n" + ended(ours) + mark("=") + "\n" + ended(theirs) + mark(">") + " theirs\n"
}

func ended(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// writeConflicts writes what is merged, with the conflicts between markers.
//
// The two files in which every conflict is decided for ours, and for theirs, are
// valid. They are walked side by side. A line names the address before it, so a
// record that one side lacks makes the next line differ too, and that belongs to
// the same conflict. A conflict ends where both sides come from the same address
// again: what follows then fits either, and each conflict can be decided by itself.
func (d *driver) writeConflicts(m *merging) error {
	ours, err := decided(m, "ours")
	if err != nil {
		return err
	}
	theirs, err := decided(m, "theirs")
	if err != nil {
		return err
	}
	defer ours.stop()
	defer theirs.stop()
	return writeFile(d.ours, private, true, func(w io.Writer) error {
		var left, right strings.Builder
		for ours.more || theirs.more {
			a, b := ours, theirs
			takeA := a.more && (!b.more || a.compare(b) <= 0)
			takeB := b.more && (!a.more || b.compare(a) <= 0)
			if takeA && takeB && left.Len() == 0 && right.Len() == 0 && a.line == b.line {
				if _, err := io.WriteString(w, a.line); err != nil {
					return err
				}
				a.advance()
				b.advance()
				continue
			}
			if takeA {
				left.WriteString(a.line)
				a.advance()
			}
			if takeB {
				right.WriteString(b.line)
				b.advance()
			}
			if takeA && takeB {
				if _, err := io.WriteString(w, d.hunk(left.String(), right.String())); err != nil {
					return err
				}
				left.Reset()
				right.Reset()
			}
		}
		return nil
	})
}

// decidedFile walks a canonical state line by line with the address of each.
type decidedFile struct {
	text      []byte
	addresses func() (string, bool)
	stop      func()

	line    string
	address string // empty for the header
	last    bool   // the end line, which sorts behind every address
	started bool
	more    bool
}

func decided(m *merging, side string) (*decidedFile, error) {
	state, _, err := m.try(takeSide(side))
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := state.WriteCanonical(&text); err != nil {
		return nil, err
	}
	f := &decidedFile{text: text.Bytes(), more: true}
	f.addresses, f.stop = iter.Pull(func(yield func(string) bool) {
		for r := range state.All() {
			if !yield(r.Address) {
				return
			}
		}
	})
	f.advance()
	return f, nil
}

func (f *decidedFile) advance() {
	if len(f.text) == 0 {
		f.more, f.line = false, ""
		return
	}
	end := bytes.IndexByte(f.text, '\n') + 1
	f.line, f.text = string(f.text[:end]), f.text[end:]
	if !f.started {
		f.started = true
		return
	}
	address, ok := f.addresses()
	f.address, f.last = address, !ok
}

func (f *decidedFile) compare(other *decidedFile) int {
	switch {
	case f.last != other.last:
		if f.last {
			return 1
		}
		return -1
	case f.last:
		return 0
	}
	return strings.Compare(f.address, other.address)
}
