package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"freightliner/providers"
	"freightliner/providers/secret/file"
)

// Commands on the file store itself: who can open it, and is it well.

func (p *program) secretInit() *cobra.Command {
	var f secretFlags
	var recovery bool
	var name string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a file store, an identity and a recovery key",
		Long: `Makes the file store of the configuration and, if you have none, your age identity.
The first write would do the same; init also makes a recovery identity, which is
printed once and is nowhere else: put it on paper, in a safe. With -recovery on a
store that exists it makes a new recovery identity, and the old one opens it no more.
On a store of somebody else it makes your identity, and says how you are let in.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(p, cmd, "file", func(d *desk) error {
				return d.initStore(name, recovery, recovery && cmd.Flags().Changed("recovery"))
			})
		},
	}
	cmd.Flags().BoolVar(&recovery, "recovery", true, "make a recovery identity and print it")
	cmd.Flags().StringVar(&name, "name", "", "your `NAME` among the members (default: the user's)")
	return f.add(cmd)
}

func (d *desk) initStore(name string, recovery, renew bool) error {
	store, err := d.openFileStore(d.store)
	if err != nil {
		return err
	}
	if name == "" {
		name = memberName(d.who())
	}
	if d.json && recovery {
		return hinted(errors.New("a recovery identity is printed for people only, and would be lost here"), "Leave -json out, or give -recovery=false.")
	}
	made, err := store.Init(d.ctx, file.InitOptions{Member: name, Recovery: recovery})
	switch {
	case providers.ClassOf(err) != providers.Conflict:
	case renew:
		return d.newRecovery(store)
	default:
		return d.newcomer(store, name, err)
	}
	if err != nil {
		return err
	}
	defer made.Recovery.Zero()
	if d.json {
		return d.printList("members", len(made.Members), func(i int) any { return made.Members[i] })
	}
	fmt.Fprintf(d.out, "Made the store %s in %s.\n", clean(made.Store), clean(d.store.Path))
	if made.NewIdentity != "" {
		fmt.Fprintf(d.out, "Made your identity in %s: without it, or the recovery identity, nobody opens the store.\n", clean(made.NewIdentity))
	}
	d.printRecovery(made.Recovery.Set(), made.Recovery.Use)
	return nil
}

// newcomer makes an identity for somebody who comes to a store that is there and
// has none, and tells what a member has to do; for anybody else there is nothing
// to make.
func (d *desk) newcomer(store *file.Store, name string, there error) error {
	recipient, made, err := store.Recipient(d.ctx)
	if err != nil || made == "" {
		return there
	}
	if d.json {
		return d.printList("newcomers", 1, func(int) any { return file.Member{Name: name, Recipient: recipient} })
	}
	fmt.Fprintf(d.out, "The store in %s is there already. Made your identity in %s.\n", clean(d.store.Path), clean(made))
	fmt.Fprintf(d.out, "To be let in, ask a member to run this and to commit:\n\n    freightliner secret member add %s %s\n", clean(name), clean(recipient))
	return nil
}

// newRecovery replaces the recovery identity of a store that exists.
func (d *desk) newRecovery(store *file.Store) error {
	value, err := store.NewRecovery(d.ctx)
	if err != nil {
		return err
	}
	defer value.Zero()
	fmt.Fprintln(d.out, "Made a new recovery identity; an older one opens the store no more.")
	d.printRecovery(value.Set(), value.Use)
	return nil
}

// printRecovery prints the recovery identity, past the last net: it is meant to
// be seen, this once.
func (d *desk) printRecovery(set bool, use func(func([]byte))) {
	if !set {
		return
	}
	fmt.Fprint(d.out, "\nRecovery identity. It opens every secret of this store. It is shown only now: write it\ndown and lock it away, outside of this repository.\n\n    ")
	use(func(b []byte) { d.stdout.unfiltered().Write(b) })
	fmt.Fprint(d.out, "\n\n")
}

// memberName makes a member's name out of a user's.
func memberName(user string) string {
	out := []byte(user)
	for i, c := range out {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '@' {
			out[i] = '-'
		}
	}
	return string(out)
}

func (p *program) secretMember() *cobra.Command {
	cmd := group(&cobra.Command{Use: "member", Short: "Who can open a file store"})
	var f, g, h secretFlags
	list := &cobra.Command{
		Use: "list", Short: "List the members of a file store", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(p, cmd, "file", (*desk).members) },
	}
	add := &cobra.Command{
		Use: "add NAME RECIPIENT", Short: "Let one more open the store",
		Long: `Encrypts the store's key to one more age recipient (age1…, as "age-keygen -y" prints
it; a hybrid, post-quantum one by default). The secrets themselves do not change.`,
		Args: exactly(2, "the member's name and age recipient"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.run(p, cmd, "file", func(d *desk) error { return d.addMember(args[0], args[1]) })
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Take a member's access, and say what stays known",
		Long: `Makes a new key for the store and encrypts every secret again, for the members that
