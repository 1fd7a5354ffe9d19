package awsfake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	. "freightliner/providers/secret/secrettest/awsfake"
)

func client(f *Fake) *sm.Client {
	return sm.New(sm.Options{Region: "eu-west-1", Credentials: f.Keys(), HTTPClient: f.Client(), Retryer: aws.NopRetryer{}})
}

func token(n int) *string { return aws.String(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)) }

// refused wants an error of AWS with this code, whose message has these words.
func refused(t *testing.T, err error, code, words string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("%v, want %s: …%s…", err, code, words)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(c *sm.Client, name, text string, token *string, labels ...string) (*sm.PutSecretValueOutput, error) {
	return c.PutSecretValue(context.Background(), &sm.PutSecretValueInput{SecretId: &name, SecretString: &text, ClientRequestToken: token, VersionStages: labels})
}

// TestTokens: a known token does nothing with the same payload, gives no label
// back, and is refused with another one.
func TestTokens(t *testing.T) {
	f := New("eu-west-1")
	c := client(f)
	create := &sm.CreateSecretInput{Name: aws.String("db"), SecretString: aws.String("A"), ClientRequestToken: token(1)}
	for range 2 {
		_, err := c.CreateSecret(t.Context(), create)
		ok(t, err)
	}
	create.ClientRequestToken = token(9)
	_, err := c.CreateSecret(t.Context(), create)
	refused(t, err, "ResourceExistsException", "already exists")
	_, err = put(c, "db", "B", token(2))
	ok(t, err)
	out, err := put(c, "db", "A", token(1))
	ok(t, err)
	if !slices.Equal(out.VersionStages, []string{"AWSPREVIOUS"}) {
		t.Errorf("a repeated put moved labels: %v", out.VersionStages)
	}
	_, err = put(c, "db", "C", token(1))
	refused(t, err, "ResourceExistsException", "already in use")
	if made := f.Made("db"); len(made) != 2 {
		t.Errorf("made %v", made)
	}
}

func TestLabels(t *testing.T) {
	f := New("eu-west-1")
	c := client(f)
	f.Bare("db")
	out, err := put(c, "db", "A", token(1), "mine")
	ok(t, err)
	if !slices.Contains(out.VersionStages, "AWSCURRENT") {
		t.Errorf("the first version is not current: %v", out.VersionStages)
	}
	_, err = put(c, "db", "B", token(2), "mine")
	ok(t, err)
	move := func(label string, to, from *string) error {
		_, err := c.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{SecretId: aws.String("db"), VersionStage: &label, MoveToVersionId: to, RemoveFromVersionId: from})
		return err
	}
	if got := f.Labels("db"); !slices.Equal(got[*token(1)], []string{"AWSCURRENT"}) || !slices.Equal(got[*token(2)], []string{"mine"}) {
		t.Errorf("labels %v", got)
	}
	refused(t, move("AWSCURRENT", token(2), nil), "InvalidParameterException", "can't be empty")
	refused(t, move("AWSCURRENT", token(2), token(2)), "InvalidParameterException", "not attached")
	refused(t, move("AWSCURRENT", nil, token(1)), "InvalidParameterException", "can't be completely removed")
	refused(t, move("other", token(3), nil), "InvalidParameterException", "Not a valid version")
	ok(t, move("AWSCURRENT", token(2), token(1)))
	refused(t, move("AWSCURRENT", token(2), token(1)), "InvalidParameterException", "not attached")
	ok(t, move("mine", nil, token(2)))
	refused(t, move("mine", nil, token(2)), "InvalidParameterException", "not attached")
	if got := f.Labels("db"); !slices.Equal(got[*token(1)], []string{"AWSPREVIOUS"}) || !slices.Equal(got[*token(2)], []string{"AWSCURRENT"}) {
		t.Errorf("labels %v", got)
	}
	for i := range 18 {
		ok(t, move(fmt.Sprint("label", i), token(1), nil))
	}
	refused(t, move("one-too-many", token(1), nil), "LimitExceededException", "staging labels")
}

