package marketplace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
)

// DocumentID is the document of scope system that names the catalogs.
const DocumentID = "pack_catalogs"

// Catalog is a list of packs, as the configuration names it.
type Catalog struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	URL     string `json:"url"`
	Enabled bool   `json:"enabled"`
}

// maxCatalogs is how many catalogs are read: all at once, and each may be large.
const maxCatalogs = 16

// Catalogs answers the catalogs of the document's data. What is of a wrong type is no list of catalogs, or none of its catalogs. One that does not say
// whether it is enabled is; one without an id is named after its place.
func Catalogs(data json.RawMessage) []Catalog {
	var document struct {
		Catalogs json.RawMessage `json:"catalogs"`
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &document) != nil || json.Unmarshal(document.Catalogs, &list) != nil {
		return nil
	}
	var catalogs []Catalog
	for i, raw := range list {
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil || members == nil {
			continue
		}
		text := func(name string) (s string) {
			_ = json.Unmarshal(members[name], &s) // what is no text is none
			return strings.TrimSpace(s)
		}
		c := Catalog{ID: text("id"), Title: text("title"), URL: text("url")}
		if c.ID == "" {
			c.ID = fmt.Sprintf("catalog-%d", i+1)
		}
		enabled := string(bytes.TrimSpace(members["enabled"]))
		c.Enabled = enabled == "" || enabled == "null" || enabled == "true"
		catalogs = append(catalogs, c)
	}
	return catalogs
}

