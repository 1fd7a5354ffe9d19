package statefile

// Queued is how many callers wait for the writer to take their lines.
func (j *Journal) Queued() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.queue)
}
