package awsfake

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

type tag struct{ Key, Value string }

type region struct{ Region, KmsKeyId string }

// input is every member that an operation may have.
type input struct {
	SecretId, Name, ClientRequestToken, SecretString, VersionId, VersionStage *string
	MoveToVersionId, RemoveFromVersionId, Description, KmsKeyId, NextToken    *string
	SecretBinary                                                              *string
	VersionStages, SecretIdList, TagKeys, RemoveReplicaRegions                []string
	Tags                                                                      []tag
	AddReplicaRegions                                                         []region
	ForceDeleteWithoutRecovery, IncludePlannedDeletion, IncludeDeprecated     *bool
	ForceOverwriteReplicaSecret                                               *bool
	RecoveryWindowInDays                                                      *int64
	MaxResults                                                                *int
	Filters                                                                   []struct {
		Key    string
		Values []string
	}
}

// operation is one of the service's: the members it takes and needs.
type operation struct {
	takes, needs string
	reads        bool // of one secret
	run          func(f *Fake, in *input, s *secret) (any, *refusal)
}

var operations = map[string]operation{
	"CreateSecret":                 {"Name ClientRequestToken Description KmsKeyId SecretString SecretBinary Tags AddReplicaRegions ForceOverwriteReplicaSecret", "Name", false, (*Fake).create},
	"PutSecretValue":               {"SecretId ClientRequestToken SecretString SecretBinary VersionStages", "SecretId", false, (*Fake).put},
	"UpdateSecretVersionStage":     {"SecretId VersionStage MoveToVersionId RemoveFromVersionId", "SecretId VersionStage", false, (*Fake).stage},
	"UpdateSecret":                 {"SecretId ClientRequestToken Description KmsKeyId", "SecretId", false, (*Fake).update},
	"DescribeSecret":               {"SecretId", "SecretId", true, (*Fake).describe},
	"GetSecretValue":               {"SecretId VersionId VersionStage", "SecretId", true, (*Fake).get},
	"ListSecretVersionIds":         {"SecretId IncludeDeprecated MaxResults NextToken", "SecretId", true, (*Fake).versionIDs},
	"ListSecrets":                  {"Filters IncludePlannedDeletion MaxResults NextToken", "", false, (*Fake).list},
	"BatchGetSecretValue":          {"SecretIdList", "SecretIdList", false, (*Fake).batch},
	"DeleteSecret":                 {"SecretId RecoveryWindowInDays ForceDeleteWithoutRecovery", "SecretId", false, (*Fake).remove},
	"RestoreSecret":                {"SecretId", "SecretId", false, (*Fake).restore},
	"TagResource":                  {"SecretId Tags", "SecretId Tags", false, (*Fake).tag},
	"UntagResource":                {"SecretId TagKeys", "SecretId TagKeys", false, (*Fake).untag},
	"ReplicateSecretToRegions":     {"SecretId AddReplicaRegions ForceOverwriteReplicaSecret", "SecretId AddReplicaRegions", false, (*Fake).replicate},
	"RemoveRegionsFromReplication": {"SecretId RemoveReplicaRegions", "SecretId RemoveReplicaRegions", false, (*Fake).unreplicate},
}

