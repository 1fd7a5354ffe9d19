package main

import (
	"maps"
	"slices"
	"strings"

	"freightliner/providers/registry"
)

// wireCounts are the numbers of one registry, of the whole command: what an apply
// reads to make its plan is among them. docs/events.md says what each counts.
type wireCounts struct {
	Retries   int64 `json:"retries"`
	Throttled int64 `json:"throttled"`
	Mismatch  int64 `json:"mismatched"`
	Received  int64 `json:"bytes_received"`
	Sent      int64 `json:"bytes_sent"`
	Mounted   int64 `json:"bytes_mounted"`
	Present   int64 `json:"bytes_present"`
	Resumed   int64 `json:"bytes_resumed"`
	Spooled   int64 `json:"bytes_spooled"`
}

// wireReport is what really went to one registry, for the summary and the report.
type wireReport struct {
	Requests map[string]int64 `json:"requests"` // by method and endpoint
	wireCounts
}

// wireProgress is the same in the events of every second: numbers alone.
type wireProgress struct {
	Requests int64 `json:"requests"`
	wireCounts
}

func wireOf(c registry.Counters) wireCounts {
	return wireCounts{c.Retries, c.Throttled, c.Mismatched, c.BytesReceived, c.BytesSent, c.Mounted, c.Present, c.Resumed, c.Spooled}
}

func requestsOf(c registry.Counters) (n int64) {
	for _, of := range c.Requests {
		n += of
	}
	return n
}

// counters are those of the client of this run so far, by host; none before there
// is a client. There are as many as hosts that the configuration names.
func (s *session) counters() map[string]registry.Counters {
	if s.stats == nil {
		return nil
	}
	return s.stats()
}

func (s *session) wireReports() map[string]wireReport {
	out := map[string]wireReport{}
	for host, c := range s.counters() {
		out[host] = wireReport{c.Requests, wireOf(c)}
	}
	return out
}

func (s *session) wireProgress() map[string]wireProgress {
	out := map[string]wireProgress{}
	for host, c := range s.counters() {
		out[host] = wireProgress{requestsOf(c), wireOf(c)}
	}
	return out
}

// mostHosts is how many registries the conclusion tells of.
const mostHosts = 10

// wireLines are one line for each registry that was sent a request, by host, and
// how many more there are.
func wireLines(counters map[string]registry.Counters) (lines []string, more int) {
	for _, host := range slices.Sorted(maps.Keys(counters)) {
		c := counters[host]
		if requestsOf(c) == 0 {
			continue
		}
		if len(lines) == mostHosts {
			more++
			continue
		}
		lines = append(lines, clean(host)+": "+wirePhrase(c))
	}
	return lines, more
}

// wirePhrase is "2,744 requests, 1.3 GB sent, 240.0 MB mounted, 3 retries": what
// is zero is left out.
func wirePhrase(c registry.Counters) string {
	parts := []string{plural(int(requestsOf(c)), "request")}
	for _, part := range []struct {
		n    int64
		word string
	}{{c.BytesSent, "sent"}, {c.BytesReceived, "received"}, {c.Mounted, "mounted"}, {c.Present, "there already"}, {c.Resumed, "resumed"}, {c.Spooled, "from the spool"}} {
		if part.n > 0 {
			parts = append(parts, size(part.n)+" "+part.word)
		}
	}
	if c.Retries > 0 {
		parts = append(parts, plural(int(c.Retries), "retry"))
	}
	if c.Throttled > 0 {
		parts = append(parts, count(int(c.Throttled))+" throttled")
	}
	if c.Mismatched > 0 {
		parts = append(parts, count(int(c.Mismatched))+" with wrong content")
	}
	return strings.Join(parts, ", ")
}
