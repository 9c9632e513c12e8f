package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
)

// Order is a pack to install: of a catalog, by its id, in a version or the highest; or what a catalog lists under an address, with its digest. What is
// given besides must be right.
type Order struct {
	CatalogID, PackID, Version string
	URL, SHA256                string
	Force, Upgrade, Inactive   bool
}

func (o Order) tidy() (Order, error) {
	for _, s := range []*string{&o.CatalogID, &o.PackID, &o.Version, &o.URL, &o.SHA256} {
		*s = strings.TrimSpace(*s)
	}
	o.SHA256 = strings.ToLower(o.SHA256)
	switch {
	case o.URL != "" && o.SHA256 == "":
		return o, fault.New(fault.Invalid, "sha256 required")
	case o.URL == "" && (o.CatalogID == "" || o.PackID == ""):
		return o, fault.New(fault.Invalid, "catalog_id and pack_id required")
	}
	return o, nil
}

var errMismatch = fault.New(fault.Invalid, "sha256 mismatch")

// Install installs a pack and answers its record. Catalogs are read anew: what was withdrawn from one is not installed.
func (m *Market) Install(ctx context.Context, by identity.Identity, o Order) (registry.Record, error) {
	o, err := o.tidy()
	if err != nil {
		return registry.Record{}, err
	}
	all, err := m.catalogs(ctx)
	if err != nil {
		return registry.Record{}, err
	}
	hosts := Hosts(all)
	asked := slices.DeleteFunc(all, func(c Catalog) bool { return !c.Enabled || o.CatalogID != "" && c.ID != o.CatalogID })
	have := m.read(ctx, asked)
	if ctx.Err() != nil {
		return registry.Record{}, ctx.Err()
	}
	e, err := choose(have, o)
	if err != nil {
		return registry.Record{}, err
	}
	bundle, err := m.download(ctx, e, hosts)
	if err != nil {
		return registry.Record{}, err
	}
	return m.Installer.Install(ctx, by, bundle, install.Options{Force: o.Force, Upgrade: o.Upgrade, Inactive: o.Inactive, ID: e.ID, Version: e.Version})
}

// choose finds what was ordered: of all that fits the highest version, of equal ones the first catalog's.
func choose(have []shelf, o Order) (Entry, error) {
	var best Entry
	found, fits := false, func(have, want string) bool { return want == "" || have == want }
	for _, s := range have {
		for _, e := range s.entries {
			if !fits(e.URL, o.URL) || !fits(e.ID, o.PackID) || !fits(e.Version, o.Version) {
				continue
			}
			found = true
			if o.URL != "" && e.SHA256 != o.SHA256 { // catalogs may differ about what is there
				continue
			}
			if best.ID == "" || pack.CompareVersions(e.Version, best.Version) > 0 {
				best = e
			}
		}
	}
	switch {
	case !found:
		return Entry{}, notFound(have)
	case !fits(best.SHA256, o.SHA256):
		return Entry{}, errMismatch
	}
	return best, nil
}

// notFound says which catalogs could not be read: what was ordered may be in one of them.
func notFound(have []shelf) error {
	f, problems := fault.New(fault.NotFound, "marketplace pack not found"), map[string]string{}
	for _, s := range have {
		if s.problem != "" {
			problems[s.ID] = s.problem
		}
	}
	if len(problems) == 0 {
		return f
	}
	return f.With("catalog_errors", problems)
}

// download reads an archive, and checks that it is the one that the catalog lists.
func (m *Market) download(ctx context.Context, e Entry, hosts []string) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, bundleWait)
	defer cancel()
	bundle, err := m.Fetch.Get(bounded, e.URL, hosts, MaxBundle)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if f, ok := errors.AsType[*fetch.Error](err); ok && f.Refused {
		return nil, fault.New(fault.Invalid, "%s", f.Reason)
	}
	if err != nil {
		m.Log.WarnContext(ctx, "a pack cannot be downloaded", "pack", e.ID, "url", e.URL, "error", err)
		return nil, fault.New(fault.Invalid, "download failed: %s", reason(err, bundleWait))
	}
	if canonical.Hash(bundle) != e.SHA256 {
		return nil, errMismatch
	}
	return bundle, nil
}
