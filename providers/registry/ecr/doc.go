// Package ecr is Amazon's private registry.
//
//	Keys (AWS SDK chain, handed in)
//	   |            sign.go: one signed POST of JSON per question
//	   v
//	api.ecr.<region> ── GetAuthorizationToken   auth.go    12 h password, renewed ahead
//	                 ── DescribeRepositories    list.go    1,000 a page
//	                 ── DescribeImages          list.go    digests, sizes, push times
//	                 ── CreateRepository        create.go
//
// It refuses to look for AWS keys for any host but <account>.dkr.ecr.<region> of
// Amazon's own domains, and never sends a key: only signatures leave, and only to
// the API of the same region. Start reading at [Kind].
package ecr
