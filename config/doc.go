// Package config turns the HCL files of one directory into a checked,
// evaluated, typed [Config], or into every mistake they hold.
//
//	*.hcl, *.hcl.json          -var, -var-file, environment
//	      |                              |
//	  guard.go: size, nesting, numbers   |
//	      |                              |
//	  parse (hcl)                    variables.go
//	      |                              |
//	      +------> resolve.go <----------+     var, local, registry, each
//	                  |
//	              meter.go: every step of evaluation is paid for
//	                  |
//	   registry.go  tree.go  image.go          blocks, after schema.go
//	                  |
//	              Config  or  Diagnostics
//
// A configuration may come from a pull request of a stranger, so the package
// refuses to: read anything outside the directory, read the environment or the
// clock, run for longer than a fixed number of steps, nest deeper than a fixed
// bound, or show the value of a sensitive variable. It does no network I/O and
// knows nothing of what is in a registry.
//
// HCL and cty are seen only here; nothing of them leaves in a public type.
//
// Start reading at [Load], then schema.go for what may be written.
package config
