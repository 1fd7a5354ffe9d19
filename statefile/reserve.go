package statefile

// reserveBytes is how much room the journal keeps ahead of itself.
const reserveBytes = 1 << 20

// Reserver is a [File] that can set room aside, found by asking. The journal
// uses it so that work which is under way when the disk gets full can still be
// recorded. The unused room goes with the file when it is compacted.
type Reserver interface {
	Reserve(from, size int64) error
}

// reserve keeps room for need more bytes, and reserveBytes behind them. It is a
// precaution: a disk that can not or will not is asked once, and the write
// itself says if there really is no room.
func (j *Journal) reserve(need int) {
	end := j.offset + int64(need)
	if end <= j.reserved || j.noReserve {
		return
	}
	r, ok := j.file.(Reserver)
	if !ok || r.Reserve(j.offset, int64(need)+reserveBytes) != nil {
		j.noReserve = true
		return
	}
	j.reserved = end + reserveBytes
}
