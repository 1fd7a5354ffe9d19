// Package dockerhub is Docker Hub.
//
//	registry-1.docker.io  the registry          auth.docker.io  its tokens
//	hub.docker.com/v2/namespaces/<ns>/repositories             list.go
//	                                  …/<name>/tags            digests, sizes, times
//
// There is no catalog; the web interface lists, 100 at a time and by page number,
// so the count that every page tells is held against what was seen. It refuses to
// send the login to any host but these. Start reading at [Kind].
package dockerhub
