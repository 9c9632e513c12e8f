package signed_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
)

var (
	private  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("seed"), 8))
	public   = []byte(private.Public().(ed25519.PublicKey))
	document = []byte("rules: [{id: a, decision: deny}]\n")
	good     = ed25519.Sign(private, document)
)

func asPEM(t *testing.T, kind string, key any) string {
	t.Helper()
	raw, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

func TestT119_KeysAndSignaturesInEveryForm(t *testing.T) {
	keys := map[string]string{
		"hex": hex.EncodeToString(public), "HEX": strings.ToUpper(hex.EncodeToString(public)), "base64": base64.StdEncoding.EncodeToString(public),
		"base64 for URLs, unpadded": base64.RawURLEncoding.EncodeToString(public), "PEM": asPEM(t, "PUBLIC KEY", ed25519.PublicKey(public)),
		"with space around": "\n " + hex.EncodeToString(public) + "\n",
	}
	signatures := map[string][]byte{
		"raw": good, "hex": []byte(hex.EncodeToString(good)), "base64": []byte(base64.StdEncoding.EncodeToString(good)),
		"base64 for URLs": []byte(base64.URLEncoding.EncodeToString(good)), "a line": []byte(base64.RawStdEncoding.EncodeToString(good) + "\n"),
	}
	for name, text := range keys {
		key, err := signed.ParseKey(text)
		if err != nil {
			t.Errorf("key in %s: %v", name, err)
			continue
		}
		for form, signature := range signatures {
			if err := key.Verify(document, signature); err != nil {
				t.Errorf("key in %s, signature in %s: %v", name, form, err)
			}
		}
	}
}

func TestT119_RefusedSignatures(t *testing.T) {
	key, other := signed.Key(public), signed.Key{1}
	edited := append([]byte("#"), document...)
	flipped := append([]byte{}, good...)
	flipped[0] ^= 1
	const form = "the signature must be 64 bytes, as they are or in hex or base64"
	tests := []struct {
		name                string
		key                 signed.Key
		document, signature []byte
		want                string
	}{
		{"missing", key, document, nil, "the policy has no signature"},
		{"blank", key, document, []byte(" \n"), "the policy has no signature"},
		{"of another document", key, edited, good, "the signature is not of this policy by this key"},
		{"one bit wrong", key, document, flipped, "the signature is not of this policy by this key"},
		{"by another key", other, document, good, "the signature is not of this policy by this key"},
		{"too short", key, document, good[:63], form},
		{"too long", key, document, []byte(hex.EncodeToString(good) + "00"), form},
		{"of the length of a key", key, document, []byte(hex.EncodeToString(public)), "the signature is not of this policy by this key"},
		{"not text", key, document, []byte("-----BEGIN SIGNATURE-----"), form},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.key.Verify(tt.document, tt.signature); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	if err := key.Verify(document, nil); !errors.Is(err, signed.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	if err := key.Verify(edited, good); !errors.Is(err, signed.ErrWrong) {
		t.Errorf("wrong: %v", err)
	}
}

func TestT119_RefusedKeys(t *testing.T) {
	elsewhere, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := asPEM(t, "PUBLIC KEY", ed25519.PublicKey(public))
	const form, block = "the public key must be 32 bytes in hex or base64, or PEM", "the public key must be one PEM block of the type PUBLIC KEY"
	tests := []struct{ name, text, want string }{
		{"nothing", "", form},
		{"too short", hex.EncodeToString(public[:31]), form},
		{"a private key in hex", hex.EncodeToString(private), form},
		{"48 bytes in base64", base64.StdEncoding.EncodeToString(slices.Concat(public, public[:16])), form},
		{"not text", "policy.pub", form},
		{"PEM of a private key", strings.ReplaceAll(own, "PUBLIC", "PRIVATE"), block},
		{"PEM cut off", own[:60], block},
		{"two blocks", own + own, block},
		{"a key of another kind", asPEM(t, "PUBLIC KEY", &elsewhere.PublicKey), "the public key is not an Ed25519 key"},
		{"PEM of something else", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "the public key: asn1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if key, err := signed.ParseKey(tt.text); err == nil || !strings.HasPrefix(err.Error(), tt.want) || key != (signed.Key{}) {
				t.Errorf("key %x, error %v, want %s", key, err, tt.want)
			}
		})
	}
}
