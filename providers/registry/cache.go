package registry

import (
	"container/list"
	"context"
	"sync"

	"freightliner/providers"
)

// manifestCache keeps manifests by digest, the least recently used go first. A
// digest names its bytes, so nothing here can be stale or belong to the wrong
// repository.
type manifestCache struct {
	mu    sync.Mutex
	limit int64
	used  int64
	order *list.List // of *Manifest, most recent first
	byKey map[providers.Digest]*list.Element
	asked map[providers.Digest]chan struct{} // being read: closed when the answer is here
}

func newManifestCache(limit int64) *manifestCache {
	return &manifestCache{limit: limit, order: list.New(), byKey: map[providers.Digest]*list.Element{}, asked: map[providers.Digest]chan struct{}{}}
}

func (c *manifestCache) get(d providers.Digest) *Manifest {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[d]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*Manifest)
}

func (c *manifestCache) put(m *Manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[m.Digest] != nil || weight(m) > c.limit {
		return
	}
	c.byKey[m.Digest] = c.order.PushFront(m)
	c.used += weight(m)
	for c.used > c.limit {
		last := c.order.Back()
		old := c.order.Remove(last).(*Manifest)
		delete(c.byKey, old.Digest)
		c.used -= weight(old)
	}
}

// await makes sure that a manifest that several want at once is asked for once:
// it waits while somebody else reads it. done is to be called by the one who
// reads it now; it is nil for who has waited already, and then looks again.
func (c *manifestCache) await(ctx context.Context, d providers.Digest) (done func(), err error) {
	c.mu.Lock()
	asked, busy := c.asked[d]
	if !busy {
		mine := make(chan struct{})
		c.asked[d] = mine
		c.mu.Unlock()
		return func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.asked, d)
			close(mine)
		}, nil
	}
	c.mu.Unlock()
	select {
	case <-asked:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// weight is about what a manifest takes in memory: its bytes and what was read
// out of them.
func weight(m *Manifest) int64 {
	return int64(2*len(m.Raw) + 128*(len(m.Layers)+len(m.Manifests)+4))
}
