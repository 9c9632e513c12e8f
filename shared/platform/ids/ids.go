// Package ids is the port to randomness: identifiers that nobody else has.
package ids

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"

	"github.com/google/uuid"
)

// Source makes identifiers from random bytes. The zero Source reads crypto/rand; a test gives a seeded reader.
type Source struct{ Reader io.Reader }

// UUID answers a random (version 4) UUID in its canonical text.
func (s Source) UUID() string { return uuid.Must(uuid.NewRandomFromReader(s.reader())).String() }

// ParseUUID answers the canonical text of a UUID that stands in hexadecimal digits and dashes; ok is false for any other text.
func ParseUUID(text string) (canonical string, ok bool) {
	id, err := uuid.Parse(text)
	return id.String(), err == nil && len(text) == len(canonicalUUID)
}

const canonicalUUID = "00000000-0000-0000-0000-000000000000"

// Hex answers n random bytes as 2n hexadecimal digits.
func (s Source) Hex(n int) string { return hex.EncodeToString(s.bytes(n)) }

// Token answers n random bytes in base64url without padding.
func (s Source) Token(n int) string { return base64.RawURLEncoding.EncodeToString(s.bytes(n)) }

func (s Source) bytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.reader(), b); err != nil {
		panic("ids: no randomness: " + err.Error())
	}
	return b
}

// Named answers the UUID (version 5) that belongs to the parts, always the same for the same parts.
func Named(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
		b = append(b, 0)
	}
	return uuid.NewSHA1(namespace, b).String()
}

var namespace = uuid.MustParse("6d0c4f0e-8f0b-4d57-9d5e-3d1a1c8a7b52")

func (s Source) reader() io.Reader {
	if s.Reader == nil {
		return rand.Reader
	}
	return s.Reader
}
