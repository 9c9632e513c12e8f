package pack_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/signature"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
)

var (
	author   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("auth"), 8))
	stranger = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("else"), 8))
	trusted  = signature.Keys{"author-1": signed.Key(author.Public().(ed25519.PublicKey))}
	at       = time.Date(2026, 2, 12, 10, 0, 0, 0, time.FixedZone("", 3600))
)

const sig = "pack.yaml.sig"

// sign adds the signature of what the files are.
func sign(t testing.TB, all map[string][]byte, id string, key ed25519.PrivateKey, change func(*signature.Statement)) map[string][]byte {
	t.Helper()
	s, err := pack.Statement(bundle(t, all), plane)
	if err != nil {
		t.Fatal(err)
	}
	change(&s)
	text, err := signature.Sign(s, id, key, at)
	if err != nil {
		t.Fatal(err)
	}
	all = maps.Clone(all)
	all[sig] = text
	return all
}

func asIs(*signature.Statement) {}

func TestSignedPacks(t *testing.T) {
	all := sign(t, files(t, "testdata/harbour"), "author-1", author, asIs)
	inYAML, err := yaml.JSONToYAML(all[sig])
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		text []byte
		o    pack.Options
		by   string
	}{
		{"by a trusted key", all[sig], pack.Options{Keys: trusted}, "author-1"},
		{"by a trusted key, as it must be", all[sig], pack.Options{Keys: trusted, RequireSignature: true}, "author-1"},
		{"in YAML", inYAML, pack.Options{Keys: trusted}, "author-1"},
		{"without keys nothing is looked at", []byte("nonsense"), pack.Options{}, ""},
		{"not signed", nil, pack.Options{Keys: trusted}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(all)
			if files[sig] = tt.text; tt.text == nil {
				delete(files, sig)
			}
			files["README.md"] = []byte("is not covered")
			if p, err := pack.Parse(bundle(t, files), tt.o); err != nil || p.SignedBy != tt.by {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}

// The bytes that are signed are those of the contract, so that other programs can make and check signatures.
func TestWhatIsSigned(t *testing.T) {
	all := sign(t, edited(t, edit{"pack.yaml", "", "metadata: {id: a, version: 1}\ncompatibility: {protocolVersion: 1}\n"}), "author-1", author, asIs)
	var e struct {
		Signature struct{ Value []byte }
	}
	if err := json.Unmarshal(all[sig], &e); err != nil {
		t.Fatal(err)
	}
	text := "cordum.pack.v1\n" + `{"version":1,"pack_id":"a","pack_version":"1","signed_at":"2026-02-12T09:00:00Z","algorithm":"ed25519",` +
		`"files":[{"path":"pack.yaml","sha256":"` + digestOf(all["pack.yaml"]) + `","size_bytes":66,"kind":"manifest"}]}`
	if !ed25519.Verify(author.Public().(ed25519.PublicKey), []byte(text), e.Signature.Value) {
		t.Errorf("the signature is not of %s", text)
	}
}

func TestRefusedSignatures(t *testing.T) {
	all := files(t, "testdata/harbour")
	good := sign(t, all, "author-1", author, asIs)
	text := func(old, other string) map[string][]byte {
		if !strings.Contains(string(good[sig]), old) {
			t.Fatalf("no %q in %s", old, good[sig])
		}
		changed := maps.Clone(good)
		changed[sig] = []byte(strings.ReplaceAll(string(good[sig]), old, other))
		return changed
	}
	with := func(name, content string) map[string][]byte {
		changed := maps.Clone(good)
		changed[name] = []byte(content)
		return changed
	}
	said := func(change func(*signature.Statement)) map[string][]byte {
		return sign(t, all, "author-1", author, change)
	}
	const forged = `pack signature: it was not made by the key "author-1" of this manifest`
	tests := []struct {
		name  string
		files map[string][]byte
		want  string
	}{
		{"none", all, "pack is not signed: pack.yaml.sig not found in archive"},
		{"by a key that nobody knows", sign(t, all, "author-2", author, asIs), `pack signature: key "author-2" is not trusted here`},
		{"by another key under its name", sign(t, all, "author-1", stranger, asIs), forged},
		{"a file that was changed", with("overlays/limits.yaml", "rules: []\n"), "pack signature: overlays/limits.yaml is not as it was signed"},
		{"a manifest that was changed", with("pack.yaml", strings.Replace(string(all["pack.yaml"]), "title: Harbour", "title: Port", 1)), "pack signature: pack.yaml is not as it was signed"},
		{"a file that is not covered", said(func(s *signature.Statement) { s.Files = s.Files[1:] }), "pack signature: it does not cover "},
		{"a file that is covered twice", said(func(s *signature.Statement) { s.Files = append(s.Files, s.Files[0]) }), "pack signature: it covers "},
		{"a file that the pack has not", said(func(s *signature.Statement) { s.Add("deploy/run.sh", "overlay", nil) }), "pack signature: it covers deploy/run.sh, which the manifest does not name"},
		{"a file of another size", said(func(s *signature.Statement) { s.Files[0].Size++ }), "pack signature: "},
		{"of another pack", said(func(s *signature.Statement) { s.PackID = "port" }), "pack signature: it is of port 1.10, and this is harbour 1.10"},
		{"of another version", said(func(s *signature.Statement) { s.PackVersion = "1.9" }), "pack signature: it is of harbour 1.9, and this is harbour 1.10"},
		{"a digest that was changed", text(digestOf(all["overlays/limits.yaml"]), strings.Repeat("0", 64)), forged},
		{"metadata that was changed", text("    \"pack_id\": \"harbour\",\n    \"pack_version\": \"1.10\",\n    \"signed_at\": \"2026-02-12T09:00:00Z\"\n  },", "    \"pack_id\": \"port\"\n  },"),
			"pack signature: its metadata is not what was signed"},
		{"another algorithm", text("ed25519", "none"), "pack signature: algorithm must be ed25519"},
		{"another domain", text("cordum.pack.v1", "cordum.policy.v1"), "pack signature: it must be of cordum.pack.v1, version 1"},
		{"another kind", text("PackSignature", "Pack"), "pack signature: it must be a PackSignature of cordum.io/v1alpha1"},
		{"no value", with(sig, `{"apiVersion":"cordum.io/v1alpha1","kind":"PackSignature","signature":{"key_id":"author-1","algorithm":"ed25519","domain":"cordum.pack.v1","value":"x"},"manifest":{"version":1,"algorithm":"ed25519"}}`), forged},
		{"nothing", with(sig, ""), "pack signature: must be an object"},
		{"a list", with(sig, "[]"), "pack signature: must be an object"},
		{"no YAML", with(sig, "a: ]"), "pack signature: line 1: "},
		{"numbers for texts", with(sig, "kind: 7"), "pack signature: json: cannot unmarshal number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := pack.Options{Keys: trusted, RequireSignature: true}
			p, err := pack.Parse(bundle(t, tt.files), o)
			if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), tt.want) || p != nil {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if o.RequireSignature = false; tt.files[sig] != nil {
				if _, err := pack.Parse(bundle(t, tt.files), o); err == nil {
					t.Error("a wrong signature is taken where none is needed")
				}
			}
			if tt.files[sig] != nil {
				if _, err := pack.Parse(bundle(t, tt.files), pack.Options{RequireSignature: true}); err == nil {
					t.Error("no key is trusted, and a signature is needed")
				}
			}
		})
	}
}

func TestKeysOfPacks(t *testing.T) {
	public := hex.EncodeToString(author.Public().(ed25519.PublicKey))
	keys, err := signature.ParseKeys(`{"author-1":"` + public + `"}`)
	if err != nil || len(keys) != 1 || keys["author-1"] != trusted["author-1"] {
		t.Errorf("%v, %v", keys, err)
	}
	if keys, err := signature.ParseKeys(" "); err != nil || keys != nil {
		t.Errorf("%v, %v", keys, err)
	}
	for text, want := range map[string]string{
		`[]`: `keys of packs: it is not {"<key id>": "<public key>"}: `, `{"a":"b"}`: `keys of packs: "a": the public key must be 32 bytes`, `{"":"` + public + `"}`: "keys of packs: a key has no id",
	} {
		if _, err := signature.ParseKeys(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
