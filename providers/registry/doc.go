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
//	remote  one per registry block: retries > gate > rate > credentials > redirects
//	   |
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
// Start reading at [Client] and [Copier]; request.go is the path of every
// request, deliver.go the way of a blob.
package registry
