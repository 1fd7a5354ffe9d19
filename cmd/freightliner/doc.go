// Command freightliner is to container registries what Terraform is to clouds:
// HCL files say what must be where, plan shows what differs, apply makes it so.
//
//	main.go      one process: arguments, environment, terminal, exit code
//	args.go      -flag and --flag, "did you mean", usage
//	session.go   what every verb needs: configuration, state, client, plan
//	plan.go apply.go drift.go show.go state.go …   one verb each
//
//	           planner.Plan ──┬──> view_text.go      for people
//	  executor.Event/Summary ─┤──> view_markdown.go  for pull requests
//	     config.Diagnostics ──┤──> view_json.go      plans for programs
//	                          └──> events.go         the stream (docs/events.md)
//
// It is the only package that prints, exits, or reads flags, environment and
// terminal. It decides nothing about registries: what a plan contains is
// settled before a view sees it, so no two views can disagree.
//
// It refuses to print anything from a registry without [providers.Printable]
// (text) or the Markdown escapes, and to accept a flag that does nothing.
//
// Start reading at main.go, then apply.go, which tells the longest story.
package main
