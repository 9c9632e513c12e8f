package plane_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/cfn"

	"github.com/cordum-serverless/cordum/localdev/plane"
	coreconfig "github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/marketplace"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/fetch/fetchtest"
)

const (
	marketPath  = "/api/v1/marketplace/packs"
	installPath = "/api/v1/marketplace/install"
	packsHost   = "packs.example.com"
)

// archive is a pack that brings nothing.
func archive(id, version string) []byte {
	return files{"pack.yaml": fmt.Sprintf("metadata: { id: %s, version: %s }\ncompatibility: { protocolVersion: 1 }\n", id, version)}.tgz()
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// shop is a catalog and its archives at a host.
type shop struct {
	host  string
	asked int // how often the catalog was
	mux   *http.ServeMux

	mu    sync.Mutex
	packs []map[string]any
	serve func(w http.ResponseWriter, r *http.Request) // in place of the catalog
}

func newShop(n *fetchtest.Internet, host string) *shop {
	s := &shop{host: host, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /catalog.json", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if s.serve != nil {
			s.serve(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"updated_at": "2026-02-10T00:00:00Z", "packs": s.packs})
	})
	n.Site(host, s.mux)
	return s
}

func (s *shop) url(path string) string { return "https://" + s.host + path }

// list puts an entry into the catalog.
func (s *shop) list(id, version, url, digest string, more ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := pairs("id", id, "version", version, "url", url, "sha256", digest)
	for i := 0; i+1 < len(more); i += 2 {
		e[more[i].(string)] = more[i+1]
	}
	s.packs = append(s.packs, e)
}

// offer puts a pack into the catalog, and its archive under an address, which it answers with the digest.
func (s *shop) offer(t *testing.T, id, version string) (url, digest string) {
	t.Helper()
	b := archive(id, version)
	path := "/packs/" + id + "/" + version + "/pack.tgz"
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
	s.list(id, version, s.url(path), digestOf(b))
	return s.url(path), digestOf(b)
}

// stock writes the catalogs of the plane.
func (r *rig) stock(catalogs string) {
	r.t.Helper()
	documents := &coreconfig.Store{Table: r.plane.Dispatcher.Jobs.Table}
	d, err := documents.Get(r.t.Context(), coreconfig.SystemScope, marketplace.DocumentID)
	if err != nil {
		r.t.Fatal(err)
	}
	d.Data = json.RawMessage(`{"catalogs":` + catalogs + `}`)
	if _, err := documents.Put(r.t.Context(), d, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) catalogOf(s *shop) {
	r.t.Helper()
	r.stock(fmt.Sprintf(`[{"id":"c","title":"C","url":%q}]`, s.url("/catalog.json")))
}

// trading runs a test on a plane whose internet is the test's own.
func trading(t *testing.T, test func(t *testing.T, r *rig, n *fetchtest.Internet)) {
	t.Helper()
	tradingOn(t, config(), test)
}

func tradingOn(t *testing.T, cfg plane.Config, test func(t *testing.T, r *rig, n *fetchtest.Internet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today))
		n := fetchtest.New(t)
		cfg.Internet = n.Client(fetch.Allow{})
		test(t, open(t, cfg), n)
	})
}

// installed are the versions and the states of packs, by id.
func (r *rig) installed() map[string]string {
	r.t.Helper()
	var list struct {
		Items []struct{ ID, Version, Status string }
	}
	r.get("/api/v1/packs").ok(200).json(&list)
	out := map[string]string{}
	for _, p := range list.Items {
		out[p.ID] = p.Version + " " + p.Status
	}
	return out
}

// goods is what the list shows of packs.
type goods struct {
	Catalogs []struct {
		ID, Title, URL, Error string
		Enabled               *bool
		UpdatedAt             string `json:"updated_at"`
	}
	Items []struct {
		ID, Version string
		CatalogID   string `json:"catalog_id"`
		Installed   string `json:"installed_version"`
		Status      string `json:"installed_status"`
		At          string `json:"installed_at"`
	}
	FetchedAt string `json:"fetched_at"`
	Cached    bool
}

