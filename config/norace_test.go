//go:build !race

package config

// slowdown leaves the bound of one second as it is.
const slowdown = 1
