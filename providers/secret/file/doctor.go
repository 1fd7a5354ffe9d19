package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// Finding is something that is not well with a store.
type Finding struct {
	Severe bool   // something can not be read, or is known to who should not
	Path   string // file, or secret
	What   string
	Hint   string
}

// Doctor looks at everything and changes nothing. The error means that it
// could not look.
func (s *Store) Doctor(ctx context.Context) ([]Finding, error) {
	const op = "examine store"
	var found []Finding
	if s.o.Home != nil {
		if b, err := readIdentity(s.o.Home, s.o.HomePath); err == nil {
			clear(b)
		} else if !errors.Is(err, fs.ErrNotExist) {
			found = append(found, Finding{true, s.homeName(), err.Error(), providers.HintOf(s.failed(op, "", err))})
		}
	}
	u, err := s.unlock(ctx)
	switch {
	case providers.ClassOf(err) == providers.Canceled:
		return nil, s.failed(op, "", err)
	case err != nil:
		err := s.failed(op, "", err)
		return append(found, Finding{true, s.in(keyFile), err.Error(), providers.HintOf(err)}), nil
	case u == nil:
		return append(found, Finding{false, s.o.Path, "there is no store yet", "Run 'freightliner secret init'."}), nil
	}
	found = append(found, s.examineKeyring(u)...)
	stray, err := StrayIdentities(ctx, s.o.FS, s.o.Path)
	if err != nil {
		return nil, s.failed(op, "", err)
	}
	for _, p := range stray {
		found = append(found, Finding{true, p, "a secret identity lies in the store's directory", "Move it away; if it was ever committed, remove the member, make a new identity and rotate the secrets."})
	}
	dirs, err := s.names(s.in(secretsDir))
	if err != nil {
		return nil, s.failed(op, "", err)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, s.failed(op, "", err)
		}
		name, ok := nameOf(dir)
		if !ok {
			found = append(found, Finding{false, s.in(secretsDir, dir), "it is not the directory of a secret", "Remove it."})
			continue
		}
		found = append(found, s.examine(u, name)...)
	}
	return found, nil
}

func (s *Store) examineKeyring(u *unlocked) (found []Finding) {
	if toml, err := disk.ReadFile(s.o.FS, s.in(storeFile), maxKeyFile); err != nil || !bytes.Equal(toml, u.render()) {
		found = append(found, Finding{false, s.in(storeFile), "it does not say what is inside " + keyFile, "The next write corrects it. If nobody was cut off while changing members, find out in git who changed it."})
	}
	if u.member(Recovery) < 0 {
		found = append(found, Finding{false, s.in(keyFile), "there is no recovery identity: if the members lose theirs, the secrets are lost", "Run 'freightliner secret init -recovery', and put what it prints into a safe."})
	}
	if slices.ContainsFunc(u.Members, func(m Member) bool { return !m.postQuantum() }) {
		found = append(found, Finding{false, s.in(keyFile), "the store's key is encrypted to classic recipients; what is in git's history could be opened by a quantum computer", "Let the members use post-quantum identities (age1pq1…)."})
	}
	if len(u.Keys) > 1 {
		found = append(found, Finding{true, s.in(keyFile), fmt.Sprintf("the removal of %s was cut off", strings.Join(u.Removed, ", ")), "The next write finishes it."})
	}
	return found
}

// examine opens every file of a secret.
func (s *Store) examine(u *unlocked, name string) (found []Finding) {
	dir := s.dir(name)
	files, err := s.names(dir)
	if err != nil {
		return []Finding{{true, dir, err.Error(), ""}}
	}
	ids := map[int]header{}
	last := 0
	slices.Sort(files)
	for _, file := range files {
		n, ok := numberOf(file)
		if !ok && file != tombstone {
			found = append(found, Finding{false, path.Join(dir, file), "it is none of the store's files", "Remove it."})
			continue
		}
		h, err := s.header(u, name, n)
		if err != nil {
			found = append(found, Finding{true, path.Join(dir, file), err.Error(), providers.HintOf(err)})
			continue
		}
		ids[n] = h
		last = max(last, n)
	}
	for n, h := range ids {
		before, there := ids[n-1]
		if n > 1 && there && h.Prev != before.id {
			found = append(found, Finding{true, path.Join(dir, fileOf(n)), fmt.Sprintf("it does not follow version %d as it is now", n-1), "One of the two was exchanged, or two branches made versions of their own: compare with git's history."})
		}
	}
	if gone, there := ids[0]; there && last > 0 && gone.Of != ids[last].id {
		found = append(found, Finding{true, path.Join(dir, tombstone), "it is the deletion of another version", "If the secret is to stay, remove this file."})
	}
	if known := ids[last].Known; last > 0 && len(known) > 0 {
		found = append(found, Finding{true, name, "its value is known to the former member " + strings.Join(known, ", "), "Rotate it."})
	}
	return found
}

// StrayIdentities are the files below dir that hold a secret identity of age.
// Of each file the first 64 KiB are searched; directories of git are not.
func StrayIdentities(ctx context.Context, fsys disk.FS, dir string) ([]string, error) {
	names, err := fsys.Names(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var found []string
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		full := path.Join(dir, name)
		info, err := fsys.Lstat(full)
		switch {
		case err != nil:
			continue // gone meanwhile
		case info.Mode.IsDir():
			if name == ".git" {
				continue
			}
			below, err := StrayIdentities(ctx, fsys, full)
			if err != nil {
				return nil, err
			}
			found = append(found, below...)
		case info.Mode.IsRegular() && hasIdentity(fsys, full):
			found = append(found, full)
		}
	}
	return found, nil
}

func hasIdentity(fsys disk.FS, name string) bool {
	const most = 64 << 10
	b, err := disk.ReadFile(fsys, name, most)
	defer clear(b)
	return err == nil && bytes.Contains(bytes.ToUpper(b), []byte("AGE-SECRET-KEY-"))
}