// Hosts are the hosts of the catalogs that are enabled: what these name may be on any of them.
func Hosts(catalogs []Catalog) []string {
	var hosts []string
	for _, c := range catalogs {
		if host := fetch.Host(c.URL); c.Enabled && host != "" {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// catalogs reads the document.
func (m *Market) catalogs(ctx context.Context) ([]Catalog, error) {
	d, err := m.Config.Get(ctx, config.SystemScope, DocumentID)
	if err != nil {
		return nil, err
	}
	return Catalogs(d.Data), nil
}

// The catalog that a plane begins with, unless its operator names another.
const (
	OfficialID    = "official"
	OfficialTitle = "Cordum Official"
	OfficialURL   = "https://packs.cordum.io/catalog.json"
)

// Seed names a first catalog where there is none. A list with anything in it is its operator's, as is a value that is no list.
func Seed(ctx context.Context, documents *config.Store, first Catalog, now time.Time) error {
	for {
		d, err := documents.Get(ctx, config.SystemScope, DocumentID)
		if err != nil {
			return err
		}
		var data map[string]json.RawMessage
		if err := json.Unmarshal(d.Data, &data); err != nil {
			return fmt.Errorf("config %s/%s: stored data: %w", d.Scope, d.ID, err)
		}
		if !empty(data["catalogs"]) {
			return nil
		}
		if data["catalogs"], err = json.Marshal([]Catalog{first}); err != nil {
			return err
		}
		if d.Data, err = json.Marshal(data); err != nil {
			return err
		}
		if _, err = documents.Put(ctx, d, now); !errors.Is(err, config.ErrConflict) {
			return err
		}
	}
}

// empty says that a value is not there, null, or a list of nothing.
func empty(raw json.RawMessage) bool {
	var list []json.RawMessage
	return len(raw) == 0 || json.Unmarshal(raw, &list) == nil && len(list) == 0
}

// Entry is a pack of a catalog, in one version.
type Entry struct {
	ID           string   `json:"id"`
	Version      string   `json:"version"`
	Title        string   `json:"title"`
	Description  string   `json:"description"`
	Author       string   `json:"author"`
	Homepage     string   `json:"homepage"`
	Source       string   `json:"source"`
	Image        string   `json:"image"`
	License      string   `json:"license"`
	URL          string   `json:"url"`
	SHA256       string   `json:"sha256"`
	Capabilities []string `json:"capabilities"`
	Requires     []string `json:"requires"`
	RiskTags     []string `json:"risk_tags"`
}

// digest is a SHA-256 in hexadecimal.
var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// tidy makes the members that are compared comparable, and says whether the entry can be installed: it has an id, a version, an address and a digest.
func (e *Entry) tidy() bool {
	for _, s := range []*string{&e.ID, &e.Version, &e.URL, &e.SHA256} {
		*s = strings.TrimSpace(*s)
	}
	e.SHA256 = strings.ToLower(e.SHA256)
	return e.ID != "" && e.Version != "" && e.URL != "" && digest.MatchString(e.SHA256)
}

// The bounds of what a catalog may have: packs in all their versions, and bytes of one, of all as they are kept, and of when it was changed. Short words in lists
// take many times the memory that they take in a file.
const (
	maxEntries = 10_000
	maxEntry   = 64 << 10
	maxKept    = 3 * MaxCatalog / 2
	maxUpdated = 64

	entrySize = 512 // of one without its texts
	wordSize  = 32  // of a word in a list without its text
)

// size is what an entry takes, in bytes.
func (e *Entry) size() int {
	n := entrySize
	for _, s := range []string{e.ID, e.Version, e.Title, e.Description, e.Author, e.Homepage, e.Source, e.Image, e.License, e.URL, e.SHA256} {
		n += len(s)
	}
	for _, word := range slices.Concat(e.Capabilities, e.Requires, e.RiskTags) {
		n += wordSize + len(word)
	}
	return n
}

// Parse reads a catalog: when it was changed, as it says itself, and its entries that can be installed. Members that it does not know are passed over.
func Parse(text []byte) (updatedAt string, entries []Entry, err error) {
	var file struct {
		UpdatedAt string  `json:"updated_at"`
		Packs     shelfOf `json:"packs"`
	}
	if len(bytes.TrimSpace(text)) == 0 || bytes.TrimSpace(text)[0] != '{' {
		return "", nil, fault.New(fault.Invalid, "invalid catalog: it is no JSON object")
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return "", nil, invalid(err)
	}
	if updatedAt = strings.TrimSpace(file.UpdatedAt); len(updatedAt) > maxUpdated {
		return "", nil, fault.New(fault.Invalid, "invalid catalog: updated_at is longer than %d bytes", maxUpdated)
	}
	return updatedAt, file.Packs, nil
}

// shelfOf reads a list entry by entry, so that what is dropped takes no room.
type shelfOf []Entry

// UnmarshalJSON reads the list.
func (s *shelfOf) UnmarshalJSON(text []byte) error {
	*s = nil // the last list of several is the one
	if string(text) == "null" {
		return nil
	}
	if text[0] != '[' {
		return fault.New(fault.Invalid, "invalid catalog: packs must be a list")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return err
	}
	kept := 0
	for n := 0; d.More(); n++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		switch {
		case n == maxEntries:
			return fault.New(fault.Invalid, "invalid catalog: more than %d packs", maxEntries)
		case len(raw) > maxEntry:
			return fault.New(fault.Invalid, "invalid catalog: packs[%d]: %d bytes; at most %d (%d KiB)", n, len(raw), maxEntry, maxEntry>>10)
		}
		var e Entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return fault.Wrap(fault.Invalid, err, "invalid catalog: packs[%d]: %s", n, wrong(err))
		}
		if !e.tidy() {
			continue
		}
		if kept += e.size(); kept > maxKept {
			return fault.New(fault.Invalid, "invalid catalog: its packs take more than %d bytes (%d MiB) of memory", maxKept, maxKept>>20)
		}
		*s = append(*s, e)
	}
	return nil
}

// invalid says what is wrong with a catalog.
func invalid(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	return fault.Wrap(fault.Invalid, err, "invalid catalog: %s", wrong(err))
}

func wrong(err error) string {
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if mismatch.Field == "" {
			return "must not be a " + mismatch.Value
		}
		return fmt.Sprintf("%s must not be a %s", mismatch.Field, mismatch.Value)
	}
	return "it is no JSON"
}
