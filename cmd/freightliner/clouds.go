package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"freightliner/providers/registry"
	"freightliner/providers/registry/gar"
	"freightliner/providers/registry/kinds"
)

// kinds are the kinds of registries with what they may know of this machine. The
// clouds' own libraries read the environment, files and metadata services; each
// is asked only when a registry of that cloud wants a credential that nothing
// else has given.
func (s *session) kinds() []registry.Kind {
	transport := &http.Transport{Proxy: s.proxy(), TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: cloudPatience}
	return kinds.All(kinds.Outside{
		Env:       func(name string) string { return s.env[name] },
		ReadFile:  readSmallFile,
		Transport: transport,
		// Never through a proxy, which would be given the machine's identity.
		Metadata: &http.Transport{DialContext: (&net.Dialer{Timeout: metadataPatience}).DialContext, ResponseHeaderTimeout: cloudPatience},
		AWS:      awsKeys(s.log),
		Google:   googleToken(&http.Client{Timeout: cloudPatience}),
	})
}

// metadataPatience is how long a machine's own metadata service may take to be
// there at all: it is one hop away, or it is not.
const metadataPatience = 2 * time.Second

// cloudPatience bounds one question to a cloud's login.
const cloudPatience = 30 * time.Second

// awsKeys is the chain of the AWS SDK. It keeps the keys and renews them. What the
// SDK would print goes into our log.
func awsKeys(log hclog.Logger) func(context.Context, string) (aws.Credentials, error) {
	var mu sync.Mutex
	chains := map[string]aws.CredentialsProvider{}
	chain := func(ctx context.Context, region string) (aws.CredentialsProvider, error) {
		mu.Lock()
		defer mu.Unlock()
		if chains[region] == nil {
			cfg, err := awsconfig.LoadDefaultConfig(context.WithoutCancel(ctx), awsconfig.WithRegion(region), awsconfig.WithLogger(awsLog{log}))
			if err != nil {
				return nil, err
			}
			chains[region] = cfg.Credentials
		}
		return chains[region], nil
	}
	return func(ctx context.Context, region string) (aws.Credentials, error) {
		provider, err := chain(ctx, region)
		if err != nil {
			return aws.Credentials{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, cloudPatience)
		defer cancel()
		keys, err := provider.Retrieve(ctx)
		return keys, awsRefusal(err)
	}
}

// awsLog is the log of the AWS SDK.
type awsLog struct{ log hclog.Logger }

// Logf implements the SDK's logging.Logger.
func (l awsLog) Logf(kind logging.Classification, format string, args ...any) {
	l.log.Debug("AWS SDK: "+clean(fmt.Sprintf(format, args...)), "as", string(kind))
}

// awsRefusal adds the status to an error of the SDK that does not say it: an
// endpoint of a container that refuses without JSON leaves it without a word.
func awsRefusal(err error) error {
	var refused interface{ HTTPStatusCode() int }
	if !errors.As(err, &refused) || strings.Contains(err.Error(), strconv.Itoa(refused.HTTPStatusCode())) {
		return err
	}
	return fmt.Errorf("%w (HTTP %d)", err, refused.HTTPStatusCode())
}

// googleToken is Application Default Credentials. They are looked for once.
func googleToken(client *http.Client) func(context.Context) (string, time.Time, string, error) {
	find := sync.OnceValues(func() (*google.Credentials, error) {
		// The credentials keep the context for the whole run.
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client)
		return google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/cloud-platform")
	})
	return func(context.Context) (string, time.Time, string, error) {
		found, err := find()
		if err != nil {
			if strings.Contains(err.Error(), "could not find default credentials") {
				err = fmt.Errorf("%w: %w", gar.ErrNone, err)
			}
			return "", time.Time{}, "", err
		}
		token, err := found.TokenSource.Token()
		if err != nil {
			return "", time.Time{}, "", googleRefusal(err)
		}
		return token.AccessToken, token.Expiry, googleSource(found.JSON), nil
	}
}

// googleRefusal takes the body out of an answer that refuses: it is not ours to
// show.
func googleRefusal(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil {
		return fmt.Errorf("%s answers HTTP %d %s", refused.Response.Request.URL.Host, refused.Response.StatusCode, refused.ErrorCode)
	}
	// Others quote the answer behind its status.
	if i := strings.IndexAny(err.Error(), "{`<\n"); i > 0 {
		return errors.New(strings.TrimRight(err.Error()[:i], " :"))
	}
	return err
}

// googleSource says which credentials were found.
func googleSource(file []byte) string {
	var named struct{ Type string }
	if len(file) == 0 || json.Unmarshal(file, &named) != nil {
		return "the metadata server"
	}
	return "a file of type " + clean(named.Type)
}
