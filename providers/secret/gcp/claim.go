package gcp

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
)

const (
	// addPatience is the deadline of an add: the service is told it, and does
	// not begin later.
	addPatience = 15 * time.Second
	// landing is what an add may take beyond its deadline, and how far the
	// clocks of two machines may be apart.
	landing = 15 * time.Second
)

// claim is the annotation that says who writes the next version:
//
//	freightliner-write: <token> <expected number> <deadline, Unix seconds> <run>
//
// It stays after the write, and is then the record of it.
type claim struct {
	token  string
	expect int64     // the add makes expect+1
	until  time.Time // no add under this claim is sent later
	run    string    // the process
}

func (c claim) String() string {
	return fmt.Sprintf("%s %d %d %s", c.token, c.expect, c.until.Unix(), c.run)
}

// claimOf reads a secret's claim; one that is not ours to read is none.
func claimOf(sec *pb.Secret) claim {
	part := strings.Fields(sec.GetAnnotations()[annWrite])
	if len(part) != 4 {
		return claim{}
	}
	expect, err := strconv.ParseInt(part[1], 10, 64)
	until, errUntil := strconv.ParseInt(part[2], 10, 64)
	if err != nil || errUntil != nil || expect < 0 {
		return claim{}
	}
	return claim{token: part[0], expect: expect, until: time.Unix(until, 0), run: part[3]}
}

// over reports that no add under this claim can arrive any more.
func (c claim) over(now time.Time) bool { return now.After(c.until.Add(landing)) }

// covers reports whether a version of that time can come from an add under this
// claim. The service's clock is not ours.
func (c claim) covers(created time.Time) bool {
	const skew = 2 * time.Minute
	return created.IsZero() || created.After(c.until.Add(-addPatience-skew)) && created.Before(c.until.Add(landing+skew))
}
