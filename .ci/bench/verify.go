package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// verify compares what is below destinationPrefix of host with the corpus: the
// tags, nothing more and nothing less; every manifest byte by byte, also those
// in an index; every blob by HEAD, or every byte of it if deep. The error is the
// first difference.
func verify(ctx context.Context, host string, c *corpus, deep bool) error {
	r := dial(host)
	defer r.client.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, repo := range c.Repositories {
		group.Go(func() error { return verifyRepository(ctx, r, repo, deep) })
	}
	return group.Wait()
}

func verifyRepository(ctx context.Context, r *remote, repo repository, deep bool) error {
	name := destinationPrefix + "/" + repo.Name
	got, err := r.tags(ctx, name)
	if err != nil {
		return err
	}
	var want []string
	for _, t := range repo.Tags {
		want = append(want, t.Name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s has the tags %q, not %q", name, got, want)
	}
	seen := map[string]bool{}
	for _, t := range repo.Tags {
		if err := verifyManifest(ctx, r, name, t.Name, t.Root); err != nil {
			return err
		}
		var failed error
		t.Root.walk(func(m *manifest) {
			if failed == nil && !seen[m.digest()] {
				seen[m.digest()] = true
				failed = verifyBelow(ctx, r, name, m, seen, deep)
			}
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// verifyBelow checks a manifest by digest, and its blobs.
func verifyBelow(ctx context.Context, r *remote, name string, m *manifest, seen map[string]bool, deep bool) error {
	if err := verifyManifest(ctx, r, name, m.digest(), m); err != nil {
		return err
	}
	for _, b := range m.Blobs {
		if seen[b.Digest] {
			continue
		}
		seen[b.Digest] = true
		if err := r.blob(ctx, name, b, deep); err != nil {
			return err
		}
	}
	return nil
}

func verifyManifest(ctx context.Context, r *remote, name, reference string, want *manifest) error {
	raw, mediaType, err := r.manifest(ctx, name, reference)
	if err != nil {
		return err
	}
	if !bytes.Equal(raw, want.Raw) || mediaType != want.MediaType {
		return fmt.Errorf("%s %s is %s of type %s, not %s of type %s", name, reference, digestOf(raw), mediaType, want.digest(), want.MediaType)
	}
	return nil
}
