// Package canonical writes JSON in the one form that hashes are made of: members in the order of their names, no white space, the escapes of
// encoding/json, and every number as it was written.
package canonical

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// JSON writes one JSON value anew in that form.
func JSON(raw []byte) ([]byte, error) {
	v, err := tree(raw)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// Object writes an object of these members in that form.
func Object(members map[string]json.RawMessage) ([]byte, error) {
	values := make(map[string]any, len(members))
	for name, raw := range members {
		v, err := tree(raw)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		values[name] = v
	}
	return json.Marshal(values)
}

// Hash is the SHA-256 of a text, in hexadecimal.
func Hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func tree(raw []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // numbers stay as they were written
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}