are left. What the former member read, or has in an old clone, stays known: the
secrets are listed, and "doctor" lists them until each has a new value.`,
		Args: exactly(1, "the member's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(p, cmd, "file", func(d *desk) error { return d.removeMember(args[0]) })
		},
	}
	cmd.AddCommand(f.add(list), g.add(add), h.add(remove))
	return cmd
}

func (d *desk) members() error {
	store, err := d.openFileStore(d.store)
	if err != nil {
		return err
	}
	m, err := store.Members(d.ctx)
	if err != nil {
		return err
	}
	if d.json {
		return d.printList("members", len(m.Members), func(i int) any { return m.Members[i] })
	}
	rows := [][]string{{"NAME", "RECIPIENT", ""}}
	for _, one := range m.Members {
		recipient, me := one.Recipient, ""
		if len(recipient) > 40 {
			recipient = recipient[:40] + "…"
		}
		if one.Name == m.Me {
			me = "you"
		}
		rows = append(rows, []string{clean(one.Name), clean(recipient), me})
	}
	d.table(rows)
	return nil
}

func (d *desk) addMember(name, recipient string) error {
	store, err := d.openFileStore(d.store)
	if err != nil {
		return err
	}
	if err := store.AddMember(d.ctx, file.Member{Name: name, Recipient: recipient}); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%s can open the store now. Commit %s.\n", clean(name), clean(d.store.Path))
	if d.json {
		return d.printList("added", 1, func(int) any { return name })
	}
	return nil
}

func (d *desk) removeMember(name string) error {
	store, err := d.openFileStore(d.store)
	if err != nil {
		return err
	}
	known, err := store.RemoveMember(d.ctx, name)
	if err != nil {
		return err
	}
	if d.json {
		return d.printList("known_to_former_member", len(known), func(i int) any { return known[i] })
	}
	fmt.Fprintf(d.out, "%s can not open the store any more. Commit %s.\n", clean(name), clean(d.store.Path))
	if len(known) > 0 {
		fmt.Fprintf(d.out, "\nWhat was readable until now stays known. Give these a new value:\n")
		for _, secret := range known {
			fmt.Fprintf(d.out, "  %s\n", clean(secret))
		}
	}
	return nil
}

func (p *program) secretDoctor() *cobra.Command {
	var f secretFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine a file store",
		Long: `Looks at every file of the store, at its members and at your identity, and says what
is not well. It changes nothing. Exit code 1: something severe.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(p, cmd, "file", (*desk).doctor) },
	}
	return f.add(cmd)
}

func (d *desk) doctor() error {
	store, err := d.openFileStore(d.store)
	if err != nil {
		return err
	}
	found, err := store.Doctor(d.ctx)
	if err != nil {
		return err
	}
	severe := false
	for _, f := range found {
		severe = severe || f.Severe
		word := "note"
		if f.Severe {
			word = "severe"
		}
		fmt.Fprintf(d.out, "%s: %s: %s\n", word, clean(f.Path), clean(f.What))
		if f.Hint != "" {
			fmt.Fprintf(d.out, "  %s\n", clean(f.Hint))
		}
	}
	if len(found) == 0 {
		fmt.Fprintln(d.out, "The store is well.")
	}
	if d.json {
		err = d.printList("findings", len(found), func(i int) any {
			return struct {
				Severe bool   `json:"severe"`
				Path   string `json:"path"`
				What   string `json:"what"`
				Hint   string `json:"hint,omitempty"`
			}{found[i].Severe, found[i].Path, found[i].What, found[i].Hint}
		})
	}
	if err == nil && severe {
		return &exit{code: exitError}
	}
	return err
}
