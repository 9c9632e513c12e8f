// Package users is the function of the routes that manage users and API keys.
package users

import (
	"cmp"
	"context"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
)

// Service serves cordum.v1.Users.
type Service struct {
	cordumv1.UnimplementedUsersServer
	accounts *user.Accounts
}

// New makes the service.
func New(accounts *user.Accounts) *Service { return &Service{accounts: accounts} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Users_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterUsersHandlerServer(ctx, mux, s)
	})
}

// CreateUser adds a user.
func (s *Service) CreateUser(ctx context.Context, req *cordumv1.CreateUserRequest) (*cordumv1.User, error) {
	by := identity.From(ctx)
	if err := s.accounts.On(); err != nil {
		return nil, err
	}
	named := strings.TrimSpace(req.GetTenant())
	if !by.CrossTenant {
		if err := auth.SameTenant(ctx, named); err != nil {
			return nil, err
		}
	}
	tenant, err := auth.TenantNamed(cmp.Or(named, by.Tenant))
	if err != nil {
		return nil, err
	}
	u, err := s.accounts.Users.Create(ctx, by, user.New{
		Tenant: tenant, Name: req.GetUsername(), Email: req.GetEmail(), Password: req.GetPassword(), Role: req.GetRole(),
	})
	if err != nil {
		return nil, err
	}
	return view.User(u), nil
}

// ListUsers lists the users of the tenant.
func (s *Service) ListUsers(ctx context.Context, _ *cordumv1.ListUsersRequest) (*cordumv1.ListUsersResponse, error) {
	if err := s.accounts.On(); err != nil {
		return nil, err
	}
	all, err := s.accounts.Users.List(ctx, identity.From(ctx).Tenant)
	out := &cordumv1.ListUsersResponse{}
	for _, u := range all {
		out.Items = append(out.Items, view.User(u))
	}
	return out, err
}

// UpdateUser changes what is given.
func (s *Service) UpdateUser(ctx context.Context, req *cordumv1.UpdateUserRequest) (*cordumv1.User, error) {
	if err := s.accounts.On(); err != nil {
		return nil, err
	}
	change := user.Change{Email: req.GetEmail(), Display: req.GetDisplayName()}
	if roles := req.GetRoles(); len(roles) > 0 {
		change.Role = roles[0]
	}
	u, err := s.accounts.Users.Update(ctx, identity.From(ctx), req.GetId(), change)
	if err != nil {
		return nil, err
	}
	return view.User(u), nil
}

var errOwnAccount = fault.New(fault.Invalid, "cannot delete your own account")

// DeleteUser disables a user.
func (s *Service) DeleteUser(ctx context.Context, req *cordumv1.DeleteUserRequest) (*emptypb.Empty, error) {
	if err := s.accounts.On(); err != nil {
		return nil, err
	}
	by := identity.From(ctx)
	if by.User != "" && strings.EqualFold(by.User, req.GetId()) {
		return nil, errOwnAccount
	}
	return &emptypb.Empty{}, s.accounts.Users.Delete(ctx, by, req.GetId())
}

// SetPassword replaces a user's password.
func (s *Service) SetPassword(ctx context.Context, req *cordumv1.SetPasswordRequest) (*emptypb.Empty, error) {
	if err := s.accounts.On(); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.accounts.Users.SetPassword(ctx, identity.From(ctx), req.GetId(), req.GetPassword())
}

// ListApiKeys lists the managed keys of the tenant.
func (s *Service) ListApiKeys(ctx context.Context, _ *cordumv1.ListApiKeysRequest) (*cordumv1.ListApiKeysResponse, error) { //nolint:revive // the contract names it
	all, err := s.accounts.Keys.List(ctx, identity.From(ctx).Tenant)
	out := &cordumv1.ListApiKeysResponse{}
	for _, k := range all {
		out.Items = append(out.Items, view.APIKey(k))
	}
	return out, err
}

// CreateApiKey makes a managed key.
func (s *Service) CreateApiKey(ctx context.Context, req *cordumv1.CreateApiKeyRequest) (*cordumv1.CreateApiKeyResponse, error) { //nolint:revive // the contract names it
	k, secret, err := s.accounts.Keys.Create(ctx, identity.From(ctx), user.NewKey{Name: req.GetName(), Scopes: req.GetScopes(), Expires: req.GetExpiresAt()})
	if err != nil {
		return nil, err
	}
	return &cordumv1.CreateApiKeyResponse{Key: view.APIKey(k), Secret: secret}, nil
}

// DeleteApiKey ends a managed key.
func (s *Service) DeleteApiKey(ctx context.Context, req *cordumv1.DeleteApiKeyRequest) (*emptypb.Empty, error) { //nolint:revive // the contract names it
	return &emptypb.Empty{}, s.accounts.Keys.Delete(ctx, identity.From(ctx), req.GetId())
}
