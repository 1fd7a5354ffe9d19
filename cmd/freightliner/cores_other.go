//go:build !unix

package main

// keepFromCores has nothing to do here: such systems write a dump only where an
// administrator asked for it.
func keepFromCores() {}
