// Package ecrpublic is Amazon's public registry, public.ecr.aws.
//
//	api.ecr-public.us-east-1 ── GetAuthorizationToken   auth.go
//	                         ── DescribeRegistries      list.go   which aliases are ours
//	                         ── DescribeRepositories, DescribeImageTags
//	                         ── CreateRepository        create.go
//
// The interface tells only of one's own registry; for those of others the
// registry's own tag lists are asked, and their repositories have to be named. It
// refuses to look for AWS keys for any host but public.ecr.aws.
// Start reading at [Kind].
package ecrpublic
