// Package registry talks to container registries: it lists, reads, writes and
// copies, and is the only place of freightliner that sends requests to them.
//
//	planner                                executor
//	   | Repositories Tags Head               | Copy CopyReferrers
//	   | Contents HasBlob ReferrerSet         v
//	   |                                   Copier   blobs, manifests, index, tags;
//	   v                                      |     one transfer per blob and registry
//	Client  <---------------------------------+
//	   |     manifest cache, blob knowledge, settings by longest host/path
//	   v
//	remote  one per registry block:
//	   |  \    retries (budget) > breaker > pauses > rates > gate > credentials > redirects
//	   |   Kind  what the registry's kind does otherwise: its profile, and by way of
//	   |         API its bulk listings, its cloud's credentials, creation; handed in,
//	   |         each in a folder of its own (providers/registry/<kind>)
//	   +--> own origin      (credentials, client certificate)
//	   +--> other origins   (storage, token and upload hosts: never credentials,
//	                         addresses judged when dialled)
//
// Everything read from the wire has a cap, and more than the cap is an error.
// Digests are parsed before they are used and compared after every read.
// Manifests stay the raw bytes that were read, so digests at the destination
// equal those at the source.
//
// It refuses to follow a redirect, token realm, Link or upload Location that
// would carry a credential to another origin; to go from https to http; to
// commit a byte that does not match its digest; to write a tag before all that
// it points to is there; to fetch the URLs of foreign layers; to read files, the
// environment or the clock on its own.
//
// A registry in trouble costs the others nothing: budget, breaker, windows and
// lanes are its own, nobody who waits for it holds what others need, and buffers
// are never waited for. A blob that broke off goes on where it stopped, in this
// run or, with a [Ledger], in the next one; where a registry can not, a [Spool]
// saves reading the source again.
//
// Start reading at [Client] and [Copier]; request.go is the path of every
// request, gate.go and health.go are what bounds them, deliver.go and look.go
// find the cheapest way of a blob, transfer.go moves its bytes, tagging.go writes
// tags.
package registry