func (r *rig) goods() (g goods) {
	r.t.Helper()
	r.get(marketPath).ok(200).json(&g)
	if g.Items == nil || g.Catalogs == nil {
		r.t.Fatal("a list is null")
	}
	return g
}

func (r *rig) buy(fields ...any) answer {
	r.t.Helper()
	return r.as("k-ada", "POST", installPath, pairs(fields...))
}

func TestM01_M08_TheHighestVersionAndWhatIsInstalled(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		s.offer(t, "etl", "0.9.0")
		url, digest := s.offer(t, "etl", "0.10.0")
		s.list("crm", "1.0.0", s.url("/crm.tgz"), digest, "title", "CRM", "description", "d", "author", "me", "homepage", "h", "source", "s", "image", "i",
			"license", "MIT", "capabilities", []string{"crm.read"}, "requires", []string{"docker"}, "risk_tags", []string{"read"}, "tags", []string{"x"})
		r.catalogOf(s)
		before := r.get(marketPath).ok(200)
		want := `{"catalogs":[{"id":"c","title":"C","url":"https://packs.example.com/catalog.json","enabled":true,"updated_at":"2026-02-10T00:00:00Z"}],"items":[` +
			`{"id":"crm","version":"1.0.0","title":"CRM","description":"d","author":"me","homepage":"h","source":"s","image":"i","license":"MIT",` +
			`"url":"https://packs.example.com/crm.tgz","sha256":"` + digest + `","catalog_id":"c","catalog_title":"C","capabilities":["crm.read"],"requires":["docker"],"risk_tags":["read"]},` +
			`{"id":"etl","version":"0.10.0","url":"` + url + `","sha256":"` + digest + `","catalog_id":"c","catalog_title":"C"}],"fetched_at":"2026-11-23T12:00:00Z"}`
		if before.Body != want {
			t.Errorf("%s\nwant %s", before.Body, want)
		}
		r.post("/api/v1/config", pairs("scope", "system", "scope_id", "packs", "data", pairs("installed", pairs("etl", pairs(
			"id", "etl", "version", "0.1.0", "status", "DISABLED", "installed_at", "2026-02-01T09:00:00Z",
		))))).ok(204)
		if i := r.goods().Items[1]; i.Installed != "0.1.0" || i.Status != "DISABLED" || i.At != "2026-02-01T09:00:00Z" {
			t.Errorf("installed earlier: %+v", i)
		}
		time.Sleep(10 * time.Second)
		record := r.buy("catalog_id", "c", "pack_id", "etl").ok(200).object()
		if record["id"] != "etl" || record["version"] != "0.10.0" || record["installed_by"] != "ada" {
			t.Errorf("%v", record)
		}
		asked := s.asked
		l := r.goods()
		if i := l.Items[1]; !l.Cached || i.Installed != "0.10.0" || i.Status != "INACTIVE" || s.asked != asked {
			t.Errorf("after the installation: %+v, %d", l, s.asked-asked)
		}
		time.Sleep(30 * time.Second)
		if l := r.goods(); l.Cached || l.FetchedAt != "2026-11-23T12:00:40Z" || s.asked != asked+1 {
			t.Errorf("half a minute later: %+v", l)
		}
	})
}

func TestM02_EntriesThatAreIncomplete(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		url, digest := s.offer(t, "whole", "1.0.0")
		s.list("undigested", "1.0.0", url, "")
		s.list("misdigested", "1.0.0", url, "abc")
		s.list("nowhere", "1.0.0", "", digest)
		s.list("", "1.0.0", url, digest)
		s.list("whole", "", url, digest)
		s.list("whole", "2.0.0", url, "", "sha256", nil)
		r.catalogOf(s)
		if l := r.goods(); len(l.Items) != 1 || l.Items[0].Version != "1.0.0" {
			t.Errorf("%+v", l.Items)
		}
		for _, id := range []string{"undigested", "misdigested", "nowhere"} {
			r.buy("catalog_id", "c", "pack_id", id).refused(404, "marketplace pack not found")
		}
		r.buy("catalog_id", "c", "pack_id", "whole", "version", "2.0.0").refused(404, "marketplace pack not found")
		r.buy("catalog_id", "c", "pack_id", "whole").ok(200)
		if got := r.installed(); len(got) != 1 {
			t.Errorf("installed: %v", got)
		}
	})
}

