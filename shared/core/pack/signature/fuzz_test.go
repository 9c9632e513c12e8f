package signature_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/pack/signature"
)

// FuzzVerify: what nobody signed is not trusted, however it is spelled.
func FuzzVerify(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public, _ := key.Public().(ed25519.PublicKey)
	keys, err := signature.ParseKeys(`{"k":"` + base64.StdEncoding.EncodeToString(public) + `"}`)
	if err != nil {
		f.Fatal(err)
	}
	signed := signature.Statement{PackID: "p", PackVersion: "1.0.0"}
	signed.Add("pack.yaml", "manifest", []byte("id: p"))
	text, err := signature.Sign(signed, "k", key, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := keys.Verify(text, signed); err != nil {
		f.Fatal(err)
	}
	forged := signature.Statement{PackID: "p", PackVersion: "1.0.0"}
	forged.Add("pack.yaml", "manifest", []byte("id: q"))
	f.Add(text)
	f.Add([]byte("apiVersion: x\nkind: y\nsignature: &a [*a]"))
	f.Add([]byte(`{"manifest":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, err := keys.Verify(text, forged); err == nil {
			t.Errorf("%s is trusted by %s", text, id)
		}
	})
}
