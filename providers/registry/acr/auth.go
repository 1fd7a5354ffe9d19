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
}

const (
	answerCap = 64 << 10
	patience  = 30 * time.Second
)

// credential gets an Entra token with what the environment has, workload
// identity before a client secret, and exchanges it for a refresh token of the
// registry, with which its own token server gives tokens for each repository
// (github.com/Azure/acr/blob/main/docs/AAD-OAuth.md).
func (o Options) credential(ctx context.Context, api *registry.API, _ providers.Repository) (registry.Credential, error) {
	q := registry.Request{Op: "get an Azure token for", On: api.Host()}
	tenant, client := o.Env("AZURE_TENANT_ID"), o.Env("AZURE_CLIENT_ID")
	file, secret := o.Env("AZURE_FEDERATED_TOKEN_FILE"), o.Env("AZURE_CLIENT_SECRET")
	if file == "" && secret == "" {
		return registry.NoCredential("Azure workload identity (AZURE_FEDERATED_TOKEN_FILE) and a client secret (AZURE_CLIENT_SECRET): neither is set"), nil
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
		class := providers.Denied
		if providers.ClassOf(err).Retryable() {
			class = providers.ClassOf(err)
		}
		return registry.Credential{}, q.Fail(class, "Check the application "+client+" in the tenant "+tenant+" and its federated credential or secret.", "%w", err)
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
	resp, err := o.Transport.RoundTrip(req) // a redirect is no answer: the secret goes nowhere else
	if err != nil {
		return "", &providers.Error{Class: providers.Transient, Op: "ask", On: req.URL.Host, Err: errors.New(providers.Printable(err.Error(), 300))}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerCap+1))
	if err != nil || len(body) > answerCap {
		return "", &providers.Error{Class: providers.Transient, Op: "ask", On: req.URL.Host, Err: errors.New("the answer broke off or is too long")}
	}
	var answer struct {
		Access string `json:"access_token"`
		Code   string `json:"error"`
		Codes  []int  `json:"error_codes"`
	}
	if json.Unmarshal(body, &answer) != nil && resp.StatusCode == http.StatusOK {
		return "", errors.New(req.URL.Host + " did not answer with JSON")
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 500:
		return "", &providers.Error{Class: providers.Transient, Op: "ask", On: req.URL.Host, Err: fmt.Errorf("HTTP %d", resp.StatusCode)}
	case resp.StatusCode != http.StatusOK || answer.Access == "":
		return "", fmt.Errorf("%s answers HTTP %d: %s %v", req.URL.Host, resp.StatusCode, providers.Printable(answer.Code, 80), answer.Codes)
	}
	return answer.Access, nil
}

// exchange trades an Entra token for the registry's refresh token.
func exchange(ctx context.Context, api *registry.API, tenant, entra, origin string) (registry.Credential, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {strings.TrimSuffix(api.Host(), ":443")}, "tenant": {tenant}, "access_token": {entra}}
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
