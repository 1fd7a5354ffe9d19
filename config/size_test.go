package config

import "testing"

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "50000000": 50_000_000, "20GB": 20_000_000_000, "1.5 GiB": 3 << 29, "2TiB": 2 << 40, "3 kB": 3000, "7KB": 7000, "12 B": 12, "1TB": 1e12,
		"": 0, "0": 0, "0.2": 0, "-1": 0, "GB": 0, "20gb": 0, "20GB/s": 0, "1e9": 0, "20 GB": 20_000_000_000, "20  GB": 0, "999999999999999TB": 0, "NaN": 0,
	} {
		got, ok := ParseSize(text)
		if ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d, %t; want %d", text, got, ok, want)
		}
	}
}
