package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
)

func TestFilterFindsEveryForm(t *testing.T) {
	payloads := []string{"hunter2-needle", `quo"te%per<cent>&`, "line-one-x\nline-two-y\n", "\x00\x01binary\xff\xfe\xfd", "日本語のパスワード"}
	var f Filter
	for _, payload := range payloads {
		end := f.Watch(NewValue([]byte(payload)))
		quoted, _ := json.Marshal(payload)
		forms := []string{payload, hex.EncodeToString([]byte(payload)), url.QueryEscape(payload), html.EscapeString(payload), string(quoted[1 : len(quoted)-1])}
		for shift := range 3 {
			text := strings.Repeat("a", shift) + payload + "tail"
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(text)), base64.URLEncoding.EncodeToString([]byte(text)))
		}
		for _, form := range forms {
			got := string(f.Clean([]byte("before " + form + " after")))
			if !strings.Contains(got, hidden) || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
				t.Errorf("%q passed: %q", form, got)
			}
		}
		for line := range strings.Lines(payload) {
			if got := string(f.Clean([]byte("x" + line))); strings.Contains(got, strings.TrimSpace(line)) {
				t.Errorf("a line passed: %q", got)
			}
		}
		end()
		end()
		if got := string(f.Clean([]byte(payload))); got != payload {
			t.Errorf("after the watch: %q", got)
		}
	}
	if len(f.starts) != 0 {
		t.Error("something is watched still")
	}
}

func TestFilterLeavesTheRest(t *testing.T) {
	var f Filter
	text := []byte("a plain line of output\n")
	if got := f.Clean(text); &got[0] != &text[0] {
		t.Error("an empty filter copies")
	}
	defer f.Watch(NewValue([]byte("short")))()
	defer f.Watch(NewValue([]byte("something else")))()
	if got := f.Clean(text); &got[0] != &text[0] {
		t.Error("output without payloads is copied")
	}
	if got := f.Clean([]byte("in short, something else and something else")); string(got) != "in short, (sensitive) and (sensitive)" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkFilter(b *testing.B) {
	var f Filter
	for i := range 2000 {
		f.Watch(NewValue(fmt.Appendf(nil, "payload number %d of many", i)))
	}
	line := []byte(strings.Repeat("2026-11-27 info applying tree.platform/team/api:1.2\n", 20))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		f.Clean(line)
	}
}
