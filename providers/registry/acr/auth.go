package acr

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// Options are what the chain may know of the machine.
type Options struct {
	Env       func(name string) string
	ReadFile  func(name string) ([]byte, error)
	Transport http.RoundTripper // to Entra ID
	// Metadata is the way to services of the machine itself: no proxy, and a short
	// wait for a connection, since most machines have none. Nil leaves managed
	// identity out.
	Metadata http.RoundTripper
}

const (
	answerCap = 64 << 10
	patience  = 30 * time.Second
)

// credential gets an Entra token with what the environment has, workload
// identity before a client secret, or else with the machine's managed identity, and
// exchanges it for a refresh token of the registry, with which its own token server
// gives tokens for each repository (github.com/Azure/acr/blob/main/docs/AAD-OAuth.md).
func (o Options) credential(ctx context.Context, api *registry.API, _ providers.Repository) (registry.Credential, error) {
	q := registry.Request{Op: "get an Azure token for", On: api.Host()}
	tenant, client := o.Env("AZURE_TENANT_ID"), o.Env("AZURE_CLIENT_ID")
	file, secret := o.Env("AZURE_FEDERATED_TOKEN_FILE"), o.Env("AZURE_CLIENT_SECRET")
	if file == "" && secret == "" {
		return o.managed(ctx, api)
	}
	if tenant == "" || client == "" {
		return registry.Credential{}, q.Fail(providers.Denied, "Set AZURE_TENANT_ID and AZURE_CLIENT_ID beside it.",
			"the environment has a token file or a client secret, and does not say whose")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {audience}}
	origin := "Azure client secret (AZURE_CLIENT_SECRET)"
	if file != "" {
		assertion, err := o.ReadFile(file)
		if err != nil {
			return registry.Credential{}, q.Fail(providers.Denied, "Check AZURE_FEDERATED_TOKEN_FILE.", "the token of workload identity: %w", err)
		}
		origin = "Azure workload identity (AZURE_FEDERATED_TOKEN_FILE)"
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", strings.TrimSpace(string(assertion)))
	} else {
		form.Set("client_secret", secret)
	}
	entra, err := o.entra(ctx, api.Host(), tenant, form)
	if err != nil {
		return registry.Credential{}, q.Fail(classOf(err), "Check the application "+client+" in the tenant "+tenant+" and its federated credential or secret.", "%w", err)
	}
	return exchange(ctx, api, tenant, entra, origin)
}

// authority is the login of the cloud that a registry is in
// (learn.microsoft.com/entra/identity-platform/authentication-national-cloud).
// The environment may name another, as on Azure Stack.
func (o Options) authority(host string) string {
	if named := o.Env("AZURE_AUTHORITY_HOST"); strings.HasPrefix(named, "https://") {
		return strings.TrimRight(named, "/")
	}
	switch host = strings.TrimSuffix(host, ":443"); {
	case strings.HasSuffix(host, ".azurecr.us"):
		return "https://login.microsoftonline.us"
	case strings.HasSuffix(host, ".azurecr.cn"):
		return "https://login.partner.microsoftonline.cn"
	}
	return "https://login.microsoftonline.com"
}

// audience is what the token is for: the registries, by one name in all clouds.
const audience = "https://containerregistry.azure.net/.default"

// entra asks for a token
// (learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow).
// Nothing of an answer that refuses is shown but its error code, since it may
// repeat what was sent.
func (o Options) entra(ctx context.Context, host, tenant string, form url.Values) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	address := o.authority(host) + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader([]byte(form.Encode())))
	if err != nil {
		return "", errors.New("the address of Entra ID is no URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, answer, err := ask(o.Transport, req)
	switch {
	case err != nil:
		return "", err
	case status == http.StatusTooManyRequests, status >= 500:
		return "", passing(req, fmt.Errorf("HTTP %d", status))
	case status != http.StatusOK || answer.Access == "":
		return "", fmt.Errorf("%s answers HTTP %d: %s %v", req.URL.Host, status, providers.Printable(answer.Code, 80), answer.Codes)
	}
	return answer.Access, nil
}

// answer is what gives a token, or refuses it.
type answer struct {
	Access string `json:"access_token"`
	Code   string `json:"error"`
	Codes  []int  `json:"error_codes"`
}

// ask sends req once. A redirect is no answer: what req carries goes nowhere else.
func ask(through http.RoundTripper, req *http.Request) (status int, a answer, err error) {
	resp, err := through.RoundTrip(req)
	if err != nil {
		return 0, a, passing(req, errors.New(providers.Printable(err.Error(), 300)))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerCap+1))
	if err != nil || len(body) > answerCap {
		return 0, a, passing(req, errors.New("the answer broke off or is too long"))
	}
	if json.Unmarshal(body, &a) != nil && resp.StatusCode == http.StatusOK {
		return 0, a, errors.New(req.URL.Host + " did not answer with JSON")
	}
	return resp.StatusCode, a, nil
}

// classOf is what an unanswered question is to its asker: it may pass, or there is
// no credential.
func classOf(err error) providers.Class {
	if class := providers.ClassOf(err); class.Retryable() {
		return class
	}
	return providers.Denied
}

func passing(req *http.Request, err error) error {
	return &providers.Error{Class: providers.Transient, Op: "ask", On: req.URL.Host, Err: err}
}

// exchange trades an Entra token for the registry's refresh token. The tenant may
// be left out.
func exchange(ctx context.Context, api *registry.API, tenant, entra, origin string) (registry.Credential, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {strings.TrimSuffix(api.Host(), ":443")}, "access_token": {entra}}
	if tenant != "" {
		form.Set("tenant", tenant)
	}
	q := registry.Request{
		Op: "exchange an Azure token at", On: api.Host(), Endpoint: "exchange", Method: http.MethodPost, Aside: true,
		URL: api.URL("/oauth2/exchange", nil), Body: []byte(form.Encode()),
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
	}
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	_, err := api.Ask(ctx, q, &answer)
	if providers.ClassOf(err) == providers.Denied || providers.ClassOf(err) == providers.Invalid {
		return registry.Credential{}, registry.Hint(err, "Give the identity the role AcrPull, and AcrPush to write, on "+api.Host()+".")
	}
	if err == nil && answer.Refresh == "" {
		err = q.Fail(providers.Invalid, "", "the answer has no refresh token")
	}
	if err != nil {
		return registry.Credential{}, err
	}
	return registry.Credential{Identity: func() string { return answer.Refresh }, Origin: origin, Expires: expiry(answer.Refresh, api.Now())}, nil
}

// expiry reads when a JWT ends, or takes the three hours that refresh tokens of
// the registry live. It is not checked: who sends a wrong time gets asked again.
func expiry(token string, now time.Time) time.Time {
	usual := now.Add(3 * time.Hour)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return usual
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return usual
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if json.Unmarshal(raw, &claims) != nil || claims.Expires <= now.Unix() || claims.Expires > now.Add(24*time.Hour).Unix() {
		return usual
	}
	return time.Unix(claims.Expires, 0)
}
