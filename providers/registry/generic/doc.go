// Package generic is the kind of every registry that is none of the others:
// distribution, zot, and what speaks the specification alone.
//
//	_catalog, tags/list ─ paged by Link, else by "last" until a page says nothing new
//
// It refuses to have interfaces of its own; what differs is data in profile.go.
package generic
