package e2e

import (
	"net/http"
	"time"
)

// marketCases are about the marketplace. Which catalogs a plane has is its operator's business: none is added, and nothing is installed.
var marketCases = []testCase{
	{"the marketplace lists what there is, and says what it cannot read", 0, func(s *story) {
		var list struct {
			Catalogs []struct {
				ID, URL, Error string
				Enabled        bool
			}
			Items []struct {
				ID, Version, URL, SHA256 string
				CatalogID                string `json:"catalog_id"`
			}
			FetchedAt time.Time `json:"fetched_at"`
		}
		s.ok(s.get("/marketplace/packs"), &list)
		known := map[string]bool{}
		for _, c := range list.Catalogs {
			known[c.ID] = c.Enabled
		}
		for _, i := range list.Items {
			if i.ID == "" || i.Version == "" || i.URL == "" || len(i.SHA256) != 64 || !known[i.CatalogID] {
				s.Errorf("a pack of no catalog, or one that cannot be installed: %+v", i)
			}
		}
		if list.Catalogs == nil || list.Items == nil || time.Since(list.FetchedAt) > time.Hour {
			s.Errorf("%+v", list)
		}
	}},
	{"what no catalog lists is not installed", 0, func(s *story) {
		install := func(body any) answer { return s.post("/marketplace/install", body) }
		s.refused(install(map[string]any{}), http.StatusBadRequest, "catalog_id and pack_id required")
		s.refused(install(map[string]any{"url": "https://packs.example.com/p.tgz"}), http.StatusBadRequest, "sha256 required")
		s.refused(install(map[string]any{"catalog_id": s.fresh(), "pack_id": "p"}), http.StatusNotFound, "marketplace pack not found")
	}},
}
