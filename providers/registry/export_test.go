package registry

// ShrinkUploads makes everything about large blobs happen with smaller ones:
// those of so many bytes are large, and go in chunks of so many.
func ShrinkUploads(c *Client, large, chunk int64) {
	c.sizes.large, c.sizes.chunk, c.sizes.longest = large, chunk, chunk
	c.sizes.mark, c.sizes.start = chunk/8, chunk/8
}
