package registrytest

import (
	"testing"
	"time"

	"freightliner/providers/registry/embedded"
)

func directory(t testing.TB) *embedded.Directory {
	t.Helper()
	store, err := embedded.OpenDirectory(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}
