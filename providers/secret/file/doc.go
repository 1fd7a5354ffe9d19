// Package file keeps secrets in a directory, encrypted with age: a
// [secret.Store] that needs no service and no setup, made to be committed to
// git.
//
//	store.toml              who the members are, in clear, for people
//	store.key.age           the store's key and the members, for each member
//	secrets/prod+db/1.age   one version of the secret prod/db, for the store's key
//	secrets/prod+db/2.age   the current one: the highest number
//	secrets/old/deleted.age when the deletion of this secret becomes final
//	.lock                   the kernel's lock of whoever writes
//
// Secrets are not encrypted to the members but to one key of the store, whose
// public half is never written down in clear: so whoever can not open the store
// can not forge a secret either, and one touch or passphrase opens all.
// Inside, each version says which store, secret and number it belongs to, and
// commits to its payload; its id, which the state keeps, is that commitment. A
// file in another place is an error, and a file that was rolled back or
// exchanged has another id than the state knows.
//
// What changes is one file, replaced by rename, under the lock: a crash leaves
// the old or the new. Readers take no lock.
//
// The package refuses to take a key out of a file that others can read, to
// write a payload or key in clear anywhere but into the identity file, to ask a
// terminal or the environment (it is handed what it needs in [Options]), and to
// overwrite a version.
//
// Start reading at [Open]; envelope.go has the format of a secret, keyring.go
// that of the store's key, admin.go and doctor.go what people do with a store.
// docs/secrets.md says what this protects from and what not.
package file
