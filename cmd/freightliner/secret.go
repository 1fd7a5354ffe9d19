package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

func (p *program) secretCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "secret",
		Short: "Look at, read and write secrets directly",
		Long: `Works on the secret stores of the configuration, apart from any plan. Values come
from standard input or a file, never from the command line, and are printed only
by "get -reveal". Every read and write of a value is in the audit log.`,
	})
	cmd.AddCommand(
		p.secretList(), p.secretGet(), p.secretPut(), p.secretPutJSON(), p.secretDelete(), p.secretRestore(), p.secretHistory(),
		p.secretInit(), p.secretMember(), p.secretDoctor(),
	)
	return cmd
}

// secretFlags are what all secret commands take.
type secretFlags struct {
	variableFlags
	store string
	json  bool
}

// desk is one direct command on a store.
type desk struct {
	*session
	ctx    context.Context
	config *config.Config
	store  config.SecretStore
}

// add gives a command its common flags.
func (f *secretFlags) add(cmd *cobra.Command) *cobra.Command {
	f.variableFlags.add(cmd)
	cmd.Flags().StringVar(&f.store, "store", "", "the `NAME` of the secret_store block; may be left out where there is only one")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// run loads the configuration, finds the store, and does what the command is for.
func (f *secretFlags) run(p *program, cmd *cobra.Command, kind string, do func(*desk) error) error {
	vars, err := f.variables(cmd, p.env)
	if err != nil {
		return err
	}
	s := &session{program: p, command: cmd.CommandPath(), json: f.json, out: p.stdout}
	if f.json {
		s.out = io.Discard
	}
	ctx, end := s.cancelOnSignal(cmd.Context())
	defer end()
	cfg, err := s.loadConfig(vars)
	if err != nil {
		return err
	}
	d := &desk{session: s, ctx: ctx, config: cfg}
	if d.store, err = pickStore(cfg, f.store, kind); err != nil {
		return err
	}
	err = do(d)
	if ctx.Err() != nil {
		err = errInterrupted
	}
	d.out = p.stderr // standard output is the answer's alone
	return d.endSecrets(err)
}

// pickStore finds the store that a command is about; kind is what it must be,
// empty for any.
func pickStore(cfg *config.Config, name, kind string) (config.SecretStore, error) {
	var fit []config.SecretStore
	var names []string
	for _, s := range cfg.Stores {
		if kind == "" || s.Kind == kind {
			fit, names = append(fit, s), append(names, s.Name)
		}
	}
	what := "secret_store block"
	if kind != "" {
		what += fmt.Sprintf(" of kind %q", kind)
	}
	if name == "" {
		switch len(fit) {
		case 0:
			return config.SecretStore{}, hinted(fmt.Errorf("the configuration has no %s", what), "Write one, such as: secret_store \"main\" {}")
		case 1:
			return fit[0], nil
		}
		return config.SecretStore{}, hinted(errors.New("there are several stores"), "Give -store with one of "+clean(list(names))+".")
	}
	for _, s := range fit {
		if s.Name == name {
			return s, nil
		}
	}
	hint := didYouMean("", name, names)
	if hint == "" && len(names) > 0 {
		hint = "It has " + clean(list(names)) + "."
	}
	return config.SecretStore{}, hinted(fmt.Errorf("the configuration has no %s named %s", what, quoted(name)), hint)
}

// because is the audit log's reason.
func (d *desk) because() secret.Why {
	return secret.Why{Reason: strings.TrimPrefix(d.command, "freightliner ")}
}

func (p *program) secretList() *cobra.Command {
	var f secretFlags
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List the secrets of a store, without their values",
		Args:  atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error { return d.list(strings.Join(args, "")) })
		},
	}
	return f.add(cmd)
}

// jsonInfo is a secret without its value.
type jsonInfo struct {
	Name        string            `json:"name"`
	ID          string            `json:"id,omitempty"`
	Version     string            `json:"version,omitempty"`
	Changed     *time.Time        `json:"changed,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	ManagedBy   string            `json:"managed_by,omitempty"`
	Trouble     string            `json:"trouble,omitempty"`
	Deletion    *time.Time        `json:"deletion,omitempty"`
	LastRead    *time.Time        `json:"last_read,omitempty"`
	Rotates     bool              `json:"rotates,omitempty"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	KMSKey      string            `json:"kms_key,omitempty"`
	Replicas    []secret.Replica  `json:"replicas,omitempty"`
}

