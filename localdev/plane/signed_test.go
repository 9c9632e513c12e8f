package plane_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// author signs policies.
var author = ed25519.NewKeyFromSeed([]byte("the seed of an author of policy!"))

// signedPlane is a plane with the author's key, and a policy file.
func signedPlane(t *testing.T, text string) (plane.Config, func(text string, signature []byte)) {
	t.Helper()
	cfg := config()
	cfg.PolicyPath = filepath.Join(t.TempDir(), "policy.yaml")
	key := hex.EncodeToString(author.Public().(ed25519.PublicKey))
	cfg = set(cfg, "CORDUM_POLICY_PUBLIC_KEY", key)
	write := func(text string, signature []byte) {
		t.Helper()
		if err := os.WriteFile(cfg.PolicyPath, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if signature == nil {
			_ = os.Remove(cfg.PolicyPath + plane.SignatureSuffix) // it may not be there
			return
		}
		if err := os.WriteFile(cfg.PolicyPath+plane.SignatureSuffix, signature, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text, sign(text))
	return cfg, write
}

func sign(text string) []byte {
	return []byte(hex.EncodeToString(ed25519.Sign(author, []byte(text))) + "\n")
}

const (
	allowsTests = "version: a\nrules: [{id: a, match: {topics: [job.test.*]}, decision: allow, reason: allowed}]\n"
	deniesTests = "version: b\nrules: [{id: b, match: {topics: [job.test.*]}, decision: deny, reason: denied}]\n"
)

// policyState is what the status says of the policy.
type policyState struct {
	Snapshot    string `json:"snapshot"`
	Revision    int64  `json:"revision"`
	Signature   string `json:"signature"`
	LoadedAt    string `json:"loaded_at"`
	LastError   string `json:"last_error"`
	LastErrorAt string `json:"last_error_at"`
}

func (r *rig) policyState(key string) policyState {
	r.t.Helper()
	time.Sleep(2 * time.Second) // what a second ago was asked is not asked again
	var status struct {
		Policy policyState `json:"policy"`
	}
	r.as(key, "GET", "/api/v1/status", nil).ok(200).json(&status)
	return status.Policy
}

// TestT119_APolicyIsSignedOrRefusedAtStart: keys and signatures in their forms are package signed's.
func TestT119_APolicyIsSignedOrRefusedAtStart(t *testing.T) {
	for name, test := range map[string]struct {
		signature []byte
		want      string
	}{
		"signed":                     {sign(allowsTests), ""},
		"not signed":                 {nil, "base policy: the policy has no signature"},
		"another policy's signature": {sign(deniesTests), "base policy: the signature is not of this policy by this key"},
		"no signature at all":        {[]byte("signed, me"), "base policy: the signature must be 64 bytes, as they are or in hex or base64"},
	} {
		cfg, write := signedPlane(t, allowsTests)
		write(allowsTests, test.signature)
		p, err := plane.Open(t.Context(), cfg)
		if err == nil {
			_ = p.Close() // nothing runs in it
		}
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	cfg, _ := signedPlane(t, allowsTests)
	cfg.Getenv = func(name string) string { return map[string]string{"CORDUM_POLICY_PUBLIC_KEY": "cafe"}[name] }
	if _, err := plane.Open(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), "CORDUM_POLICY_PUBLIC_KEY: the public key must be 32 bytes") {
		t.Errorf("a key that is none: %v", err)
	}
}

// TestWhatAPlaneWithoutAKeySaysOfSignatures: it looks at none.
func TestWhatAPlaneWithoutAKeySaysOfSignatures(t *testing.T) {
	for want, signature := range map[string][]byte{"unsigned": nil, "unverified": sign(deniesTests)} {
		synced(t, func(t *testing.T) {
			cfg, write := signedPlane(t, allowsTests)
			cfg.Getenv = config().Getenv
			write(allowsTests, signature)
			r := open(t, cfg)
			r.decides("job.test.work", "scheduled: allowed")
			if s := r.policyState("k-viewer"); s.Signature != want || s.Revision == 0 || !strings.HasPrefix(s.Snapshot, "a:") {
				t.Errorf("%+v, want %s", s, want)
			}
		})
	}
}

// TestT119_TheLastGoodPolicyStays: a file that changes while the plane runs takes effect within 30 seconds, unless it is not valid or not signed.
func TestT119_TheLastGoodPolicyStays(t *testing.T) {
	synced(t, func(t *testing.T) {
		cfg, write := signedPlane(t, allowsTests)
		r := open(t, cfg)
		const within = 30 * time.Second
		r.decides("job.test.work", "scheduled: allowed")
		first := r.policyState("k-admin")
		if first.Signature != "verified" || first.Revision == 0 || !strings.HasPrefix(first.Snapshot, "a:") || first.LoadedAt == "" || first.LastError != "" {
			t.Errorf("%+v", first)
		}

		write(deniesTests, sign(deniesTests))
		time.Sleep(within)
		r.decides("job.test.work", "denied: denied")
		second := r.policyState("k-admin")
		if second.Signature != "verified" || second.Revision <= first.Revision || !strings.HasPrefix(second.Snapshot, "b:") || second.LoadedAt <= first.LoadedAt {
			t.Errorf("%+v after %+v", second, first)
		}

		for _, bad := range []struct {
			text      string
			signature []byte
			want      string
		}{
			{allowsTests, nil, "base policy: the policy has no signature"},
			{allowsTests, sign(deniesTests), "base policy: the signature is not of this policy by this key"},
			{"rules: 7", sign("rules: 7"), "policy.yaml:1:8: must be a list"},
		} {
			write(bad.text, bad.signature)
			time.Sleep(within)
			r.decides("job.test.work", "denied: denied")
			s := r.policyState("k-admin")
			if s.Snapshot != second.Snapshot || s.Signature != "verified" || s.LoadedAt != second.LoadedAt || s.LastError != bad.want || s.LastErrorAt <= second.LoadedAt {
				t.Errorf("%+v, want %q", s, bad.want)
			}
			if s = r.policyState("k-user"); s.LastError != "" || s.LastErrorAt == "" {
				t.Errorf("others than administrators see %+v", s)
			}
		}

		write(deniesTests, sign(deniesTests)) // what is in force, again
		time.Sleep(within)
		if s := r.policyState("k-admin"); s != second {
			t.Errorf("%+v, want %+v", s, second)
		}
		write(allowsTests, sign(allowsTests))
		time.Sleep(within)
		r.decides("job.test.work", "scheduled: allowed")
		if s := r.policyState("k-admin"); s.Snapshot != first.Snapshot || s.LastError != "" || s.LastErrorAt != "" {
			t.Errorf("%+v", s)
		}
		if err := os.Remove(cfg.PolicyPath); err != nil {
			t.Fatal(err)
		}
		time.Sleep(within)
		r.decides("job.test.work", "scheduled: allowed")
		if s := r.policyState("k-admin"); !strings.Contains(s.LastError, "no such file") {
			t.Errorf("%+v", s)
		}
	})
}

// tamper puts content in force past the plane, as somebody with the table and the bucket would.
func (r *rig) tamper(name, content string) {
	r.t.Helper()
	d := r.plane.Dispatcher
	if content != "" {
		if err := d.Jobs.Blobs.Put(r.t.Context(), name, []byte(content), blob.PutOptions{}); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, n := range []string{"0", "1", "2", "3"} {
		if err := d.Jobs.Table.Write(r.t.Context(), store.Update(store.Key{PK: "POLICY#HEAD#" + n, SK: "H"}).SetAttr("content", name)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// decided fails the test unless jobs are decided, or unless none is.
func (r *rig) decided(want bool, what string) {
	r.t.Helper()
	a := r.post("/api/v1/jobs", body())
	rc, _ := a.object()["status"].(string)
	if got := a.Status == 200 && (rc == "scheduled" || rc == "denied"); got != want {
		r.t.Errorf("%s: %d %s", what, a.Status, a.Body)
	}
}

// TestT119_NothingIsDecidedByAPolicyThatWasTamperedWith: whoever compiles what is in force verifies it.
func TestT119_NothingIsDecidedByAPolicyThatWasTamperedWith(t *testing.T) {
	synced(t, func(t *testing.T) {
		cfg, _ := signedPlane(t, allowsTests)
		r := open(t, cfg)
		r.draft("secops/a", aRule("a", "topics: [job.b.*]", "allow"))
		r.publishBundles(`{}`) // bundles are not signed; they go with a base that is
		r.decided(true, "signed")
		now, err := r.plane.Dispatcher.Policy.Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		good := now.Name
		text := mustJSON(t, map[string]any{"base": map[string]any{"name": "policy.yaml", "content": []byte(deniesTests)}, "signature": sign(allowsTests)})
		for what, content := range map[string]string{
			"another base":           text,
			"a base unsigned":        mustJSON(t, map[string]any{"base": map[string]any{"name": "policy.yaml", "content": []byte(deniesTests)}}),
			"bundles without a base": `{"bundles":{"secops/a":"default_decision: allow"}}`,
		} {
			r.tamper(contentName(content), content)
			r.decided(false, what)
			if s := r.policyState("k-admin"); s.Signature != "invalid" || !strings.HasPrefix(s.LastError, "policy policy/") {
				t.Errorf("%s: %+v", what, s)
			}
			if a := r.post("/api/v1/policy/publish", `{}`); a.Status < 400 {
				t.Errorf("%s: a publish goes on with it: %s", what, a.Body)
			}
			r.tamper(good, "")
			r.decided(true, "put right after "+what)
		}
		r.tamper("policy/other", `{}`) // an object that is not what its name says
		r.decided(false, "another object")
		r.tamper(good, "")
		r.decided(true, "put right")
	})
}

// TestT118_OneBrokenFragment: it cannot come into force, and a plane with one does not start.
func TestT118_OneBrokenFragment(t *testing.T) {
	cfg := bare()
	cfg.Dir = t.TempDir()
	r := open(t, cfg)
	r.draft("secops/a", aRule("a", "topics: [job.b.*]", "allow"))
	r.publishBundles(`{}`)
	r.post(configPath, pairs("scope", "system", "scope_id", "policy", "data", pairs("bundles", pairs("db/x", "rules: 7")))).
		refused(400, `invalid policy bundle "db/x": 1:8 must be a list`)
	r.decides("job.b.x", "scheduled: because of a")
	const content = `{"bundles":{"db/x":"rules: 7"}}`
	r.tamper(contentName(content), content)
	r.decided(false, "broken in the store")
	if err := r.plane.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := plane.Open(t.Context(), cfg)
	if err == nil {
		_ = again.Close() // nothing runs in it
	}
	if err == nil || !strings.Contains(err.Error(), "db/x:1:8: must be a list") {
		t.Errorf("it starts: %v", err)
	}
}

func contentName(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "policy/" + hex.EncodeToString(sum[:])
}

// synced runs a test in virtual time that opens its plane itself.
func synced(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today))
		test(t)
	})
}