func TestDeletion(t *testing.T) {
	f := New("eu-west-1")
	c := client(f)
	f.Foreign("db", "x")
	name := aws.String("db")
	remove := func(days int64, force bool) error {
		in := &sm.DeleteSecretInput{SecretId: name}
		if days > 0 {
			in.RecoveryWindowInDays = &days
		}
		if force {
			in.ForceDeleteWithoutRecovery = &force
		}
		_, err := c.DeleteSecret(t.Context(), in)
		return err
	}
	refused(t, remove(6, false), "InvalidParameterException", "between 7 and 30")
	refused(t, remove(7, true), "InvalidParameterException", "in conjunction")
	ok(t, remove(7, false))
	refused(t, remove(7, false), "InvalidRequestException", "scheduled for deletion")
	_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: name})
	refused(t, err, "InvalidRequestException", "marked for deletion")
	_, err = put(c, "db", "y", token(1))
	refused(t, err, "InvalidRequestException", "marked for deletion")
	_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: name})
	refused(t, err, "InvalidRequestException", "already scheduled for deletion")
	_, err = c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: name})
	ok(t, err)
	_, err = put(c, "db", "y", token(1))
	ok(t, err)
	ok(t, remove(0, true))
	_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: name})
	refused(t, err, "InvalidRequestException", "already scheduled for deletion")
	f.Clock.Advance(f.ForceDelay)
	_, err = c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: name})
	refused(t, err, "ResourceNotFoundException", "can't find")
	ok(t, remove(0, true)) // nothing to force is no error
	refused(t, remove(7, false), "ResourceNotFoundException", "can't find")
}

func TestRightsKeysAndRates(t *testing.T) {
	f := New("eu-west-1")
	c := client(f)
	f.Foreign("db", "x")
	f.Foreign("other", "x")
	name := aws.String("db")
	get := func(name *string) error {
		_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: name})
		return err
	}
	f.Deny("GetSecretValue", "db")
	refused(t, get(name), "AccessDeniedException", f.Principal()+" is not authorized to perform: secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:eu-west-1:")
	ok(t, get(aws.String("other")))
	batch, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"db", "other", "nobody"}})
	ok(t, err)
	if len(batch.SecretValues) != 1 || len(batch.Errors) != 2 {
		t.Errorf("batch %d %d", len(batch.SecretValues), len(batch.Errors))
	}
	f.Allow()
	f.DisableKey("")
	refused(t, get(name), "DecryptionFailure", "KMS")
	f.Allow()
	f.Rates = true
	throttled := 0
	for range 200 {
		if _, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{}); err != nil {
			refused(t, err, "ThrottlingException", "Rate exceeded")
			throttled++
		}
	}
	if throttled != 150 { // half a second's worth goes through at once
		t.Errorf("%d of 200 calls at one moment were refused", throttled)
	}
	f.Clock.Advance(time.Second)
	_, err = c.ListSecrets(t.Context(), &sm.ListSecretsInput{})
	ok(t, err)
}

// TestLag: reads show for a while what was before, writes never do.
func TestLag(t *testing.T) {
	f := New("eu-west-1")
	f.Lag = 2
	c := client(f)
	name := aws.String("db")
	_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: name, SecretString: aws.String("A"), ClientRequestToken: token(1)})
	ok(t, err)
	_, err = put(c, "db", "B", token(2)) // sees the secret
	ok(t, err)
	for range 2 {
		_, err = c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: name})
		refused(t, err, "ResourceNotFoundException", "can't find")
	}
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: name})
	ok(t, err)
	if !slices.Contains(d.VersionIdsToStages[*token(2)], "AWSCURRENT") {
		t.Errorf("it shows %v", d.VersionIdsToStages)
	}
}

// TestFaults: which kinds have an effect, and what the client sees of them.
func TestFaults(t *testing.T) {
	for kind, want := range map[Kind]struct {
		made int
		err  bool
	}{
		None: {1, false}, Cut: {0, true}, Lost: {1, true}, Timeout: {0, true}, LostTimeout: {1, true}, Twice: {1, false},
		Unavailable: {0, true}, Broken: {1, true}, Throttle: {0, true}, Garbled: {1, true}, Proxied: {0, true}, Echo: {0, true}, Moved: {0, true},
	} {
		f := New("eu-west-1")
		f.Bare("db")
		f.Inject(func(Call) Fault { return Fault{Kind: kind} })
		_, err := put(client(f), "db", "x", token(1))
		if made := len(f.Made("db")); made != want.made || (err != nil) != want.err {
			t.Errorf("kind %d: made %d, %v", kind, made, err)
		}
	}
	// A late second delivery.
	f := New("eu-west-1")
	c := client(f)
	f.Foreign("db", "x")
	f.Inject(func(c Call) Fault {
		if c.Operation == "TagResource" {
			return Fault{Kind: Twice, Later: 2}
		}
		return Fault{}
	})
	_, err := c.TagResource(t.Context(), &sm.TagResourceInput{SecretId: aws.String("db"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}})
	ok(t, err)
	f.Retag("db", "a", "2")
	for i := range 2 {
		if strings.Contains(f.Visible(), "a:1") {
			t.Errorf("delivered again after %d calls", i)
		}
		_, _ = c.ListSecrets(t.Context(), &sm.ListSecretsInput{})
	}
	if !strings.Contains(f.Visible(), "a:1") {
		t.Error("never delivered again")
	}
	// Held back until told.
	gate := make(chan struct{})
	arrived := make(chan struct{}, 1)
	f.Inject(func(Call) Fault { arrived <- struct{}{}; return Fault{Until: gate} })
	done := make(chan error, 1)
	go func() {
		_, err := put(c, "db", "y", token(5))
		done <- err
	}()
	<-arrived
	if n := len(f.Made("db")); n != 0 {
		t.Errorf("%d versions before the gate is open", n)
	}
	close(gate)
	ok(t, <-done)
}