func infoOf(i *secret.Info) *jsonInfo {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC().Truncate(time.Second)
		return &t
	}
	m := i.Metadata
	return &jsonInfo{
		i.Name, i.ID, i.Version, when(i.Changed), i.Owner, i.ManagedBy, i.Trouble, when(i.Deletion), when(i.LastRead), i.Rotates,
		text(m.Description), m.Labels, text(m.KMSKey), m.Replicas,
	}
}

func (d *desk) list(prefix string) error {
	var all []secret.Info
	for info, err := range d.vault.client.ListSecrets(d.ctx, d.store.Name, prefix) {
		if err != nil {
			return err // what came until then is not all, so it is not shown as if it were
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b secret.Info) int { return strings.Compare(a.Name, b.Name) })
	if d.json {
		return d.printList("secrets", len(all), func(i int) any { return infoOf(&all[i]) })
	}
	rows := [][]string{{"NAME", "VERSION", "CHANGED", "OWNER", ""}}
	for i := range all {
		rows = append(rows, []string{clean(all[i].Name), clean(shortVersion(&all[i])), moment(all[i].Changed), clean(all[i].Owner), clean(remark(&all[i]))})
	}
	d.table(rows)
	return nil
}

func shortVersion(i *secret.Info) string {
	switch {
	case i.VersionUnknown:
		return "?"
	case i.Version == "":
		return "none"
	}
	return i.Version
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// remark is what is out of the ordinary about a secret.
func remark(i *secret.Info) string {
	var parts []string
	if !i.Deletion.IsZero() {
		parts = append(parts, "will be deleted on "+i.Deletion.UTC().Format(time.DateOnly))
	}
	if i.Trouble != "" {
		parts = append(parts, i.Trouble)
	}
	if i.ManagedBy != "" {
		parts = append(parts, "managed by "+i.ManagedBy)
	}
	for _, r := range i.Metadata.Replicas {
		if strings.HasPrefix(r.Status, "failed") {
			parts = append(parts, "replica in "+r.Region+" "+r.Status)
		}
	}
	return strings.Join(parts, ", ")
}

// table prints aligned columns, the first row as their heads.
func (d *desk) table(rows [][]string) {
	widths := columnWidths(rows)
	for _, row := range rows {
		line := ""
		for c, cell := range row {
			line += pad(cell, widths[c]) + "  "
		}
		fmt.Fprintln(d.out, strings.TrimRight(line, " "))
	}
}

func (d *desk) printList(name string, n int, view func(int) any) error {
	e := &lineEncoder{w: d.stdout}
	e.object(struct {
		Format string `json:"format_version"`
		Store  string `json:"store"`
	}{planFormat, d.store.Name})
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	writeList(e, name, index, func(i *int) any { return view(*i) })
	e.raw([]byte("}\n"))
	return e.err
}

func (p *program) secretGet() *cobra.Command {
	var f secretFlags
	var version, key string
	var reveal bool
	cmd := &cobra.Command{
		Use:   "get NAME...",
		Short: "Show secrets; their values only with -reveal",
		Long: `Shows what the store tells about secrets. With -reveal it reads the value and
writes it to standard output as it is, byte for byte, which the audit log records.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return &usageError{cmd, "missing argument: the secret's name", ""}
			case len(args) > 1 && (version != "" || key != ""):
				return &usageError{cmd, "-version and -key are for one secret", ""}
			case len(args) > 1 && reveal && !f.json:
				return &usageError{cmd, "several values can only be told apart with -json", ""}
			case !reveal && (version != "" || key != ""):
				return &usageError{cmd, "-version and -key say which value: add -reveal", ""}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error {
				if reveal {
					return d.reveal(args, version, key)
				}
				return d.describe(args)
			})
		},
	}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "read the value and print it")
	cmd.Flags().StringVar(&version, "version", "", "the version `ID` (default: the current one)")
	cmd.Flags().StringVar(&key, "key", "", "only the member `KEY` of a JSON object")
	return f.add(cmd)
}

func (d *desk) describe(names []string) error {
	infos := make([]secret.Info, len(names))
	for i, name := range names {
		var err error
		if infos[i], err = d.vault.client.DescribeSecret(d.ctx, d.store.Name, name); err != nil {
			return err
		}
	}
	if d.json {
		return d.printList("secrets", len(infos), func(i int) any { return infoOf(&infos[i]) })
	}
	for i := range infos {
		if i > 0 {
			fmt.Fprintln(d.out)
		}
		d.card(&infos[i])
	}
	return nil
}

// card prints what a store tells of one secret.
func (d *desk) card(i *secret.Info) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(d.out, "%s  %s\n", pad(name, 12), clean(value))
		}
	}
	j := infoOf(i)
	line("name", j.Name)
	line("id", j.ID)
	line("version", shortVersion(i))
	line("changed", moment(i.Changed))
	line("owner", j.Owner)
	line("managed by", j.ManagedBy)
	line("trouble", j.Trouble)
	line("deletion", moment(i.Deletion))
	line("last read", moment(i.LastRead))
	line("description", j.Description)
	line("kms key", j.KMSKey)
	for _, key := range slices.Sorted(maps.Keys(j.Labels)) {
		line("label", key+" = "+j.Labels[key])
	}
	for _, r := range j.Replicas {
		line("replica", r.Region+" "+r.Status)
	}
	line("value", "hidden; -reveal prints it")
}

// reveal prints values. They go past the last net on purpose: this is the one
// command whose output is a value.
func (d *desk) reveal(names []string, version, key string) error {
	var requests []secret.Request
	for _, name := range names {
		requests = append(requests, secret.Request{Ref: secret.Ref{Name: name, Version: version}})
	}
	readings := map[string]secret.Reading{}
	err := d.vault.client.GetSecrets(d.ctx, d.because().Reason+" -reveal", d.store.Name, requests, func(_ secret.Request, r secret.Reading) {
		if r.Err == nil && key != "" {
			whole := r.Value
			if r.Value, r.Err = secret.MemberJSON(whole, key); r.Err != nil {
				r.Err = fmt.Errorf("secret %s: %w", clean(r.Ref.Name), r.Err)
			}
			whole.Zero()
		}
		readings[r.Ref.Name] = r
	})
	defer func() {
		for _, r := range readings {
			r.Value.Zero()
		}
	}()
	if err != nil {
		return err
	}
	for _, name := range names {
		if r := readings[name]; r.Err != nil {
			return r.Err
		}
	}
	plain := d.stdout.unfiltered()
	if d.json {
		return d.revealJSON(plain, names, readings)
	}
	r := readings[names[0]]
	r.Value.Use(func(b []byte) {
		_, err = plain.Write(b)
		if err == nil && d.terminal.stdout && (len(b) == 0 || b[len(b)-1] != '\n') {
			_, err = plain.Write([]byte("\n")) // for a person's prompt; a pipe gets the bytes alone
		}
	})
	return err
}

func (d *desk) revealJSON(w io.Writer, names []string, readings map[string]secret.Reading) error {
	type revealed struct {
		Name    string  `json:"name"`
		Version string  `json:"version"`
		Value   *string `json:"value,omitempty"`
		Base64  *string `json:"value_base64,omitempty"` // of a value that is no UTF-8
	}
	e := &lineEncoder{w: w}
	e.object(struct {
		Format string `json:"format_version"`
		Store  string `json:"store"`
	}{planFormat, d.store.Name})
	writeList(e, "secrets", names, func(name *string) any {
		r := readings[*name]
		one := revealed{Name: *name, Version: r.Version.ID}
		r.Value.Use(func(b []byte) {
			text := string(b)
			if utf8.Valid(b) {
				one.Value = &text
				return
			}
			text = base64.StdEncoding.EncodeToString(b)
			one.Base64 = &text
		})
		return one
	})
	e.raw([]byte("}\n"))
	return e.err
}

// valueFlags say where a value comes from.
type valueFlags struct {
	file  string
	trim  bool
	empty bool
}

func (v *valueFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&v.file, "file", "", "read the value from `FILE` instead of standard input")
	cmd.Flags().BoolVar(&v.trim, "trim", false, "drop one line break at the end of the value")
	cmd.Flags().BoolVar(&v.empty, "allow-empty", false, "take an empty value")
}

// onlyName refuses a value on the command line, and does not repeat it: messages
// end in CI logs.
func onlyName(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return &usageError{cmd, "missing argument: the secret's name", "The value comes from standard input or -file."}
	case len(args) > 1:
		return &usageError{cmd, "one argument too many, and it is not shown, since it may be the value", "The value comes from standard input or -file. If it was one, it is in the shell's history now: use another."}
	}
	return nil
}

// read gives the value: from a terminal it asks without echo.
func (v *valueFlags) read(d *desk, what string) (secret.Value, error) {
	var b []byte
	var err error
	switch {
	case v.file != "":
		if b, err = readSmallFile(v.file); err != nil {
			err = fmt.Errorf("read the value from %w", pathless(err, v.file))
		}
	case d.terminal.stdin:
		fmt.Fprintf(d.stderr, "%s (not shown): ", what)
		b, err = term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(d.stderr)
	default:
		if b, err = io.ReadAll(io.LimitReader(d.stdin, smallFile+1)); err == nil && len(b) > smallFile {
			err = errors.New("standard input has more than 1 MiB")
		}
	}
	if err != nil {
		clear(b)
		return secret.Value{}, err
	}
	if v.trim {
		b = trimLine(b)
	}
	if len(b) == 0 && !v.empty {
		return secret.Value{}, hinted(errors.New("the value is empty, and nothing was written"), "Did the command before the pipe fail? Give -allow-empty if it is meant.")
	}
	value := secret.NewValue(b)
	d.filter.Watch(value)
	return value, nil
}

func trimLine(b []byte) []byte {
	n := len(b)
	if n > 0 && b[n-1] == '\n' {
		n--
		if n > 0 && b[n-1] == '\r' {
			n--
		}
	}
	return b[:n]
}

func (p *program) secretPut() *cobra.Command {
	var f secretFlags
	var v valueFlags
	var expect string
	cmd := &cobra.Command{
		Use:   "put NAME",
		Short: "Write a value from standard input or a file",
		Long: `Makes one new version with the value from standard input or -file, byte for byte;
a secret that does not exist is made. A value on the command line would be in the
shell's history and in the list of processes, so there is no way to give one.`,
		Args: onlyName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error {
				value, err := v.read(d, "Value")
				if err != nil {
					return err
				}
				defer value.Zero()
				return d.put(args[0], value, expectation{expect, cmd.Flags().Changed("expect")}, nil, false)
			})
		},
	}
	v.add(cmd)
	cmd.Flags().StringVar(&expect, "expect", "", "write only if the current version is `ID`; empty: only if there is none")
	return f.add(cmd)
}

