package statefile

// Parse is reading without a disk: what the campaigns and fuzz targets call a
// million times. The bytes must not change while the state is in use.
func Parse(buf []byte) (*State, error) {
	s, bad := parse(buf)
	if bad != nil {
		return nil, bad
	}
	return s, nil
}
