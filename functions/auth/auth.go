// Package auth is the function of the routes that open, show and close sessions.
package auth

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
)

// Service serves cordum.v1.Auth.
type Service struct {
	cordumv1.UnimplementedAuthServer
	accounts *user.Accounts
	gate     *auth.Gate
}

// New makes the service. The gate knows API keys, which open sessions too.
func New(accounts *user.Accounts, gate *auth.Gate) *Service {
	return &Service{accounts: accounts, gate: gate}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Auth_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterAuthHandlerServer(ctx, mux, s)
	})
}

// GetAuthConfig answers how one can log in. Sessions of API keys are always to be had.
func (s *Service) GetAuthConfig(context.Context, *cordumv1.GetAuthConfigRequest) (*cordumv1.AuthConfig, error) {
	return &cordumv1.AuthConfig{
		PasswordEnabled: true, UserAuthEnabled: s.accounts.Passwords, SamlEnterprise: true, SessionTtl: short(s.accounts.SessionTTL), RequireRbac: true,
		DefaultTenant: s.gate.Tenant(),
	}, nil
}

// short writes a duration without the zeros at its end: 24h, not 24h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if rest, ok := strings.CutSuffix(text, "m0s"); ok {
		text = rest + "m"
	}
	if rest, ok := strings.CutSuffix(text, "h0m"); ok {
		text = rest + "h"
	}
	return text
}

// Login opens a session with a password or with an API key.
func (s *Service) Login(ctx context.Context, req *cordumv1.LoginRequest) (*cordumv1.Session, error) {
	var by auth.Credential
	opened, err := s.accounts.Login(ctx, user.Login{
		Tenant: strings.TrimSpace(req.GetTenant()), Default: s.gate.Tenant(), Name: req.GetUsername(), Password: req.GetPassword(),
		Address: auth.CallerOf(ctx).Address,
	}, func(ctx context.Context, secret string) (h user.Holder, found bool, err error) {
		by, found, err = s.gate.Key(ctx, secret)
		found = found && by.Role != identity.Worker // a worker has no use for a session
		return user.Holder{Key: by.ID, Tenant: by.Tenant, CrossTenant: by.CrossTenant, Expires: by.Expires}, found, err
	})
	if err != nil {
		return nil, err
	}
	who := view.User(opened.User)
	if opened.User.ID == "" {
		who = keyUser(identity.Identity{Home: by.Tenant, Role: by.Role, Principal: by.Principal, PrincipalFixed: true, KeyID: by.ID})
	}
	return &cordumv1.Session{Token: opened.Token, ExpiresAt: view.Second(opened.Expires), User: who}, nil
}

// GetSession answers who the presented credential is.
func (s *Service) GetSession(ctx context.Context, _ *cordumv1.GetSessionRequest) (*cordumv1.Session, error) {
	id := identity.From(ctx)
	out := &cordumv1.Session{ExpiresAt: view.Second(id.Expires), User: keyUser(id)}
	if id.Session != "" {
		out.Token = auth.CallerOf(ctx).Token
	}
	if id.User == "" {
		return out, nil
	}
	u, err := s.accounts.Users.Get(ctx, id.Home, id.User)
	if err != nil {
		return nil, err
	}
	out.User = view.User(u)
	return out, nil
}

// keyUser shows a credential that is nobody's as a user.
func keyUser(id identity.Identity) *cordumv1.User {
	principal := ""
	if id.PrincipalFixed {
		principal = id.Principal
	}
	key := cmp.Or(id.OpenedBy, id.KeyID)
	name := key[strings.LastIndexByte(key, '-')+1:] // digits of a hash
	return &cordumv1.User{
		Id: cmp.Or(principal, "user-"+name[:min(8, len(name))]), Username: cmp.Or(principal, "api-user"), Tenant: id.Home,
		Roles: []string{string(id.Role)}, Source: "api_key",
	}
}

// Logout ends the presented session.
func (s *Service) Logout(ctx context.Context, _ *cordumv1.LogoutRequest) (*emptypb.Empty, error) {
	if by := identity.From(ctx); by.Session != "" {
		return &emptypb.Empty{}, s.accounts.Sessions.Close(ctx, by.Home, by.Session)
	}
	return &emptypb.Empty{}, nil
}

// ChangePassword replaces the caller's own password.
func (s *Service) ChangePassword(ctx context.Context, req *cordumv1.ChangePasswordRequest) (*emptypb.Empty, error) {
	err := s.accounts.ChangePassword(ctx, identity.From(ctx), req.GetCurrentPassword(), req.GetNewPassword(), auth.CallerOf(ctx).Address)
	return &emptypb.Empty{}, err
}
