// Package embedded is a small OCI registry: the server side of the
// distribution-spec 1.1 as one http.Handler over a [Store]. It stands behind
// "freightliner registry serve DIR", and in memory behind most tests.
//
//	HTTP ── auth ── address ──┬── blobs, uploads ──┐
//	        (basic,  (path to ├── manifests, tags ─┼── Store ──┬── Memory
//	        bearer)   name)   ├── listings ────────┤           └── Directory
//	                          └── referrers ───────┘
//
// Under a Store lie these keys; the parts that come from the wire are names,
// tags and digests that passed the grammar of the spec first:
//
//	content/sha256/9f/9f86d0…                            bytes of blobs and manifests
//	repositories/<name>/_blobs/sha256/9f86d0…            this blob may be read here
//	repositories/<name>/_manifests/sha256/9f86d0…        media type and size
//	repositories/<name>/_tags/=v1.27=                    digest the tag points at
//	repositories/<name>/_referrers/sha256/<subject>/…    one descriptor per referrer
//
// It refuses to be a production registry: no replication, no quotas, no
// reclaiming of space (a deleted blob is unlinked from its repository, its
// bytes stay), and one process per directory.
//
// Start reading at [New]; the one seam is [Store].
package embedded
