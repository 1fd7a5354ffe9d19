// Package harbor is Harbor.
//
//	/api/v2.0/projects                                  list.go
//	          …/<project>/repositories
//	                      …/<repository>/artifacts      digests, tags, sizes, times
//	          POST projects                             create.go
//
// The interface is the registry's own host and takes the same user or robot. Its
// catalog wants a system administrator, so it is asked only when the interface is
// not to be had. Start reading at [Kind].
package harbor
