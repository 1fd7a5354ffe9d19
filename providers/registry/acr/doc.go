// Package acr is Azure Container Registry.
//
//	workload identity or client secret (environment, handed in)
//	   | login.microsoftonline.com      auth.go
//	   |        managed identity of the machine or app
//	   |           | metadata service, app's endpoint      managed.go
//	   v           v
//	/oauth2/exchange ── refresh token, 3 h ── access tokens by the registry's own realm
//	/acr/v1/<repository>/_tags          list.go   digests and times, 100 a page
//	/v2/_catalog                                  100 a page
//
// It refuses to offer an Azure token to any host that is not one label below
// azurecr.io, azurecr.us or azurecr.cn. Start reading at [Kind].
package acr
