package artifact_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/artifact"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

const day = 24 * time.Hour

// The bytes of an artifact are never gone before it is: their class keeps them at least so long, and is the shortest that does.
func TestT125_BytesAreKeptAsLongAsTheirArtifact(t *testing.T) {
	if !slices.IsSortedFunc(resources.Classes, func(a, b resources.Class) int { return int(a.Keep - b.Keep) }) {
		t.Fatal("classes are not in the order of their time")
	}
	for name, c := range map[string]struct {
		env   map[string]string
		of    string
		keep  time.Duration
		class string
	}{
		"short":                  {nil, "short", day, "short"},
		"standard":               {nil, "standard", 7 * day, "standard"},
		"audit":                  {nil, "AUDIT ", 30 * day, "audit"},
		"nothing":                {nil, "", 7 * day, "standard"},
		"a duration":             {nil, "24h", 7 * day, "standard"},
		"longer than its class":  {map[string]string{"ARTIFACT_TTL_SHORT": "24h1s"}, "short", day + time.Second, "standard"},
		"shorter":                {map[string]string{"ARTIFACT_TTL_AUDIT": " 1h "}, "audit", time.Hour, "short"},
		"longer than any class":  {map[string]string{"ARTIFACT_TTL_AUDIT": "8760h"}, "audit", 30 * day, "audit"},
		"of another":             {map[string]string{"ARTIFACT_TTL_AUDIT": "1h"}, "short", day, "short"},
		"no duration":            {map[string]string{"ARTIFACT_TTL_SHORT": "7d"}, "short", day, "short"},
		"less than a second":     {map[string]string{"ARTIFACT_TTL_SHORT": "1ms"}, "short", day, "short"},
		"negative":               {map[string]string{"ARTIFACT_TTL_STANDARD": "-1h"}, "", 7 * day, "standard"},
		"more than a number has": {map[string]string{"ARTIFACT_TTL_STANDARD": "99999999h"}, "", 7 * day, "standard"},
	} {
		t.Run(name, func(t *testing.T) {
			files := files(t)
			files.Settings = artifact.ReadSettings(func(name string) string { return c.env[name] })
			now := time.Unix(1_800_000_000, 999_999_999)
			f := artifact.File{Retention: artifact.Retention(c.of)}
			m, err := files.Put(t.Context(), identity.Identity{Tenant: "t"}, f, []byte("x"), 0, now)
			if err != nil || !m.Expires.Equal(now.Add(c.keep).Truncate(time.Second)) {
				t.Errorf("it expires at %v, %v", m.Expires, err)
			}
			o, err := files.Blobs.Head(t.Context(), "art/"+m.ID)
			if err != nil || o.Class != c.class {
				t.Errorf("its object is %+v, %v", o, err)
			}
			_, link, err := files.Announce(t.Context(), identity.Identity{Tenant: "t"}, f, 1, 0, now)
			if err != nil || link.Header["X-Amz-Tagging"] != "class="+c.class {
				t.Errorf("an upload has the headers %v, %v", link.Header, err)
			}
		})
	}
}

func files(t *testing.T) *artifact.Store {
	t.Helper()
	p, err := embedded.Open("", embedded.Options{BlobURL: "http://localhost/objects"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &artifact.Store{Table: p.Table(), Blobs: p.Blobs()}
}

// What lies under an artifact's key and is not what was announced, as a store that verifies no signatures takes it, is not answered.
func TestWhatWasNotAnnouncedIsNotAnswered(t *testing.T) {
	files, by, now := files(t), identity.Identity{Tenant: "t"}, time.Now()
	for name, put := range map[string]struct {
		data, contentType string
	}{"less": {"1234", "text/plain"}, "more": {"123456", "text/plain"}, "another type": {"12345", "text/html"}} {
		m, _, err := files.Announce(t.Context(), by, artifact.File{ContentType: "text/plain"}, 5, 0, now)
		if err != nil {
			t.Fatal(err)
		}
		if err := files.Blobs.Put(t.Context(), "art/"+m.ID, []byte(put.data), blob.PutOptions{ContentType: put.contentType}); err != nil {
			t.Fatal(err)
		}
		_, _, read := files.Read(t.Context(), "t", m.ID, 0, now)
		_, _, _, open := files.Open(t.Context(), "t", m.ID, 0, true, now)
		for _, err := range []error{read, open} {
			if !fault.Is(err, fault.Conflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Tenants that differ in what a key could take for its own marks do not share an artifact.
func TestTenantsDoNotMeetInKeys(t *testing.T) {
	files, now := files(t), time.Now()
	m, err := files.Put(t.Context(), identity.Identity{Tenant: "a#b"}, artifact.File{}, []byte("x"), 0, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"a", "b", "a%23b", "", "A#B"} {
		if _, _, err := files.Read(t.Context(), tenant, m.ID, 0, now); !errors.Is(err, artifact.ErrUnknown) {
			t.Errorf("%q: %v", tenant, err)
		}
	}
	if _, _, err := files.Read(t.Context(), "a#b", m.ID, 0, now); err != nil {
		t.Error(err)
	}
}

func FuzzParsePointer(f *testing.F) {
	const id = "c5d9e3a1-0000-4000-8000-00000000000f"
	for _, text := range []string{artifact.Pointer(id), "redis:/art:" + id, "redis%3A%2F%2Fart%3A" + id, "%", "%25%32%35zz", "art:", id, ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := artifact.ParsePointer(text)
		if err != nil {
			if !errors.Is(err, job.ErrPointer) || got != "" {
				t.Fatalf("%q: %q, %v", text, got, err)
			}
			return
		}
		if got == "" || !strings.Contains(text, "art") && len(got) != len(id) && !strings.Contains(text, "%") {
			t.Fatalf("%q: %q", text, got)
		}
		if again, err := artifact.ParsePointer(artifact.Pointer(got)); err != nil || again != strings.TrimSpace(got) {
			t.Fatalf("%q: %q, and its pointer is of %q, %v", text, got, again, err)
		}
	})
}
