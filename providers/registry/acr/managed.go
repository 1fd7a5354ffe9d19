package acr

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// The metadata service of a virtual machine and of a Kubernetes node
// (learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token).
const metadata = "http://169.254.169.254/metadata/identity/oauth2/token"

// metadataPatience bounds one question. Where nobody is asked for, connecting is
// given up much earlier, by the transport.
const metadataPatience = 10 * time.Second

// managed is the identity that Azure gives to what runs there: an app is told by
// its environment where to ask, everything else asks the metadata service. It is
// the last of the chain, and most machines are not in Azure at all, so that nobody
// answers there, or somebody else does, is no failure.
func (o Options) managed(ctx context.Context, api *registry.API) (registry.Credential, error) {
	const before = "Azure workload identity (AZURE_FEDERATED_TOKEN_FILE) and a client secret (AZURE_CLIENT_SECRET): neither is set"
	nothing := func(why string) (registry.Credential, error) {
		return registry.NoCredential(before + "; managed identity: " + why), nil
	}
	if o.Metadata == nil {
		return registry.NoCredential(before), nil
	}
	q := registry.Request{Op: "get an Azure token for", On: api.Host()}
	asking, cancel := context.WithTimeout(ctx, metadataPatience)
	defer cancel()
	req, app, err := o.identity(asking)
	if err != nil {
		return registry.Credential{}, q.Fail(providers.Denied, "Check IDENTITY_ENDPOINT.", "%w", err)
	}
	status, answer, err := ask(o.Metadata, req)
	said := fmt.Sprintf("%s answers HTTP %d %s", req.URL.Host, status, providers.Printable(answer.Code, 80))
	switch {
	case ctx.Err() != nil:
		return registry.Credential{}, ctx.Err()
	case err != nil && !app:
		return nothing(req.URL.Host + " does not answer as Azure does")
	case err != nil:
		return registry.Credential{}, q.Fail(classOf(err), "Check IDENTITY_ENDPOINT.", "%w", err)
	case status == http.StatusTooManyRequests, status == http.StatusGone, status >= 500:
		return registry.Credential{}, q.Fail(providers.Transient, "", "%s", strings.TrimSpace(said))
	case status != http.StatusOK || answer.Access == "":
		return nothing(strings.TrimSpace(said) + ": no identity is assigned, or not the one of AZURE_CLIENT_ID")
	}
	return exchange(ctx, api, o.Env("AZURE_TENANT_ID"), answer.Access, "Azure managed identity ("+req.URL.Host+")")
}

// identity is the question for a token: an app's
// (learn.microsoft.com/azure/app-service/overview-managed-identity), or the
// machine's. AZURE_CLIENT_ID chooses among identities that a user has assigned.
func (o Options) identity(ctx context.Context) (req *http.Request, app bool, err error) {
	endpoint, secret := o.Env("IDENTITY_ENDPOINT"), o.Env("IDENTITY_HEADER")
	app = endpoint != "" && secret != ""
	version := "2019-08-01"
	if !app {
		endpoint, version = metadata, "2018-02-01"
	}
	query := url.Values{"api-version": {version}, "resource": {strings.TrimSuffix(audience, "/.default")}}
	if client := o.Env("AZURE_CLIENT_ID"); client != "" {
		query.Set("client_id", client)
	}
	req, err = http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil || req.URL.Host == "" {
		return nil, app, fmt.Errorf("%s is no address", providers.Printable(endpoint, 200))
	}
	req.URL.RawQuery = query.Encode()
	req.Header.Set("Metadata", "true") // says that no page of a browser asks
	if app {
		req.Header.Set("X-IDENTITY-HEADER", secret)
	}
	return req, app, nil
}
