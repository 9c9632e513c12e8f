// Package marketplace shows the packs of catalogs, and installs what was chosen of them. A catalog is a JSON document at an address; which ones there
// are stands in the configuration document system/pack_catalogs. Nothing of a catalog is trusted but that an administrator named it: an archive is
// installed only if it has the digest that the catalog says, and is the pack that the catalog says.
package marketplace

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// Market is the marketplace. One is shared by everything in a process; all its methods may be called at once.
type Market struct {
	Config    *config.Store
	Fetch     fetch.Fetcher
	Installer Installer
	// Installed answers the packs that are or were installed.
	Installed func(ctx context.Context) (registry.Snapshot, error)
	Clock     clock.Clock
	Log       *slog.Logger
	// Turn is taken to look at the catalogs that were read, so that many requests read them once. Its Yield is called where catalogs are read at once.
	Turn turn.Turn

	of   []Catalog
	have []shelf
	at   time.Time
}

// Installer installs archives of packs: *install.Installer.
type Installer interface {
	Install(ctx context.Context, by identity.Identity, bundle []byte, o install.Options) (registry.Record, error)
}

// The bounds of what is read, in bytes, and of how long that may take: an API's answer has half a minute, of which installing needs some, too.
const (
	MaxCatalog = 8 << 20
	MaxBundle  = 64 << 20

	catalogsWait = 8 * time.Second
	bundleWait   = 14 * time.Second
)

// shelf is what was read of a catalog.
type shelf struct {
	Catalog

	updatedAt string
	entries   []Entry
	problem   string // why nothing was; "" when it was
}

// fresh is how long catalogs are shown as they were read.
const fresh = 30 * time.Second

// shelves answers what is in the catalogs, read at most half a minute ago, and when; cached says that it was not for this request.
func (m *Market) shelves(ctx context.Context, catalogs []Catalog) (have []shelf, at time.Time, cached bool, err error) {
	if err := m.Turn.Take(ctx); err != nil {
		return nil, at, false, err
	}
	defer m.Turn.Give()
	now := m.Clock.Now()
	if age := now.Sub(m.at); m.have != nil && age >= 0 && age < fresh && slices.Equal(m.of, catalogs) {
		return m.have, m.at, true, nil
	}
	m.have = nil // there is no room for them and for what is read now
	have = m.read(ctx, catalogs)
	if ctx.Err() != nil { // whoever asked has gone: it is not the catalogs that failed
		return nil, at, false, ctx.Err()
	}
	m.of, m.have, m.at = catalogs, have, now
	return have, now, false, nil
}

// read reads catalogs at once. Those that are disabled, or too many, are on the list and not read.
func (m *Market) read(ctx context.Context, catalogs []Catalog) []shelf {
	bounded, cancel := context.WithTimeout(ctx, catalogsWait)
	defer cancel()
	have, hosts, done, reading := make([]shelf, len(catalogs)), Hosts(catalogs), make(chan struct{}), 0
	for i, c := range catalogs {
		have[i].Catalog = c
		if !c.Enabled {
			continue
		}
		if reading == maxCatalogs {
			have[i].problem = "not read: there are too many catalogs"
			continue
		}
		reading++
		go func() {
			defer func() { done <- struct{}{} }()
			m.Turn.Yield.At(bounded, "catalog "+c.ID)
			have[i] = m.readOne(bounded, c, hosts)
		}()
	}
	for range reading {
		<-done
	}
	return have
}

func (m *Market) readOne(ctx context.Context, c Catalog, hosts []string) shelf {
	s := shelf{Catalog: c}
	text, err := m.Fetch.Get(ctx, c.URL, hosts, MaxCatalog)
	if err == nil {
		s.updatedAt, s.entries, err = Parse(text)
	}
	if err != nil {
		s.problem = reason(err, catalogsWait)
		m.Log.WarnContext(ctx, "a catalog of packs cannot be read", "catalog", c.ID, "url", c.URL, "error", err)
	}
	return s
}

// reason is what an administrator hears of something that could not be read.
func reason(err error, wait time.Duration) string {
	if f, ok := errors.AsType[*fetch.Error](err); ok {
		return f.Reason
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + wait.String()
	}
	return "cannot be read"
}
