package acr

import (
	"encoding/base64"
	"testing"
	"time"
)

func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// A refresh token ends when it says, as far as that can be: else in three hours.
func TestExpiry(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for token, want := range map[string]time.Duration{
		jwt(`{"exp":1003600}`):    time.Hour,
		jwt(`{"exp":999999}`):     3 * time.Hour, // past
		jwt(`{"exp":1000000000}`): 3 * time.Hour, // beyond belief
		jwt(`{"exp":"soon"}`):     3 * time.Hour,
		jwt(`{`):                  3 * time.Hour,
		"opaque":                  3 * time.Hour,
		"a.*.c":                   3 * time.Hour,
	} {
		if got := expiry(token, now).Sub(now); got != want {
			t.Errorf("%s: %s, want %s", token, got, want)
		}
	}
}

func FuzzExpiry(f *testing.F) {
	f.Add(jwt(`{"exp":1003600}`))
	f.Add("a.b.c")
	now := time.Unix(1_000_000, 0)
	f.Fuzz(func(t *testing.T, token string) {
		if life := expiry(token, now).Sub(now); life <= 0 || life > 24*time.Hour {
			t.Errorf("%q lives %s", token, life)
		}
	})
}
