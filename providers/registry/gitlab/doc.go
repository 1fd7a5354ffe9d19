// Package gitlab is GitLab's registry: registry.gitlab.com and one's own.
//
//	gitlab.com/api/v4/groups|projects/<path>/registry/repositories     list.go
//	gitlab.com/jwt/auth                                                tokens
//	CI_REGISTRY_USER, CI_JOB_TOKEN of a job                            auth.go
//
// One's own GitLab lives on another host than its registry: the one that the
// registry block names in token_hosts. The interface tells digests only tag by
// tag, so tags come from the registry. It refuses to offer the token of a job to
// any host but the one that the job names as its registry. Start reading at [Kind].
package gitlab
