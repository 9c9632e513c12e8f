// Package packs is the function of the routes of packs: what is installed, to install, to take away again, and to ask whether the policy decides as a
// pack expects.
package packs

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/artifact"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Service serves cordum.v1.Packs.
type Service struct {
	cordumv1.UnimplementedPacksServer
	packs     *install.Installer
	kernel    *asking.Kernel
	artifacts *artifact.Store
	clock     clock.Clock
}

// New makes the service. asks is what the plane asks of packs.
func New(d *dispatch.Dispatcher, asks pack.Options) *Service {
	return &Service{
		packs: install.New(d, asks), kernel: asking.NewKernel(d), artifacts: &artifact.Store{Table: d.Jobs.Table, Blobs: d.Jobs.Blobs}, clock: d.Clock,
	}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Together(
		rest.Plain(cordumv1.Packs_InstallPack_FullMethodName, s.install),
		rest.Service(cordumv1.Packs_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
			return cordumv1.RegisterPacksHandlerServer(ctx, mux, s)
		}),
	)
}

var errNotFound = fault.New(fault.NotFound, "not found")

// ListPacks lists what is or was installed.
func (s *Service) ListPacks(ctx context.Context, _ *cordumv1.ListPacksRequest) (*cordumv1.ListPacksResponse, error) {
	all, err := s.packs.Packs.All(ctx)
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListPacksResponse{}
	for _, id := range slices.Sorted(maps.Keys(all.Records)) {
		p, err := view.Pack(all.Records[id])
		if err != nil {
			return nil, err
		}
		res.Items = append(res.Items, p)
	}
	return res, nil
}

// GetPack answers a pack's record.
func (s *Service) GetPack(ctx context.Context, req *cordumv1.GetPackRequest) (*cordumv1.Pack, error) {
	r, err := s.packs.Installed(ctx, req.GetId())
	if fault.Is(err, fault.NotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return view.Pack(r)
}

// InstallPack installs a pack.
func (s *Service) InstallPack(ctx context.Context, req *cordumv1.InstallPackRequest) (*cordumv1.Pack, error) {
	id := identity.From(ctx)
	bundle := req.GetBundle()
	switch {
	case req.GetBundlePtr() != "" && len(bundle) > 0:
		return nil, fault.New(fault.Invalid, "bundle or bundle_ptr, not both")
	case req.GetBundlePtr() != "":
		artifactID, err := artifact.ParsePointer(req.GetBundlePtr())
		if err != nil {
			return nil, err
		}
		if bundle, _, err = s.artifacts.Read(ctx, id.Tenant, artifactID, archive.MaxBundle, s.clock.Now()); err != nil {
			return nil, err
		}
	case len(bundle) == 0:
		return nil, fault.New(fault.Invalid, "bundle file required")
	default:
		if err := archive.CheckName(req.GetFilename()); err != nil {
			return nil, err
		}
	}
	r, err := s.packs.Install(ctx, id, bundle, install.Options{Force: req.GetForce(), Upgrade: req.GetUpgrade(), Inactive: req.GetInactive()})
	if err != nil {
		return nil, err
	}
	return view.Pack(r)
}

// install is InstallPack as a multipart form.
func (s *Service) install(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
	req, err := upload(w, r)
	if err != nil {
		return err
	}
	res, err := s.InstallPack(r.Context(), req)
	if err != nil {
		return err
	}
	return rest.Answer(w, res)
}

// UninstallPack takes a pack away.
func (s *Service) UninstallPack(ctx context.Context, req *cordumv1.UninstallPackRequest) (*cordumv1.Pack, error) {
	r, err := s.packs.Uninstall(ctx, identity.From(ctx), req.GetId(), req.GetPurge())
	if err != nil {
		return nil, err
	}
	return view.Pack(r)
}

// VerifyPack asks the policy in force about each job that the pack names.
func (s *Service) VerifyPack(ctx context.Context, req *cordumv1.VerifyPackRequest) (*cordumv1.VerifyPackResponse, error) {
	stored, err := s.packs.Installed(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	r, err := pack.ReadRecord(stored.JSON)
	if err != nil {
		return nil, err
	}
	res := &cordumv1.VerifyPackResponse{PackId: stored.ID}
	for _, t := range r.Tests.PolicySimulations {
		result, err := s.simulate(ctx, stored.ID, t)
		if err != nil {
			return nil, err
		}
		res.Results = append(res.Results, result)
	}
	return res, nil
}

// simulate asks about one job. Its tenant is the caller's, whatever the pack says.
func (s *Service) simulate(ctx context.Context, packID string, t pack.Simulation) (*cordumv1.VerifyResult, error) {
	id, q := identity.From(ctx), t.Request
	d, err := s.kernel.Verdict(ctx, &asking.Question{
		Request: policy.Request{
			Topic: q.Topic, Tenant: id.Tenant, Principal: id.Principal, ActorID: cmp.Or(q.ActorID, id.Principal), ActorType: q.ActorType, Capability: q.Capability,
			RiskTags: q.RiskTags, Requires: q.Requires, PackID: cmp.Or(q.PackID, packID),
		},
		Subject: config.Subject{Tenant: id.Tenant},
	})
	if err != nil {
		return nil, err
	}
	r := t.Judge(d.Verdict.String(), d.Reason)
	return &cordumv1.VerifyResult{Name: r.Name, Expected: r.Expected, Got: r.Got, Reason: r.Reason, Ok: r.OK}, nil
}
