package gcp

import (
	"encoding/json"
	"path"
	"strings"
)

// AccountOf is the service account that credentials in Google's JSON form stand
// for; empty for a person's, which do not name one, and for anything else.
func AccountOf(credentials []byte) string {
	var c struct {
		ClientEmail   string `json:"client_email"`
		Impersonation string `json:"service_account_impersonation_url"`
	}
	if json.Unmarshal(credentials, &c) != nil {
		return ""
	}
	if c.Impersonation != "" { // ….googleapis.com/v1/projects/-/serviceAccounts/NAME:generateAccessToken
		name, _, _ := strings.Cut(path.Base(c.Impersonation), ":")
		return name
	}
	return c.ClientEmail
}
