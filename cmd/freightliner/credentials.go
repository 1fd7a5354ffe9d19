package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/registry"
)

// keychain finds credentials where docker login and podman login leave them,
// for registries without an auth block.
func (s *session) keychain() registry.CredentialFunc {
	home := s.env["HOME"]
	if home == "" {
		home = s.env["USERPROFILE"]
	}
	return registry.DockerConfigKeychain(registry.KeychainOptions{
		Files:  registry.CredentialFiles(func(name string) string { return s.env[name] }, home),
		Read:   readSmallFile,
		Helper: s.helper(),
	})
}

// helper runs credential helpers. They get our environment without the values
// of variables, which may be secrets that are none of their business.
func (s *session) helper() registry.RunHelper {
	var env []string
	for name, value := range s.env {
		if !strings.HasPrefix(name, "FREIGHTLINER_") {
			env = append(env, name+"="+value)
		}
	}
	return registry.ExecHelper(env)
}

// authBlock turns a registry's auth block into a credential. The values stay in
// the closures of the configuration until a request needs them.
func (s *session) authBlock(r config.Registry) (registry.CredentialFunc, error) {
	origin := fmt.Sprintf("the auth block of registry %q", r.Name)
	credential := registry.Credential{Origin: origin}
	a := r.Auth
	switch {
	case a.StoreSecret != nil:
		return s.storedCredential(r), nil
	case a.CredentialHelper != "":
		return s.helperBlock(r.Host, a.CredentialHelper, origin), nil
	case a.Token != nil:
		credential.Bearer = a.Token
	case a.Password != nil:
		credential.Username, credential.Password = a.Username, a.Password
	}
	return func(context.Context, providers.Repository) (registry.Credential, error) { return credential, nil }, nil
}

// helperBlock asks the helper that an auth block names, by way of the keychain,
// which knows how to run one. Here nothing found is an error: the block says
// that there must be a credential.
func (s *session) helperBlock(host, name, origin string) registry.CredentialFunc {
	file, err := json.Marshal(map[string]map[string]string{"credHelpers": {host: name}})
	find := registry.DockerConfigKeychain(registry.KeychainOptions{
		Files:  []string{origin},
		Read:   func(string) ([]byte, error) { return file, err },
		Helper: s.helper(),
	})
	return func(ctx context.Context, repo providers.Repository) (registry.Credential, error) {
		c, err := find(ctx, repo)
		if err == nil && c.Password == nil && c.Identity == nil && c.Bearer == nil {
			err = &providers.Error{Class: providers.Denied, Op: "run", On: "docker-credential-" + name, Err: errors.New("it has no credential for " + clean(host)),
				Hint: origin + " names this helper. Log in with the program that it belongs to."}
		}
		return c, err
	}
}

// proxy is the HTTP proxy of the environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY.
func (s *session) proxy() func(*http.Request) (*url.URL, error) { return http.ProxyFromEnvironment }
