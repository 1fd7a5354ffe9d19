//go:build race

package config

// slowdown is what the race detector costs, with other work on the machine.
const slowdown = 15
