// Package marketplace is the function of the routes of the marketplace.
package marketplace

import (
	"context"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/marketplace"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// Service serves cordum.v1.Marketplace.
type Service struct {
	cordumv1.UnimplementedMarketplaceServer
	market *marketplace.Market
}

// New makes the service. asks is what the plane asks of packs.
func New(d *dispatch.Dispatcher, f fetch.Fetcher, asks pack.Options) *Service {
	packs := install.New(d, asks)
	return &Service{market: &marketplace.Market{
		Config: packs.Config, Fetch: f, Installer: packs, Installed: packs.Packs.All, Clock: d.Clock, Log: d.Log,
		Turn: turn.Turn{Yield: d.Yield, Name: "marketplace"},
	}}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Marketplace_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterMarketplaceHandlerServer(ctx, mux, s)
	})
}

// ListMarketplacePacks lists packs.
func (s *Service) ListMarketplacePacks(ctx context.Context, _ *cordumv1.ListMarketplacePacksRequest) (*cordumv1.ListMarketplacePacksResponse, error) {
	l, err := s.market.List(ctx)
	if err != nil {
		return nil, err
	}
	out := &cordumv1.ListMarketplacePacksResponse{FetchedAt: l.FetchedAt.UTC().Format(time.RFC3339), Cached: l.Cached}
	for _, c := range l.Catalogs {
		out.Catalogs = append(out.Catalogs, &cordumv1.Catalog{
			Id: c.ID, Title: c.Title, Url: c.URL, Enabled: c.Enabled, UpdatedAt: c.UpdatedAt, Error: c.Problem,
		})
	}
	for _, i := range l.Items {
		out.Items = append(out.Items, &cordumv1.MarketplacePack{
			Id: i.ID, Version: i.Version, Title: i.Title, Description: i.Description, Author: i.Author, Homepage: i.Homepage, Source: i.Source,
			Image: i.Image, License: i.License, Url: i.URL, Sha256: i.SHA256, CatalogId: i.Catalog.ID, CatalogTitle: i.Catalog.Title,
			Capabilities: i.Capabilities, Requires: i.Requires, RiskTags: i.RiskTags, InstalledVersion: i.Installed.Version,
			InstalledStatus: i.Installed.Status, InstalledAt: i.Installed.InstalledAt,
		})
	}
	return out, nil
}

// InstallMarketplacePack installs a pack.
func (s *Service) InstallMarketplacePack(ctx context.Context, req *cordumv1.InstallMarketplacePackRequest) (*cordumv1.Pack, error) {
	record, err := s.market.Install(ctx, identity.From(ctx), marketplace.Order{
		CatalogID: req.GetCatalogId(), PackID: req.GetPackId(), Version: req.GetVersion(), URL: req.GetUrl(), SHA256: req.GetSha256(),
		Force: req.GetForce(), Upgrade: req.GetUpgrade(), Inactive: req.GetInactive(),
	})
	if err != nil {
		return nil, err
	}
	return view.Pack(record)
}