func (p *program) secretPutJSON() *cobra.Command {
	var f secretFlags
	var v valueFlags
	var remove []string
	var expect string
	cmd := &cobra.Command{
		Use:   "put-json NAME",
		Short: "Set keys of a secret that is a JSON object",
		Long: `Reads a JSON object from standard input or -file and sets its members in the
secret's object; members that it does not name stay as they are, and those of
-remove go. It makes one new version, on condition that nobody wrote in between.`,
		Args: onlyName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error {
				value, err := v.read(d, "JSON object")
				if err != nil {
					return err
				}
				defer value.Zero()
				if _, err := secret.JSONKeys(value); err != nil {
					return hinted(errors.New("what was read is not a JSON object, and nothing was written"), "To write a value of another form, use \"freightliner secret put\".")
				}
				return d.put(args[0], value, expectation{expect, cmd.Flags().Changed("expect")}, remove, true)
			})
		},
	}
	v.add(cmd)
	cmd.Flags().StringArrayVar(&remove, "remove", nil, "remove the member `KEY`; may be repeated")
	cmd.Flags().StringVar(&expect, "expect", "", "write only if the current version is `ID`; empty: only if there is none")
	return f.add(cmd)
}

// expectation is what -expect says.
type expectation struct {
	version string
	set     bool
}

