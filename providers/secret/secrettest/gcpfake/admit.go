package gcpfake

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// denial is a permission that is missing.
type denial struct{ permission, secret string }

// Deny takes away a permission such as "secretmanager.versions.access" on one
// secret, or with "" on all and the project.
func (s *Server) Deny(permission, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = append(s.denied, denial{permission, secret})
}

// AllowAll gives all permissions back.
func (s *Server) AllowAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = nil
}

var permissions = map[string]string{
	"ListSecrets": "secrets.list", "CreateSecret": "secrets.create", "GetSecret": "secrets.get", "UpdateSecret": "secrets.update", "DeleteSecret": "secrets.delete",
	"AddSecretVersion": "versions.add", "ListSecretVersions": "versions.list", "GetSecretVersion": "versions.get", "AccessSecretVersion": "versions.access",
	"DisableSecretVersion": "versions.disable", "EnableSecretVersion": "versions.enable", "DestroySecretVersion": "versions.destroy",
}

// Limits are the service's, per minute and project, and per second.
const (
	AccessPerMinute  = 90_000
	ReadPerMinute    = 600
	WritePerMinute   = 600
	SecretPerSecond  = 2 // adds and updates of one global secret
	VersionPerSecond = 1 // changes of state of one version
)

// admit is everything that is decided before the request is looked at.
func (s *Server) admit(method string, request any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return detailed(codes.PermissionDenied, "Secret Manager API has not been used in project "+number+" before or it is disabled.",
			&errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com", Metadata: map[string]string{"service": "secretmanager.googleapis.com", "consumer": "projects/" + number}})
	}
	resource := resourceOf(request)
	name, err := s.place(resource)
	if err != nil {
		return err
	}
	permission := "secretmanager." + permissions[method]
	for _, d := range s.denied {
		if d.permission == permission && (d.secret == "" || d.secret == name) {
			return detailed(codes.PermissionDenied, fmt.Sprintf("Permission '%s' denied for resource '%s' (or it may not exist).", permission, resource),
				&errdetails.ErrorInfo{Reason: "IAM_PERMISSION_DENIED", Domain: "iam.googleapis.com", Metadata: map[string]string{"permission": permission, "resource": resource}})
		}
	}
	if s.options.NoQuotas {
		return nil
	}
	return s.quota(method, name, resource)
}

func (s *Server) quota(method, name, resource string) error {
	now := s.clock.Now()
	group, limit := "write", WritePerMinute
	switch {
	case method == "AccessSecretVersion":
		group, limit = "access", AccessPerMinute
	case strings.HasPrefix(method, "Get"), strings.HasPrefix(method, "List"):
		group, limit = "read", ReadPerMinute
	}
	if !s.spend(group, now, time.Minute, limit) {
		return detailed(codes.ResourceExhausted, fmt.Sprintf("Quota exceeded for quota metric '%s requests' and limit '%s requests per minute' of service 'secretmanager.googleapis.com'.", group, group),
			&errdetails.RetryInfo{RetryDelay: durationpb.New(5 * time.Second)})
	}
	bySecret, byVersion := SecretPerSecond, VersionPerSecond
	if s.options.Location != "" {
		bySecret, byVersion = 80, 50
	}
	switch method {
	case "AddSecretVersion", "UpdateSecret":
		if !s.spend("secret "+name, now, time.Second, bySecret) {
			return status.Error(codes.ResourceExhausted, "Too many writes of one secret.")
		}
	case "DisableSecretVersion", "EnableSecretVersion", "DestroySecretVersion":
		if !s.spend("version "+resource, now, time.Second, byVersion) {
			return status.Error(codes.ResourceExhausted, "Too many changes of one version.")
		}
	}
	return nil
}

// spend takes one of limit in any span.
func (s *Server) spend(key string, now time.Time, span time.Duration, limit int) bool {
	recent := s.spent[key]
	i := 0
	for i < len(recent) && !recent[i].After(now.Add(-span)) {
		i++
	}
	recent = slices.Delete(recent, 0, i)
	if len(recent) >= limit {
		s.refused++
		s.spent[key] = recent
		return false
	}
	s.spent[key] = append(recent, now)
	return true
}

// place checks that a resource is of this project and endpoint, and gives the
// secret's id in it.
func (s *Server) place(resource string) (string, error) {
	wrong := status.Errorf(codes.InvalidArgument, "The resource %q is not of this endpoint's project and location.", resource)
	part := strings.Split(resource, "/")
	if len(part) < 2 || part[0] != "projects" || part[1] != s.options.Project && part[1] != number {
		return "", detailed(codes.PermissionDenied, fmt.Sprintf("Permission denied on resource '%s' (or it may not exist).", resource), nil)
	}
	part = part[2:]
	if s.options.Location != "" {
		if len(part) < 2 || part[0] != "locations" || part[1] != s.options.Location {
			return "", wrong
		}
		part = part[2:]
	}
	switch {
	case len(part) == 0:
		return "", nil
	case len(part) == 2 && part[0] == "secrets", len(part) == 4 && part[0] == "secrets" && part[2] == "versions":
		return part[1], nil
	}
	return "", wrong
}

func detailed(code codes.Code, message string, detail protoadapt.MessageV1) error {
	st := status.New(code, message)
	if detail != nil {
		if with, err := st.WithDetails(detail); err == nil {
			st = with
		}
	}
	return st.Err()
}

var _ pb.SecretManagerServiceServer = (*Server)(nil)
