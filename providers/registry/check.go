package registry

import (
	"context"
	"errors"
	"io"

	"freightliner/providers"
)

// CheckBlob finds out whether d is in repo: by asking for it, or, when deep,
// by reading and hashing every byte. moved is told about bytes as they are read;
// nil for nobody.
//
// Errors: NotFound when it is not there; Conflict when its length or digest is
// another; otherwise as everywhere.
func (c *Client) CheckBlob(ctx context.Context, repo providers.Repository, d providers.Descriptor, deep bool, moved func(n int)) error {
	r, err := c.at("check blob", repo, string(d.Digest))
	if err != nil {
		return err
	}
	if deep && d.Size > 0 {
		return c.readBlob(ctx, r, repo, d, moved)
	}
	there, err := c.headBlob(ctx, r, repo, d.Digest, pull)
	if err == nil && !there {
		err = &providers.Error{Class: providers.NotFound, Op: "check blob", On: repo.At(d.Digest), Err: errors.New("the registry does not have it")}
	}
	return err
}

func (c *Client) readBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Descriptor, moved func(n int)) error {
	release, err := r.gate.enter(ctx, pass{actions: []action{pulls}, slots: 1})
	if err != nil {
		return err
	}
	defer release()
	content, err := c.getBlob(ctx, r, repo, d, 0, 0)
	if err != nil {
		return err
	}
	defer content.Close()
	v, err := newVerified(content, d, mark{}, nil)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(counting{moved}, v, make([]byte, 256<<10))
	return err
}

// counting throws bytes away and says how many they were.
type counting struct{ moved func(n int) }

func (c counting) Write(p []byte) (int, error) {
	if c.moved != nil {
		c.moved(len(p))
	}
	return len(p), nil
}