func TestM03_CatalogsThatFail(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		good, off, gone, slow, broken := newShop(n, packsHost), newShop(n, "off.example.com"), newShop(n, "gone.example.com"), newShop(n, "slow.example.com"), newShop(n, "broken.example.com")
		for _, s := range []*shop{good, off, gone, slow, broken} {
			s.offer(t, strings.TrimSuffix(s.host, ".example.com"), "1.0.0")
		}
		gone.serve = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
		slow.serve = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		broken.serve = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"packs":[`) }
		n.Name("inside.example.com", []string{"10.0.0.1"})
		r.stock(`[{"id":"gone","url":"https://gone.example.com/catalog.json"},{"id":"slow","url":"https://slow.example.com/catalog.json"},
			{"id":"good","title":"Good","url":"https://packs.example.com/catalog.json","enabled":true},{"id":"off","url":"https://off.example.com/catalog.json","enabled":false},
			{"id":"broken","url":"https://broken.example.com/catalog.json"},{"url":"https://unknown.example.com/catalog.json"},{"id":"plain","url":"http://packs.example.com/catalog.json"},
			{"id":"inside","url":"https://inside.example.com/catalog.json"},{"id":"metadata","url":"http://169.254.169.254/latest/meta-data/"},{"id":"literal","url":"https://127.1/"},{"id":"empty"}]`)
		begin := time.Now()
		l := r.goods()
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		want := map[string]string{
			"gone": "404 Not Found", "slow": "no answer within 8s", "good": "", "off": "", "broken": "invalid catalog: it is no JSON",
			"catalog-6": `host "unknown.example.com" not found`, "plain": `unsupported url scheme "http"`,
			"inside": `host "inside.example.com" leads to an address that is not allowed`, "metadata": `unsupported url scheme "http"`,
			"literal": `url host "127.1" not allowed`, "empty": "url host required",
		}
		if len(l.Catalogs) != len(want) || l.Catalogs[0].ID != "gone" {
			t.Errorf("%+v", l.Catalogs)
		}
		for _, c := range l.Catalogs {
			if c.Error != want[c.ID] || c.Enabled == nil || *c.Enabled != (c.ID != "off") {
				t.Errorf("%+v, want %q", c, want[c.ID])
			}
		}
		if len(l.Items) != 1 || l.Items[0].ID != "packs" || l.Items[0].CatalogID != "good" {
			t.Errorf("%+v", l.Items)
		}
		if off.asked != 0 {
			t.Error("a disabled catalog was read")
		}
		for _, id := range []string{"gone", "slow", "broken"} {
			a := r.buy("catalog_id", id, "pack_id", id)
			a.refused(404, "marketplace pack not found")
			if got := a.object()["catalog_errors"]; fmt.Sprint(got) != fmt.Sprint(map[string]any{id: want[id]}) {
				t.Errorf("%s: %v", id, got)
			}
		}
		r.buy("catalog_id", "off", "pack_id", "off").refused(404, "marketplace pack not found")
		r.buy("catalog_id", "good", "pack_id", "packs").ok(200)
		if got := r.installed(); off.asked != 0 || len(got) != 1 {
			t.Errorf("a disabled catalog was read, or installed from: %v", got)
		}
	})
}

func TestM04_M05_ByAddressAndDigest(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		url, digest := s.offer(t, "etl", "1.0.0")
		other := digestOf([]byte("other"))
		s.mux.HandleFunc("GET /false.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive("false", "1.0.0")) })
		s.list("false", "1.0.0", s.url("/false.tgz"), other)
		s.list("loud", "1.0.0", s.url("/loud.tgz"), strings.ToUpper(digestOf(archive("loud", "1.0.0"))))
		s.mux.HandleFunc("GET /loud.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive("loud", "1.0.0")) })
		r.catalogOf(s)
		for _, body := range []any{nil, "", "[]", "{", `{"catalog_id":7}`, "null"} {
			r.as("k-admin", "POST", installPath, body).refused(400, "invalid json payload")
		}
		r.buy().refused(400, "catalog_id and pack_id required")
		r.buy("catalog_id", "c").refused(400, "catalog_id and pack_id required")
		r.buy("pack_id", "etl", "sha256", digest).refused(400, "catalog_id and pack_id required")
		r.buy("url", url).refused(400, "sha256 required")
		r.buy("url", url, "sha256", " ").refused(400, "sha256 required")
		r.buy("url", url+"?", "sha256", digest).refused(404, "marketplace pack not found")
		r.buy("url", "https://packs.example.com:443"+strings.TrimPrefix(url, "https://packs.example.com"), "sha256", digest).refused(404, "marketplace pack not found")
		r.buy("url", "http://169.254.169.254/latest/meta-data/", "sha256", digest).refused(404, "marketplace pack not found")
		r.buy("url", url, "sha256", other).refused(400, "sha256 mismatch")
		r.buy("url", url, "sha256", digest[:63]).refused(400, "sha256 mismatch")
		r.buy("catalog_id", "c", "pack_id", "etl", "sha256", other).refused(400, "sha256 mismatch")
		r.buy("catalog_id", "c", "pack_id", "false").refused(400, "sha256 mismatch")
		r.buy("catalog_id", "d", "pack_id", "etl").refused(404, "marketplace pack not found")
		r.buy("url", url, "sha256", digest, "catalog_id", "d").refused(404, "marketplace pack not found")
		for _, key := range []string{"k-operator", "k-user", "k-viewer"} {
			r.as(key, "GET", marketPath, nil).refused(403, "access denied")
			r.as(key, "POST", installPath, pairs("catalog_id", "c", "pack_id", "etl")).refused(403, "access denied")
		}
		if got := r.installed(); len(got) != 0 {
			t.Fatalf("installed: %+v", got)
		}
		r.buy("url", " "+url+" ", "sha256", strings.ToUpper(digest), "upgrade", true).ok(200)
		r.buy("catalog_id", " c ", "pack_id", "loud", "version", "1.0.0", "force", true, "inactive", true).ok(200)
		if got, want := r.installed(), map[string]string{"etl": "1.0.0 INACTIVE", "loud": "1.0.0 INACTIVE"}; !maps.Equal(got, want) {
			t.Errorf("installed %v", got)
		}
	})
}

func TestM06_AddressesThatLeadInside(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		secret := archive("secret", "1.0.0")
		for _, inside := range []string{"10.0.0.1", "127.0.0.1", "169.254.169.254"} {
			n.Serve(inside+":443", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(secret) }))
			n.ServePlain(inside+":80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(secret) }))
		}
		n.Name("cdn.example.com", []string{"10.0.0.1"})
		n.Name("localhost", []string{"127.0.0.1"})
		newShop(n, "elsewhere.example.com").mux.HandleFunc("GET /secret.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(secret) })
		n.Serve("93.184.216.200:443", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }))
		for path, where := range map[string]string{
			"metadata": "http://169.254.169.254/latest/meta-data/iam", "literal": "https://169.254.169.254/", "localhost": "https://localhost/", "here": "https://127.0.0.1/",
			"plain": "http://packs.example.com/", "elsewhere": "https://elsewhere.example.com/secret.tgz", "around": "/to-around", "named": "https://cdn.example.com/secret.tgz",
		} {
			s.mux.Handle("GET /to-"+path, http.RedirectHandler(where, http.StatusFound))
		}
		for i, c := range []struct{ url, want string }{
			{"http://packs.example.com/x.tgz", `unsupported url scheme "http"`}, {"https://u:p@packs.example.com/x.tgz", "url must not have a user"},
			{"https://packs.example.com:8443/x.tgz", `url port "8443" not allowed`}, {"https://elsewhere.example.com/secret.tgz", `url host "elsewhere.example.com" not allowed`},
			{"https://127.0.0.1/x.tgz", `url host "127.0.0.1" not allowed`}, {"https://2130706433/x.tgz", `url host "2130706433" not allowed`},
			{"https://[::ffff:a9fe:a9fe]/x.tgz", `url host "::ffff:a9fe:a9fe" not allowed`}, {"https://localhost/x.tgz", `url host "localhost" not allowed`},
			{"file:///etc/passwd", "url host required"},
			{"https://cdn.example.com/x.tgz", `download failed: host "cdn.example.com" leads to an address that is not allowed`},
			{s.url("/to-metadata"), `download failed: redirect from https to "http"`}, {s.url("/to-plain"), `download failed: redirect from https to "http"`},
			{s.url("/to-literal"), `download failed: redirect: url host "169.254.169.254" not allowed`},
			{s.url("/to-localhost"), `download failed: redirect: url host "localhost" not allowed`}, {s.url("/to-here"), `download failed: redirect: url host "127.0.0.1" not allowed`},
			{s.url("/to-elsewhere"), `download failed: redirect: url host "elsewhere.example.com" not allowed`}, {s.url("/to-around"), "download failed: more than 3 redirects"},
			{s.url("/to-named"), `download failed: host "cdn.example.com" leads to an address that is not allowed`}, {s.url("/nothing"), "download failed: 404 Not Found"},
		} {
			id := fmt.Sprintf("p%d", i)
			s.list(id, "1.0.0", c.url, digestOf(secret))
			r.stock(`[{"id":"c","url":"https://packs.example.com/catalog.json"},{"id":"d","url":"https://cdn.example.com/catalog.json"}]`)
			r.buy("catalog_id", "c", "pack_id", id).refused(400, c.want)
			r.buy("url", c.url, "sha256", digestOf(secret)).refused(400, c.want)
		}
		// The name leads to the internet for the catalog, and inside when the archive is fetched.
		s.list("late", "1.0.0", s.url("/secret.tgz"), digestOf(secret))
		n.Name(packsHost, []string{"93.184.216.200"}, []string{"127.0.0.1"})
		r.buy("catalog_id", "c", "pack_id", "late").refused(400, `download failed: host "packs.example.com" leads to an address that is not allowed`)
		for _, address := range n.Dialled() {
			if !strings.HasPrefix(address, "93.184.216.") {
				t.Errorf("it dialled %s", address)
			}
		}
		if got := r.installed(); len(got) != 0 {
			t.Errorf("installed: %+v", got)
		}
	})
}

func TestM07_AnArchiveOfAnotherPack(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		url, digest := s.offer(t, "etl", "1.0.0")
		s.list("crm", "1.0.0", url, digest)
		s.list("etl", "2.0.0", url, digest)
		r.catalogOf(s)
		r.buy("catalog_id", "c", "pack_id", "crm").refused(400, "the bundle is etl 1.0.0, not crm 1.0.0")
		r.buy("catalog_id", "c", "pack_id", "etl").refused(400, "the bundle is etl 1.0.0, not etl 2.0.0")
		if got := r.installed(); len(got) != 0 {
			t.Fatalf("installed: %+v", got)
		}
		r.buy("catalog_id", "c", "pack_id", "etl", "version", "1.0.0").ok(200)
	})
}

func TestM09_Sizes(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		const mib = 1 << 20
		full, over := newShop(n, packsHost), newShop(n, "over.example.com")
		full.list("a", "1.0.0", full.url("/exactly.tgz"), digestOf(make([]byte, 64*mib)))
		full.list("b", "1.0.0", full.url("/over.tgz"), digestOf(make([]byte, 64*mib+1)))
		filled := func(s *shop, size int) {
			text, err := json.Marshal(map[string]any{"packs": s.packs, "x": ""})
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, bytes.Repeat([]byte(" "), size-len(text))...)
			s.serve = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }
		}
		filled(full, 8*mib)
		filled(over, 8*mib+1)
		for path, size := range map[string]int{"/exactly.tgz": 64 * mib, "/over.tgz": 64*mib + 1} {
			full.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(size)) // what is said to be too long is not read
				_, _ = w.Write(make([]byte, size))
			})
		}
		r.stock(`[{"id":"full","url":"https://packs.example.com/catalog.json"},{"id":"over","url":"https://over.example.com/catalog.json"}]`)
		l := r.goods()
		if l.Catalogs[0].Error != "" || l.Catalogs[1].Error != "larger than 8388608 bytes" || len(l.Items) != 2 {
			t.Errorf("%+v", l)
		}
		full.serve = nil                                                                                  // the same in short
		r.buy("catalog_id", "full", "pack_id", "a").refused(400, "invalid archive: gzip: invalid header") // it came whole
		r.buy("catalog_id", "full", "pack_id", "b").refused(400, "download failed: larger than 67108864 bytes")
	})
}

func TestM10_ACandidateIsBeforeItsRelease(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		s.offer(t, "etl", "1.0.0-rc1")
		s.offer(t, "etl", "1.0.0")
		s.offer(t, "etl", "1.0.0-rc2")
		r.catalogOf(s)
		if l := r.goods(); len(l.Items) != 1 || l.Items[0].Version != "1.0.0" {
			t.Errorf("%+v", l.Items)
		}
		if got := r.buy("catalog_id", "c", "pack_id", "etl").ok(200).object()["version"]; got != "1.0.0" {
			t.Errorf("installed %v", got)
		}
	})
}

// A slow archive ends as a refusal, well before API Gateway gives the request up.
func TestADownloadThatTakesTooLong(t *testing.T) {
	trading(t, func(t *testing.T, r *rig, n *fetchtest.Internet) {
		s := newShop(n, packsHost)
		s.list("etl", "1.0.0", s.url("/drips.tgz"), digestOf(nil))
		s.mux.HandleFunc("GET /drips.tgz", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte{0})
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		r.catalogOf(s)
		begin := time.Now()
		r.buy("catalog_id", "c", "pack_id", "etl").refused(400, "download failed: no answer within 14s")
		if took := time.Since(begin); took > 25*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// The catalogs and what they hold are the same for all tenants; without catalogs there is nothing, and that is no failure.
func TestThePlaneWithoutCatalogs(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, catalogs := range []string{"[]", "null", `"none"`, "7", `{"id":"c"}`} {
			r.stock(catalogs)
			if got := r.as("k-other", "GET", marketPath, nil).ok(200).Body; got != `{"catalogs":[],"items":[],"fetched_at":"2026-11-23T12:00:00Z"}` &&
				got != `{"catalogs":[],"items":[],"fetched_at":"2026-11-23T12:00:00Z","cached":true}` {
				t.Errorf("%s: %s", catalogs, got)
			}
		}
	})
}

func TestTheFirstCatalog(t *testing.T) {
	official := `[{"id":"official","title":"Cordum Official","url":"https://packs.cordum.io/catalog.json","enabled":true}]`
	for name, test := range map[string]struct {
		env  map[string]string
		had  string // what the document has before
		want string
	}{
		"nothing":                   {want: official},
		"an empty list":             {had: `{"catalogs":[],"note":"x"}`, want: official},
		"null":                      {had: `{"catalogs":null}`, want: official},
		"a list":                    {had: `{"catalogs":[{"url":"https://a.example.com"}]}`, want: `[{"url":"https://a.example.com"}]`},
		"a list of nothing":         {had: `{"catalogs":[null]}`, want: `[null]`},
		"a text":                    {had: `{"catalogs":"mine"}`, want: `"mine"`},
		"an object":                 {had: `{"catalogs":{}}`, want: `{}`},
		"disabled":                  {env: map[string]string{"DEFAULT_DISABLED": "1"}},
		"disabled in another word":  {env: map[string]string{"DEFAULT_DISABLED": " Yes"}},
		"disabled, and there's one": {env: map[string]string{"DEFAULT_DISABLED": "true"}, had: `{"catalogs":[]}`, want: `[]`},
		"not disabled":              {env: map[string]string{"DEFAULT_DISABLED": "0"}, want: official},
		"another": {
			env:  map[string]string{"ID": "ours", "TITLE": "Ours", "URL": "https://packs.corp.example/catalog.json"},
			want: `[{"id":"ours","title":"Ours","url":"https://packs.corp.example/catalog.json","enabled":true}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Dir = t.TempDir()
			keys := cfg.Getenv
			cfg.Getenv = func(name string) string {
				if setting, ok := strings.CutPrefix(name, "CORDUM_PACK_CATALOG_"); ok {
					return test.env[setting]
				}
				return keys(name)
			}
			if test.had != "" {
				earlier := config() // which names none
				earlier.Dir = cfg.Dir
				before, err := plane.Open(t.Context(), earlier)
				if err != nil {
					t.Fatal(err)
				}
				d := coreconfig.Document{Scope: coreconfig.SystemScope, ID: marketplace.DocumentID, Data: json.RawMessage(test.had)}
				if _, err := (&coreconfig.Store{Table: before.Dispatcher.Jobs.Table}).Put(t.Context(), d, time.Now()); err != nil {
					t.Fatal(err)
				}
				if err := before.Close(); err != nil {
					t.Fatal(err)
				}
			}
			p, err := plane.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close() }()
			d, err := (&coreconfig.Store{Table: p.Dispatcher.Jobs.Table}).Get(t.Context(), coreconfig.SystemScope, marketplace.DocumentID)
			if err != nil {
				t.Fatal(err)
			}
			var data map[string]json.RawMessage
			if err := json.Unmarshal(d.Data, &data); err != nil || string(data["catalogs"]) != test.want {
				t.Errorf("%s, want %s (%v)", d.Data, test.want, err)
			}
			if strings.Contains(test.had, "note") && string(data["note"]) != `"x"` {
				t.Errorf("%s: what else there was is gone", d.Data)
			}
		})
	}
}

