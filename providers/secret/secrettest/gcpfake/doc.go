// Package gcpfake is Google Cloud Secret Manager in memory, strict: names
// global and regional, versions and their states, etags that move as the
// service's do, CRC-32C, limits of labels and annotations, permissions, quotas by
// the minute and second, lists and "latest" that lag behind. It speaks gRPC over
// a connection in memory ([Server.Dial]) or any listener ([Server.Serve]).
//
// A script may break any call: see [Fault]. Time is a [Clock] that stands still
// until somebody waits for it or moves it.
//
// What it knows of the service is in its documentation and in the API's own
// description of its messages; what is not said there is refused rather than
// guessed.
package gcpfake
