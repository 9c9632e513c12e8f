package signature_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/signature"
)

// FuzzParse: keys of senders are on P-256, or refused.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"w":"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----"}`, `{"w":null}`, "[]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := signature.Parse(text)
		for sender, key := range keys {
			if err != nil || key == nil || key.Curve != elliptic.P256() {
				t.Errorf("%q: %v, %v", sender, key, err)
			}
		}
	})
}
