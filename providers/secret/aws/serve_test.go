package aws_test

import (
	"net/http/httptest"
	"testing"

	"freightliner/providers/secret/secrettest/awsfake"
)

// serve puts a fake behind a real HTTP server.
func serve(t testing.TB, f *awsfake.Fake) (url string) {
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server.URL
}
