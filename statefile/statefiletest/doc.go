// Package statefiletest is a disk in memory for tests of whoever uses package
// statefile: a real implementation of statefile.FS that knows the difference
// between written and durable, fails on demand, and can show every disk that a
// crash may leave.
//
//	        Write, Rename …          Sync, SyncDir
//	caller ────────────────> seen ────────────────> durable
//	            │                                      │
//	            ├─ Fail: the Nth operation             └─ Crashes: durable, and every
//	            └─ After: look after each one             allowed part of what is not
//
// It refuses to be faster than honest: a name is durable only when its
// directory was synced, bytes only when their file was, and bytes whose sync
// failed are gone for good even though reading still shows them, as Linux has
// it since kernels drop dirty pages after a failed write-back.
//
// Start reading at [Disk].
package statefiletest