func (d *desk) put(name string, value secret.Value, expect expectation, remove []string, merge bool) error {
	store, err := d.vault.client.Store(d.ctx, d.store.Name)
	if err != nil {
		return err
	}
	limits := store.Limits()
	if err := limits.CheckName(name); err != nil {
		return fmt.Errorf("%s can not be the name of a secret: %w", quoted(name), err)
	}
	info, err := store.Describe(d.ctx, name)
	absent := providers.ClassOf(err) == providers.NotFound
	switch {
	case absent:
	case err != nil:
		return err
	case !info.Deletion.IsZero():
		return hinted(fmt.Errorf("secret %s waits for its deletion on %s", quoted(name), info.Deletion.UTC().Format(time.DateOnly)), "Take it back first: freightliner secret restore -store "+clean(d.store.Name)+" "+clean(name))
	}
	if expect.set && expect.version != info.Version {
		return &providers.Error{Class: providers.Conflict, Op: "write secret", On: name, Err: fmt.Errorf("its current version is %s, not %s", versionOrNone(info.Version), versionOrNone(expect.version))}
	}
	w := secret.Write{Name: name, Value: value, Expect: info.Version, Owner: info.Owner}
	if absent {
		w.Create = &secret.Metadata{}
	}
	if w.Token, err = d.vault.client.NewToken(); err != nil {
		return err
	}
	var v secret.Version
	if merge {
		v, err = d.vault.client.PutJSONSecret(d.ctx, d.because(), d.store.Name, w, remove)
	} else {
		v, err = d.vault.client.PutSecret(d.ctx, d.because(), d.store.Name, w)
	}
	if err != nil {
		return err
	}
	if owner := d.managed(name); owner != "" {
		d.warn(fmt.Sprintf("%s manages this secret: the next plan shows what was just written as drift", owner))
	}
	if d.json {
		return d.printList("written", 1, func(int) any {
			return struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			}{name, v.ID}
		})
	}
	fmt.Fprintf(d.out, "Wrote version %s of %s.\n", clean(v.ID), clean(name))
	return nil
}