// TestStrict: what is not as the service wants it is refused.
func TestStrict(t *testing.T) {
	f := New("eu-west-1")
	server := httptest.NewServer(f)
	defer server.Close()
	good := map[string]string{
		"X-Amz-Target": "secretsmanager.ListSecrets", "Content-Type": "application/x-amz-json-1.1", "X-Amz-Date": "20260101T000000Z",
		"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAFAKEFAKEFAKEFAKE/20260101/eu-west-1/secretsmanager/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=" + strings.Repeat("0f", 32),
	}
	for name, c := range map[string]struct {
		change func(map[string]string)
		body   string
		want   string
	}{
		"good":        {func(map[string]string) {}, `{}`, `"SecretList":[]`},
		"unsigned":    {func(h map[string]string) { delete(h, "Authorization") }, `{}`, "MissingAuthenticationToken"},
		"half signed": {func(h map[string]string) { h["Authorization"] = "AWS4-HMAC-SHA256 x" }, `{}`, "IncompleteSignature"},
		"another region": {func(h map[string]string) {
			h["Authorization"] = strings.Replace(h["Authorization"], "eu-west-1", "us-east-1", 1)
		}, `{}`, "valid region"},
		"no date":          {func(h map[string]string) { delete(h, "X-Amz-Date") }, `{}`, "IncompleteSignature"},
		"no operation":     {func(h map[string]string) { h["X-Amz-Target"] = "secretsmanager.Nothing" }, `{}`, "UnknownOperation"},
		"another service":  {func(h map[string]string) { h["X-Amz-Target"] = "ecr.ListSecrets" }, `{}`, "UnknownOperation"},
		"another type":     {func(h map[string]string) { h["Content-Type"] = "application/json" }, `{}`, "SerializationException"},
		"no JSON":          {func(map[string]string) {}, `nothing`, "SerializationException"},
		"unknown member":   {func(map[string]string) {}, `{"Color":"red"}`, "ValidationException"},
		"wrong type":       {func(map[string]string) {}, `{"MaxResults":"many"}`, "SerializationException"},
		"too many results": {func(map[string]string) {}, `{"MaxResults":101}`, "ValidationException"},
		"a made-up page":   {func(map[string]string) {}, `{"NextToken":"x"}`, "InvalidNextToken"},
		"missing member":   {func(h map[string]string) { h["X-Amz-Target"] = "secretsmanager.GetSecretValue" }, `{}`, "ValidationException"},
	} {
		headers := map[string]string{}
		for k, v := range good {
			headers[k] = v
		}
		c.change(headers)
		r, err := http.NewRequest("POST", server.URL, strings.NewReader(c.body))
		ok(t, err)
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		answer, err := server.Client().Do(r)
		ok(t, err)
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		ok(t, err)
		if !strings.Contains(string(body), c.want) || (answer.StatusCode == 200) != (name == "good") {
			t.Errorf("%s: %d %s, want %s", name, answer.StatusCode, body, c.want)
		}
	}
	// Over a network, a lost answer is a cut connection.
	f.Inject(func(Call) Fault { return Fault{Kind: Lost} })
	f.Bare("db")
	c := sm.New(sm.Options{Region: "eu-west-1", BaseEndpoint: &server.URL, Credentials: f.Keys(), HTTPClient: server.Client(), Retryer: aws.NopRetryer{}})
	if _, err := put(c, "db", "x", token(1)); err == nil || len(f.Made("db")) != 1 {
		t.Errorf("made %v, %v", f.Made("db"), err)
	}
}
