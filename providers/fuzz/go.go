//go:build !fuzzengine

package fuzz

import "testing"

// Run fuzzes property, a function as F.Fuzz wants it, or tries it on the seeds.
func Run(f *testing.F, property any) {
	f.Helper()
	f.Fuzz(property)
}