// A deployment runs a function that does the same, once.
func TestADeploymentNamesTheFirstCatalog(t *testing.T) {
	cfg := having("CORDUM_PACK_CATALOG_DEFAULT_DISABLED", "")
	s := newStack(t, cfg)
	for _, test := range []struct{ before, after string }{{"[]", marketplace.OfficialURL}, {`[{"url":"https://a.example.com/c.json","enabled":false}]`, "https://a.example.com/c.json"}} {
		s.stock(test.before)
		if a := s.deploy(t, cfn.RequestUpdate, testPolicy, otherPools); a.Status != cfn.StatusSuccess {
			t.Fatalf("%+v", a)
		}
		d, err := (&coreconfig.Store{Table: s.plane.Dispatcher.Jobs.Table}).Get(t.Context(), coreconfig.SystemScope, marketplace.DocumentID)
		if err != nil {
			t.Fatal(err)
		}
		if c := marketplace.Catalogs(d.Data); len(c) != 1 || c[0].URL != test.after {
			t.Errorf("after %s: %+v", test.before, c)
		}
	}
}

// On a laptop a catalog may be on the machine itself, if its operator says so.
func TestACatalogOnThisMachine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"packs":[{"id":"etl","version":"1.0.0","url":"https://packs.example.com/etl.tgz","sha256":"`+digestOf(nil)+`"}]}`)
	}))
	t.Cleanup(server.Close)
	for allowed, want := range map[string]string{server.URL: "", "": `unsupported url scheme "http"`, "http://localhost:1": `unsupported url scheme "http"`} {
		cfg := having("CORDUM_MARKETPLACE_ALLOW", allowed)
		r := open(t, cfg)
		r.stock(fmt.Sprintf(`[{"id":"here","url":"%s/catalog.json"}]`, server.URL))
		if l := r.goods(); l.Catalogs[0].Error != want || (len(l.Items) == 1) != (want == "") {
			t.Errorf("%q: %+v", allowed, l)
		}
	}
	cfg := config()
	cfg.Getenv = func(string) string { return "localhost" }
	if _, err := plane.Open(t.Context(), cfg); err == nil {
		t.Error("a plane with settings that are none")
	}
}