// json carries out one call of Secrets Manager.
func (f *Fake) json(r *http.Request, body []byte, name string, isOurs bool) (any, *refusal) {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		return nil, refuse("SerializationException", "want POST of application/x-amz-json-1.1")
	}
	op, found := operations[name]
	if !found || !isOurs {
		return nil, refuse("UnknownOperationException", "%s", name)
	}
	if err := f.signed(r, "secretsmanager"); err != nil {
		return nil, err
	}
	if f.Rates && !f.budget(name).take(f.Clock.Now()) {
		return nil, refuse("ThrottlingException", "Rate exceeded")
	}
	var members map[string]json.RawMessage
	in := &input{}
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, refuse("SerializationException", "the body is no JSON object")
	}
	for member := range members {
		if !slices.Contains(strings.Fields(op.takes), member) {
			return nil, refuse("ValidationException", "%s has no parameter %s", name, member)
		}
	}
	for _, member := range strings.Fields(op.needs) {
		if members[member] == nil {
			return nil, refuse("ValidationException", "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return nil, refuse("SerializationException", "a parameter has another type")
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	id := ""
	if in.SecretId != nil {
		id = *in.SecretId
	}
	s := f.find(id)
	on := id
	if s != nil {
		on = s.name
	} else if in.Name != nil {
		on = *in.Name
	}
	if err := f.permit(name, on); err != nil {
		return nil, err
	}
	if in.SecretId != nil {
		if op.reads {
			s = f.seen(s, on)
		}
		if s == nil && (name != "DeleteSecret" || in.ForceDeleteWithoutRecovery == nil || !*in.ForceDeleteWithoutRecovery) {
			return nil, notFound()
		}
	}
	before := s
	if !op.reads && s != nil {
		before = s.clone()
	}
	out, err := op.run(f, in, s)
	if err == nil && !op.reads && name != "ListSecrets" && name != "BatchGetSecretValue" {
		f.lag(on, before)
	}
	return out, err
}

func notFound() *refusal {
	return refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

// find takes names and whole ARNs.
func (f *Fake) find(id string) *secret {
	if s := f.secrets[id]; s != nil {
		return s
	}
	for _, s := range f.secrets {
		if s.arn == id {
			return s
		}
	}
	return nil
}

// past is what readers of a secret see for a while after a write.
type past struct {
	secret *secret // nil: there was none
	reads  int
}

// lag makes the next reads see what was before. While older reads are due,
// these are what is seen.
func (f *Fake) lag(name string, before *secret) {
	if f.Lag == 0 {
		return
	}
	if p := f.pasts[name]; p != nil && p.reads > 0 {
		p.reads = f.Lag
		return
	}
	f.pasts[name] = &past{before, f.Lag}
}

// seen is what a read sees.
func (f *Fake) seen(s *secret, name string) *secret {
	if p := f.pasts[name]; p != nil && p.reads > 0 {
		p.reads--
		return p.secret
	}
	return s
}

func (f *Fake) permit(action, name string) *refusal {
	if !f.denied[action+" "+name] && !f.denied[action+" *"] {
		return nil
	}
	arn := "arn:aws:secretsmanager:" + f.Region + ":" + f.Account + ":secret:" + name
	if s := f.secrets[name]; s != nil {
		arn = s.arn
	}
	if name == "" {
		return refuse("AccessDeniedException", "User: %s is not authorized to perform: secretsmanager:%s because no identity-based policy allows the secretsmanager:%s action", f.Principal(), action, action)
	}
	return refuse("AccessDeniedException", "User: %s is not authorized to perform: secretsmanager:%s on resource: %s because no identity-based policy allows the secretsmanager:%s action", f.Principal(), action, arn, action)
}

// useKey is KMS's word on a key.
func (f *Fake) useKey(key string, decrypt bool) *refusal {
	switch f.keys[key] {
	case "denied":
		return refuse("AccessDeniedException", "Access to KMS is not allowed")
	case "disabled":
		if decrypt {
			return refuse("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key.")
		}
		return refuse("EncryptionFailure", "Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the KMS key is available, enabled, and not in an invalid state.")
	}
	return nil
}

var (
	nameForm  = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)
	idForm    = regexp.MustCompile(`^[A-Za-z0-9/_+=.@:-]+$`)
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9-]{32,64}$`)
)

// check is the validation that comes before anything is looked up.
func (in *input) check() *refusal {
	invalid := func(member, value, constraint string) *refusal {
		return refuse("ValidationException", "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, member, constraint)
	}
	if in.Name != nil && !nameForm.MatchString(*in.Name) {
		return refuse("ValidationException", "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
	}
	for member, value := range map[string]*string{"secretId": in.SecretId} {
		if value != nil && !idForm.MatchString(*value) {
			return invalid(member, *value, "Member must be a name or an ARN")
		}
	}
	for member, value := range map[string]*string{"clientRequestToken": in.ClientRequestToken, "versionId": in.VersionId, "moveToVersionId": in.MoveToVersionId, "removeFromVersionId": in.RemoveFromVersionId} {
		if value != nil && !tokenForm.MatchString(*value) {
			return invalid(member, *value, "Member must have length between 32 and 64")
		}
	}
	if in.SecretString != nil && in.SecretBinary != nil {
		return refuse("InvalidParameterException", "You can't specify both a binary secret value and a string secret value in the same secret.")
	}
	if in.SecretString != nil && (len(*in.SecretString) == 0 || len(*in.SecretString) > 65536 || !utf8.ValidString(*in.SecretString)) {
		return invalid("secretString", *in.SecretString, "Member must have length between 1 and 65536")
	}
	if in.SecretBinary != nil {
		b, err := base64.StdEncoding.DecodeString(*in.SecretBinary)
		if err != nil || len(b) == 0 || len(b) > 65536 {
			return invalid("secretBinary", *in.SecretBinary, "Member must have length between 1 and 65536")
		}
	}
	for _, label := range append(slices.Clone(in.VersionStages), deref(in.VersionStage)) {
		if len(label) > 256 {
			return invalid("versionStages", label, "Member must have length less than or equal to 256")
		}
	}
	if in.Description != nil && utf8.RuneCountInString(*in.Description) > 2048 {
		return invalid("description", *in.Description, "Member must have length less than or equal to 2048")
	}
	for _, t := range in.Tags {
		if t.Key == "" || utf8.RuneCountInString(t.Key) > 128 || utf8.RuneCountInString(t.Value) > 256 {
			return invalid("tags", t.Key, "Member must have length between 1 and 128")
		}
		if strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return refuse("InvalidParameterException", "Tag keys that begin with aws: are reserved.")
		}
	}
	if len(in.SecretIdList) > 20 {
		return invalid("secretIdList", strconv.Itoa(len(in.SecretIdList)), "Member must have length less than or equal to 20")
	}
	if in.MaxResults != nil && (*in.MaxResults < 1 || *in.MaxResults > 100) {
		return invalid("maxResults", strconv.Itoa(*in.MaxResults), "Member must have value between 1 and 100")
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (in *input) payload() (text *string, binary []byte) {
	if in.SecretBinary != nil {
		binary, _ = base64.StdEncoding.DecodeString(*in.SecretBinary) // checked
	}
	return in.SecretString, binary
}

func (v *version) same(text *string, binary []byte) bool {
	return (v.text == nil) == (text == nil) && deref(v.text) == deref(text) && bytes.Equal(v.binary, binary)
}

// seconds is a time as JSON 1.1 has it.
func seconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return float64(t.UnixMilli()) / 1000
}

func (f *Fake) create(in *input, _ *secret) (any, *refusal) {
	name := *in.Name
	if len(in.Tags) > 0 {
		if err := f.permit("TagResource", name); err != nil {
			return nil, err
		}
	}
	if len(in.AddReplicaRegions) > 0 {
		if err := f.permit("ReplicateSecretToRegions", name); err != nil {
			return nil, err
		}
	}
	text, binary := in.payload()
	if s := f.secrets[name]; s != nil {
		if !s.deleted.IsZero() {
			return nil, refuse("InvalidRequestException", "You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		if v := s.version(deref(in.ClientRequestToken)); v != nil && v.same(text, binary) {
			return map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": v.id}, nil // ignored
		}
		return nil, refuse("ResourceExistsException", "The operation failed because the secret %s already exists.", name)
	}
	if len(in.Tags) > 50 {
		return nil, refuse("InvalidParameterException", "A secret can have at most 50 tags.")
	}
	key := deref(in.KmsKeyId)
	if err := f.useKey(key, false); err != nil {
		return nil, err
	}
	s := f.fresh(name)
	s.description, s.key = deref(in.Description), key
	for _, t := range in.Tags {
		s.tags[t.Key] = t.Value
	}
	out := map[string]any{"ARN": s.arn, "Name": name}
	if text != nil || binary != nil {
		if in.ClientRequestToken == nil {
			return nil, refuse("InvalidParameterException", "ClientRequestToken must be given.")
		}
		v := f.add(s, *in.ClientRequestToken, text, binary)
		s.attach(v, "AWSCURRENT")
		out["VersionId"] = v.id
	}
	if err := f.addReplicas(s, in.AddReplicaRegions); err != nil {
		return nil, err
	}
	f.secrets[name] = s
	return out, nil
}

func (f *Fake) add(s *secret, id string, text *string, binary []byte) *version {
	v := &version{id: id, text: text, binary: binary, created: f.Clock.Now(), key: s.key}
	s.versions = append(s.versions, v)
	s.changed = f.Clock.Now()
	f.made[s.name] = append(f.made[s.name], id)
	return v
}

// writable are the rules of everything that changes a secret.
func (f *Fake) writable(s *secret) *refusal {
	switch {
	case !s.deleted.IsZero():
		return refuse("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	case s.primaryRegion != f.Region:
		return refuse("InvalidParameterException", "Operation not permitted on a replica secret. Call must be made in primary secret's region.")
	}
	return nil
}

func (f *Fake) put(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	if s.owningService != "" {
		return nil, refuse("InvalidRequestException", "You can't perform this operation on the secret because it's managed by %s.", s.owningService)
	}
	text, binary := in.payload()
	if text == nil && binary == nil || in.ClientRequestToken == nil {
		return nil, refuse("InvalidParameterException", "You must provide either SecretString or SecretBinary.")
	}
	answer := func(v *version) any {
		return map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": v.id, "VersionStages": slices.Clone(v.labels)}
	}
	if v := s.version(*in.ClientRequestToken); v != nil {
		if !v.same(text, binary) {
			return nil, refuse("ResourceExistsException", "You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", v.id, s.arn)
		}
		return answer(v), nil // does nothing: the labels do not come back
	}
	if err := f.useKey(s.key, false); err != nil {
		return nil, err
	}
	// Deprecated versions go in the background.
	if len(s.versions) > 100 {
		old := f.Clock.Now().Add(-24 * time.Hour)
		s.versions = slices.DeleteFunc(s.versions, func(v *version) bool { return len(v.labels) == 0 && v.created.Before(old) })
	}
	if len(s.versions) >= f.VersionQuota {
		return nil, refuse("LimitExceededException", "You've exceeded the quota of versions of a secret.")
	}
	stages := in.VersionStages
	if in.VersionStages == nil {
		stages = []string{"AWSCURRENT"}
	}
	if err := s.room(stages...); err != nil {
		return nil, err
	}
	first := len(s.versions) == 0
	v := f.add(s, *in.ClientRequestToken, text, binary)
	for _, label := range stages {
		s.attach(v, label)
	}
	if first {
		s.attach(v, "AWSCURRENT")
	}
	return answer(v), nil
}

// room is the quota of labels: 20 over all versions.
func (s *secret) room(labels ...string) *refusal {
	all := map[string]bool{}
	for _, v := range s.versions {
		for _, l := range v.labels {
			all[l] = true
		}
	}
	for _, l := range labels {
		all[l] = true
	}
	if len(all) > 20 {
		return refuse("LimitExceededException", "You've exceeded the quota of staging labels of a secret.")
	}
	return nil
}

func (f *Fake) stage(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	label := *in.VersionStage
	out := map[string]any{"ARN": s.arn, "Name": s.name}
	holder := s.holder(label)
	if in.RemoveFromVersionId != nil {
		from := s.version(*in.RemoveFromVersionId)
		if from == nil || from != holder {
			return nil, refuse("InvalidParameterException", "The staging label %s is not attached to the version specified in RemoveFromVersionId.", label)
		}
	}
	if in.MoveToVersionId == nil {
		switch {
		case in.RemoveFromVersionId == nil:
			return nil, refuse("InvalidParameterException", "You must give MoveToVersionId or RemoveFromVersionId.")
		case label == "AWSCURRENT":
			return nil, refuse("InvalidParameterException", "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.")
		}
		holder.drop(label)
		return out, nil
	}
	to := s.version(*in.MoveToVersionId)
	if to == nil {
		return nil, refuse("InvalidParameterException", "Not a valid version: %s", *in.MoveToVersionId)
	}
	if holder != nil && holder != to && in.RemoveFromVersionId == nil {
		return nil, refuse("InvalidParameterException", "The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.", label, holder.id)
	}
	if err := s.room(label); err != nil {
		return nil, err
	}
	s.attach(to, label)
	s.changed = f.Clock.Now()
	return out, nil
}

func (f *Fake) update(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	if in.ClientRequestToken != nil && s.version(*in.ClientRequestToken) != nil {
		return nil, refuse("ResourceExistsException", "The token is in use.")
	}
	if in.KmsKeyId != nil {
		if err := f.useKey(*in.KmsKeyId, false); err != nil {
			return nil, err
		}
		s.key = *in.KmsKeyId
		for _, v := range s.versions {
			if slices.Contains(v.labels, "AWSCURRENT") || slices.Contains(v.labels, "AWSPREVIOUS") || slices.Contains(v.labels, "AWSPENDING") {
				v.key = s.key
			}
		}
	}
	if in.Description != nil {
		s.description = *in.Description
	}
	s.changed = f.Clock.Now()
	return map[string]any{"ARN": s.arn, "Name": s.name}, nil
}

func (f *Fake) describe(_ *input, s *secret) (any, *refusal) {
	out := f.entry(s)
	stages := map[string][]string{}
	for _, v := range s.versions {
		if len(v.labels) > 0 {
			stages[v.id] = slices.Clone(v.labels)
		}
	}
	out["VersionIdsToStages"] = stages
	// What has been waiting is settled by being looked at.
	var replicas []map[string]any
	real := f.secrets[s.name]
	if real == nil {
		real = s
	}
	for _, r := range s.replicas {
		replicas = append(replicas, map[string]any{"Region": r.region, "KmsKeyId": r.key, "Status": r.status, "StatusMessage": r.message})
	}
	rest := real.replicas[:0:0]
	for _, r := range real.replicas {
		if r.left > 0 {
			r.left--
			rest = append(rest, r)
			continue
		}
		if r.status == "Detached" {
			continue
		}
		if why := f.failing[r.region]; why != "" {
			r.status, r.message = "Failed", why
		} else if r.status == "InProgress" {
			r.status, r.message = "InSync", ""
		}
		rest = append(rest, r)
	}
	real.replicas = rest
	if len(replicas) > 0 {
		out["ReplicationStatus"] = replicas
	}
	return out, nil
}

// entry is what Describe and List have in common.
func (f *Fake) entry(s *secret) map[string]any {
	out := map[string]any{"ARN": s.arn, "Name": s.name, "CreatedDate": seconds(s.created), "LastChangedDate": seconds(s.changed), "PrimaryRegion": s.primaryRegion}
	var tags []tag
	for k, v := range s.tags {
		tags = append(tags, tag{k, v})
	}
	if tags != nil {
		out["Tags"] = tags
	}
	set := func(member, value string) {
		if value != "" {
			out[member] = value
		}
	}
	set("Description", s.description)
	set("KmsKeyId", s.key)
	set("OwningService", s.owningService)
	set("Type", s.kind)
	if s.rotates {
		out["RotationEnabled"] = true
	}
	if !s.deleted.IsZero() {
		out["DeletedDate"] = seconds(s.deleted)
	}
	return out
}

func (f *Fake) versionIDs(in *input, s *secret) (any, *refusal) {
	all := []any{}
	for _, v := range s.versions {
		if len(v.labels) > 0 || in.IncludeDeprecated != nil && *in.IncludeDeprecated {
			all = append(all, map[string]any{"VersionId": v.id, "VersionStages": slices.Clone(v.labels), "CreatedDate": seconds(v.created)})
		}
	}
	slices.Reverse(all)
	page, next, err := paged(in, all)
	return map[string]any{"ARN": s.arn, "Name": s.name, "Versions": page, "NextToken": next}, err
}

// paged is a page of a list; tokens are opaque.
func paged(in *input, all []any) (page []any, next any, err *refusal) {
	start, size := 0, 100
	if in.NextToken != nil {
		b, bad := base64.StdEncoding.DecodeString(*in.NextToken)
		n, bad2 := strconv.Atoi(strings.TrimPrefix(string(b), "page "))
		if bad != nil || bad2 != nil || n > len(all) {
			return nil, nil, refuse("InvalidNextTokenException", "The NextToken value is invalid.")
		}
		start = n
	}
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	end := min(start+size, len(all))
	if end < len(all) {
		next = base64.StdEncoding.EncodeToString([]byte("page " + strconv.Itoa(end)))
	}
	return all[start:end], next, nil
}

func (f *Fake) list(in *input, _ *secret) (any, *refusal) {
	prefixes := []string{""}
	for _, filter := range in.Filters {
		if filter.Key != "name" || len(filter.Values) == 0 {
			return nil, refuse("InvalidParameterException", "this fake filters by name")
		}
		prefixes = filter.Values
	}
	names := map[string]bool{}
	for name := range f.secrets {
		names[name] = true
	}
	var sorted []*secret
	for name := range names {
		s := f.seen(f.secrets[name], name)
		if s == nil || !s.deleted.IsZero() && (in.IncludePlannedDeletion == nil || !*in.IncludePlannedDeletion) {
			continue
		}
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			sorted = append(sorted, s)
		}
	}
	slices.SortFunc(sorted, func(a, b *secret) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	all := []any{}
	for _, s := range sorted {
		e := f.entry(s)
		stages := map[string][]string{}
		for _, v := range s.versions {
			if len(v.labels) > 0 {
				stages[v.id] = slices.Clone(v.labels)
			}
		}
		e["SecretVersionsToStages"] = stages
		all = append(all, e)
	}
	page, next, err := paged(in, all)
	return map[string]any{"SecretList": page, "NextToken": next}, err
}

// value is a payload as GetSecretValue gives it.
func (f *Fake) value(s *secret, id, label string) (map[string]any, *refusal) {
	if !s.deleted.IsZero() {
		return nil, refuse("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	}
	var v *version
	if id != "" {
		if v = s.version(id); v == nil {
			return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: %s", id)
		}
	} else if v = s.holder(label); v == nil {
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", label)
	}
	if err := f.useKey(v.key, true); err != nil {
		return nil, err
	}
	out := map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": v.id, "VersionStages": slices.Clone(v.labels), "CreatedDate": seconds(v.created)}
	if v.text != nil {
		out["SecretString"] = *v.text
	} else {
		out["SecretBinary"] = base64.StdEncoding.EncodeToString(v.binary)
	}
	return out, nil
}

func (f *Fake) get(in *input, s *secret) (any, *refusal) {
	label := deref(in.VersionStage)
	if label == "" {
		label = "AWSCURRENT"
	}
	out, err := f.value(s, deref(in.VersionId), label)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (f *Fake) batch(in *input, _ *secret) (any, *refusal) {
	values, failed := []any{}, []any{}
	for _, id := range in.SecretIdList {
		err := f.permit("GetSecretValue", id)
		var out map[string]any
		if err == nil {
			if s := f.seen(f.find(id), id); s == nil {
				err = notFound()
			} else {
				out, err = f.value(s, "", "AWSCURRENT")
			}
		}
		if err != nil {
			failed = append(failed, map[string]any{"SecretId": id, "ErrorCode": err.code, "Message": err.message})
		} else {
			values = append(values, out)
		}
	}
	return map[string]any{"SecretValues": values, "Errors": failed}, nil
}

func (f *Fake) remove(in *input, s *secret) (any, *refusal) {
	force := in.ForceDeleteWithoutRecovery != nil && *in.ForceDeleteWithoutRecovery
	days := int64(30)
	if in.RecoveryWindowInDays != nil {
		days = *in.RecoveryWindowInDays
		if force {
			return nil, refuse("InvalidParameterException", "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
		}
		if days < 7 || days > 30 {
			return nil, refuse("InvalidParameterException", "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
		}
	}
	if s == nil { // forced, and there is none
		return map[string]any{"Name": *in.SecretId, "DeletionDate": seconds(f.Clock.Now())}, nil
	}
	if !s.deleted.IsZero() && !force {
		return nil, refuse("InvalidRequestException", "You tried to perform the operation on a secret that's currently marked deleted: it is scheduled for deletion.")
	}
	if s.primaryRegion != f.Region {
		return nil, refuse("InvalidParameterException", "Operation not permitted on a replica secret. Call must be made in primary secret's region.")
	}
	if len(s.replicas) > 0 {
		return nil, refuse("InvalidParameterException", "You can't delete secret %s that still has replica regions [%s].", s.arn, s.replicas[0].region)
	}
	now := f.Clock.Now()
	s.deleted = now.Add(time.Duration(days) * 24 * time.Hour)
	if force {
		s.deleted, s.forced = now.Add(f.ForceDelay), true
	}
	return map[string]any{"ARN": s.arn, "Name": s.name, "DeletionDate": seconds(s.deleted)}, nil
}

func (f *Fake) restore(_ *input, s *secret) (any, *refusal) {
	if s.forced {
		return nil, refuse("InvalidRequestException", "The secret was deleted by force; its deletion can't be taken back.")
	}
	s.deleted = time.Time{}
	return map[string]any{"ARN": s.arn, "Name": s.name}, nil
}

func (f *Fake) tag(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	all := len(s.tags)
	for _, t := range in.Tags {
		if _, found := s.tags[t.Key]; !found {
			all++
		}
	}
	if all > 50 {
		return nil, refuse("InvalidParameterException", "A secret can have at most 50 tags.")
	}
	for _, t := range in.Tags {
		s.tags[t.Key] = t.Value
	}
	return map[string]any{}, nil
}

func (f *Fake) untag(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(s.tags, key)
	}
	return map[string]any{}, nil
}

func (f *Fake) replicate(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	if err := f.addReplicas(s, in.AddReplicaRegions); err != nil {
		return nil, err
	}
	return map[string]any{"ARN": s.arn}, nil
}

func (f *Fake) addReplicas(s *secret, add []region) *refusal {
	for _, r := range add {
		if r.Region == f.Region {
			return refuse("InvalidParameterException", "You can't replicate a secret to its own region.")
		}
		if slices.ContainsFunc(s.replicas, func(have *replica) bool { return have.region == r.Region }) {
			return refuse("InvalidParameterException", "Secret is already replicated to region %s.", r.Region)
		}
	}
	for _, r := range add {
		s.replicas = append(s.replicas, &replica{region: r.Region, key: r.KmsKeyId, status: "InProgress", message: "Replication in progress", left: f.ReplicaDelay})
	}
	return nil
}

func (f *Fake) unreplicate(in *input, s *secret) (any, *refusal) {
	if err := f.writable(s); err != nil {
		return nil, err
	}
	for _, name := range in.RemoveReplicaRegions {
		i := slices.IndexFunc(s.replicas, func(r *replica) bool { return r.region == name })
		if i < 0 || s.replicas[i].status == "Detached" {
			return nil, refuse("InvalidParameterException", "The secret is not replicated to region %s.", name)
		}
	}
	for _, r := range s.replicas {
		if slices.Contains(in.RemoveReplicaRegions, r.region) {
			r.status, r.message, r.left = "Detached", "", f.ReplicaDelay
		}
	}
	return map[string]any{"ARN": s.arn}, nil
}
