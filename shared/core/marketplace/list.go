package marketplace

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/pack"
)

// List is what the marketplace shows.
type List struct {
	Catalogs  []Shown
	Items     []Item
	FetchedAt time.Time
	// Cached says that the catalogs were read for an earlier request.
	Cached bool
}

// Shown is a catalog on the list.
type Shown struct {
	Catalog

	// UpdatedAt is when it was changed, as it says itself.
	UpdatedAt string
	// Problem is why it, or a part of it, is not shown; "" when all of it is.
	Problem string
}

// Item is a pack on the list, in its highest version.
type Item struct {
	Entry

	Catalog Catalog
	// Installed is its record; the zero value when it never was installed.
	Installed pack.Record

	shelf int // its place among the catalogs
}

// List answers the packs of all enabled catalogs, and what of them is installed now. A catalog that cannot be read says so, and the others are shown.
func (m *Market) List(ctx context.Context) (List, error) {
	catalogs, err := m.catalogs(ctx)
	if err != nil {
		return List{}, err
	}
	have, at, cached, err := m.shelves(ctx, catalogs)
	if err != nil {
		return List{}, err
	}
	installed, err := m.Installed(ctx)
	if err != nil {
		return List{}, err
	}
	l := List{FetchedAt: at, Cached: cached}
	for _, s := range have {
		l.Catalogs = append(l.Catalogs, Shown{s.Catalog, s.updatedAt, s.problem})
	}
	l.Items = highest(have)
	for i := range l.Items {
		r, there := installed.Records[l.Items[i].ID]
		if !there {
			continue
		}
		if l.Items[i].Installed, err = pack.ReadRecord(r.JSON); err != nil {
			return List{}, err
		}
	}
	var left map[int]int
	l.Items, left = fitting(l.Items)
	for i, n := range left {
		l.Catalogs[i].Problem = fmt.Sprintf("%d of its packs are not shown: the list is too long", n)
	}
	return l, nil
}

// highest answers the packs by id, each in its highest version; of equal ones the first catalog's.
func highest(have []shelf) []Item {
	best := map[string]Item{}
	for i, s := range have {
		for _, e := range s.entries {
			if b, ok := best[e.ID]; !ok || pack.CompareVersions(e.Version, b.Version) > 0 {
				best[e.ID] = Item{Entry: e, Catalog: s.Catalog, shelf: i}
			}
		}
	}
	return slices.SortedFunc(maps.Values(best), func(a, b Item) int { return cmp.Compare(a.ID, b.ID) })
}

// maxList is how much of packs an answer holds, in bytes: a function's answer has an end.
const maxList = 3 << 20

// fitting answers the items that an answer holds, and how many of each catalog it does not.
func fitting(items []Item) (fit []Item, left map[int]int) {
	room := maxList
	left = map[int]int{}
	return slices.DeleteFunc(items, func(i Item) bool {
		text, err := json.Marshal([]any{i.Entry, i.Catalog.ID, i.Catalog.Title, i.Installed.Version, i.Installed.Status, i.Installed.InstalledAt})
		if err != nil || len(text) > room {
			left[i.shelf]++
			return true
		}
		room -= len(text)
		return false
	}), left
}