func versionOrNone(v string) string {
	if v == "" {
		return "none"
	}
	return clean(v)
}

func (d *desk) warn(text string) { fmt.Fprintln(d.stderr, "Warning: "+clean(text)+".") }

// managed is the address of the block that manages a secret, as the
// configuration has it; empty for none.
func (d *desk) managed(name string) string {
	for _, b := range d.config.Secrets {
		if b.Store == d.store.Name && b.Name == name {
			return b.Address
		}
	}
	return ""
}

func (p *program) secretDelete() *cobra.Command {
	var f secretFlags
	var auto, force bool
	var days int
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete secrets, so that they can be restored for a while",
		Long: `Deletes secrets as softly as their store can: AWS keeps them for 7 to 30 days, in
the file store and on GCP they are set aside for 30. -force deletes for ever, now.
A secret that the state records as protected is refused.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return &usageError{cmd, "missing argument: the secret's name", ""}
			case days < 0 || days > 3650:
				return &usageError{cmd, "flag -window: want 1 to 3650 days", ""}
			case force && days > 0:
				return &usageError{cmd, "-force leaves no -window", ""}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error {
				return d.delete(args, secret.Deletion{Window: time.Duration(days) * 24 * time.Hour, Force: force}, auto)
			})
		},
	}
	cmd.Flags().BoolVar(&auto, "auto-approve", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "delete for ever, at once")
	cmd.Flags().IntVar(&days, "window", 0, "the deletion can be taken back for `DAYS` (default: the store's own)")
	return f.add(cmd)
}

// delete asks before it deletes, and for ever only after the name was typed.
func (d *desk) delete(names []string, how secret.Deletion, auto bool) error {
	store, err := d.vault.client.Store(d.ctx, d.store.Name)
	if err != nil {
		return err
	}
	infos := make([]secret.Info, len(names))
	for i, name := range names {
		if infos[i], err = store.Describe(d.ctx, name); err != nil {
			return err
		}
		if !infos[i].Deletion.IsZero() && !how.Force {
			return fmt.Errorf("secret %s waits for its deletion on %s already", quoted(name), infos[i].Deletion.UTC().Format(time.DateOnly))
		}
		if err := d.unprotected(store.Place(), name); err != nil {
			return err
		}
	}
	if !auto {
		if err := d.askToDelete(infos, how.Force); err != nil {
			return err
		}
	}
	type gone struct {
		Name  string     `json:"name"`
		Final *time.Time `json:"final,omitempty"`
	}
	var done []gone
	for i := range infos {
		one := how
		one.Expect = infos[i].Version
		deleted, err := d.vault.client.DeleteSecret(d.ctx, d.because(), d.store.Name, infos[i].Name, one)
		if err != nil {
			return err
		}
		g := gone{Name: infos[i].Name}
		if deleted.Final.IsZero() {
			fmt.Fprintf(d.out, "Deleted %s for ever.\n", clean(g.Name))
		} else {
			g.Final = &deleted.Final
			fmt.Fprintf(d.out, "Deleted %s; until %s \"freightliner secret restore -store %s %s\" brings it back.\n",
				clean(g.Name), deleted.Final.UTC().Format(time.DateOnly), clean(d.store.Name), clean(g.Name))
		}
		done = append(done, g)
	}
	if d.json {
		return d.printList("deleted", len(done), func(i int) any { return done[i] })
	}
	return nil
}

// unprotected refuses to delete what the state says is protected.
func (d *desk) unprotected(place, name string) error {
	state, err := readState(stateName("", d.config))
	if err != nil {
		return err
	}
	for r := range state.All() {
		if r.Kind == statefile.KindSecret && r.Destination == place && r.Name == name && r.Protect {
			return &exit{exitRefused, hinted(fmt.Errorf("secret %s is protected: %s has prevent_destroy", quoted(name), clean(r.Address)),
				"Write prevent_destroy = false in its lifecycle block and apply, or drop the record with \"freightliner state rm\".")}
		}
	}
	return nil
}

func (d *desk) askToDelete(infos []secret.Info, force bool) error {
	if !d.terminal.stdin {
		return hinted(errors.New("no terminal to ask on"), "Give -auto-approve to delete without being asked.")
	}
	for i := range infos {
		note := ""
		if !infos[i].LastRead.IsZero() {
			note = ", last read on " + infos[i].LastRead.UTC().Format(time.DateOnly)
		}
		fmt.Fprintf(d.stderr, "  %s (version %s%s)\n", clean(infos[i].Name), clean(shortVersion(&infos[i])), note)
	}
	want := "yes"
	question := "Do you want to delete " + plural(len(infos), "secret") + "? Only 'yes' is accepted: "
	if force {
		want = infos[0].Name
		question = "This is for ever. Type the name of the first one to go on: "
	}
	line, err := d.askLine(question)
	if err != nil {
		return err
	}
	if line != want {
		return &exit{exitError, errors.New("delete cancelled; nothing was changed")}
	}
	return nil
}

func (p *program) secretRestore() *cobra.Command {
	var f secretFlags
	cmd := &cobra.Command{
		Use:   "restore NAME",
		Short: "Take a deletion back",
		Args:  exactly(1, "the secret's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error {
				if err := d.vault.client.RestoreSecret(d.ctx, d.because(), d.store.Name, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(d.out, "Restored %s.\n", clean(args[0]))
				if d.json {
					return d.printList("restored", 1, func(int) any { return args[0] })
				}
				return nil
			})
		},
	}
	return f.add(cmd)
}

func (p *program) secretHistory() *cobra.Command {
	var f secretFlags
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "List the versions of a secret, newest first",
		Args:  exactly(1, "the secret's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(p, cmd, "", func(d *desk) error { return d.history(args[0]) })
		},
	}
	return f.add(cmd)
}

func (d *desk) history(name string) error {
	versions, err := d.vault.client.History(d.ctx, d.store.Name, name)
	if err != nil {
		return err
	}
	if d.json {
		return d.printList("versions", len(versions), func(i int) any {
			v := &versions[i]
			created := (*time.Time)(nil)
			if !v.Created.IsZero() {
				created = &v.Created
			}
			return struct {
				Version string              `json:"version"`
				State   secret.VersionState `json:"state"`
				Created *time.Time          `json:"created,omitempty"`
				Labels  []string            `json:"labels,omitempty"`
			}{v.ID, v.State, created, v.Labels}
		})
	}
	rows := [][]string{{"VERSION", "STATE", "CREATED", "LABELS"}}
	for _, v := range versions {
		rows = append(rows, []string{clean(v.ID), clean(string(v.State)), moment(v.Created), clean(strings.Join(v.Labels, ", "))})
	}
	d.table(rows)
	return nil
}

// askLine asks a person for one line.
func (d *desk) askLine(question string) (string, error) {
	fmt.Fprint(d.stderr, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(d.stdin).ReadString('\n')
		answer <- strings.TrimRight(line, "\r\n")
	}()
	select {
	case <-d.ctx.Done():
		fmt.Fprintln(d.stderr)
		return "", errInterrupted
	case line := <-answer:
		return line, nil
	}
}
