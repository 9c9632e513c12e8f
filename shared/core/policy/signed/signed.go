// Package signed verifies that a base policy is what its author signed: Ed25519 over the bytes of the document.
package signed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Key is a public key.
type Key [ed25519.PublicKeySize]byte

// What can be wrong with a signature.
var (
	ErrMissing = errors.New("the policy has no signature")
	ErrWrong   = errors.New("the signature is not of this policy by this key")
)

// ParseKey reads a public key: PEM as openssl writes it, or the 32 bytes in hex or base64, of either alphabet, padded or not. Which of them a
// text is says the length of what it decodes to.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "-----BEGIN") {
		return parsePEM(text)
	}
	raw := decode(text, ed25519.PublicKeySize)
	if raw == nil {
		return Key{}, fmt.Errorf("the public key must be %d bytes in hex or base64, or PEM", ed25519.PublicKeySize)
	}
	return Key(raw), nil
}

func parsePEM(text string) (Key, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, errors.New("the public key must be one PEM block of the type PUBLIC KEY")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("the public key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return Key{}, errors.New("the public key is not an Ed25519 key")
	}
	return Key(key), nil
}

// Verify answers nil when the signature is of exactly these bytes by this key. The signature is 64 bytes as they are, or in hex or base64;
// none is ErrMissing, another document's or another key's is ErrWrong.
func (k Key) Verify(document, signature []byte) error {
	text := strings.TrimSpace(string(signature))
	if len(signature) != ed25519.SignatureSize {
		if text == "" {
			return ErrMissing
		}
		if signature = decode(text, ed25519.SignatureSize); signature == nil {
			return fmt.Errorf("the signature must be %d bytes, as they are or in hex or base64", ed25519.SignatureSize)
		}
	}
	if !ed25519.Verify(k[:], document, signature) {
		return ErrWrong
	}
	return nil
}

// decode answers nil unless the text stands for so many bytes. A text never does in two ways: hex is longer than base64.
func decode(text string, size int) []byte {
	if raw, err := hex.DecodeString(text); err == nil && len(raw) == size {
		return raw
	}
	for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if raw, err := alphabet.DecodeString(text); err == nil && len(raw) == size {
			return raw
		}
	}
	return nil
}
