//go:build !linux

package main

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// readonly DIR: nobody can write there.
func (w *world) readOnly(ts *testscript.TestScript, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.Chmod(dir, 0o500))
	ts.Defer(func() { os.Chmod(dir, 0o700) })
}

// fulldisk DIR is for Linux; see mayMount.
func (w *world) fullDisk(ts *testscript.TestScript, args []string) {
	ts.Fatalf("no full disk on this system; guard the line with [root]")
}

// mayMount is false: there is nothing to mount here.
func mayMount() bool { return false }
