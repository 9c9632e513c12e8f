package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Head is where all chains end, signed: a checkpoint. Each names all that was sealed before it.
type Head struct {
	// Number counts heads, from 1.
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	// Tips are those of the chains, by shard.
	Tips []Tip `json:"tips"`
	// Key is the public half of the Ed25519 key that the head is signed with.
	Key       []byte `json:"key"`
	Signature []byte `json:"signature"`
}

// ErrHead says that a head is not what a sealer wrote.
var ErrHead = errors.New("the head of the audit trail is not what a sealer wrote")

// ParseHead reads a head, to the byte as it was written. Whether its signature holds is not looked at.
func ParseHead(data []byte) (*Head, error) {
	h := &Head{}
	if err := json.Unmarshal(data, h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHead, err)
	}
	if !bytes.Equal(h.Encode(), bytes.TrimSpace(data)) {
		return h, fmt.Errorf("%w: it is spelled otherwise", ErrHead)
	}
	return h, nil
}

// Encode writes a head.
func (h *Head) Encode() []byte { return encode(h) }

// tip answers where the head says that a chain ends; the zero Tip when it does not say.
func (h *Head) tip(shard int) Tip {
	if h == nil || shard >= len(h.Tips) {
		return Tip{}
	}
	return h.Tips[shard]
}

func (h *Head) signed() []byte {
	bare := *h
	bare.Signature = nil
	return append([]byte("cordum audit head\n"), encode(bare)...)
}

// Check says whether the head is signed with one of the keys, or, when there are none, with the key that it names.
func (h *Head) Check(trusted ...ed25519.PublicKey) error {
	key := ed25519.PublicKey(h.Key)
	switch {
	case len(trusted) > 0 && !slices.ContainsFunc(trusted, func(t ed25519.PublicKey) bool { return t.Equal(key) }):
		return fmt.Errorf("head %d is signed with the key %s, which is not trusted", h.Number, SpellKey(key))
	case len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, h.signed(), h.Signature):
		return fmt.Errorf("the signature of head %d does not hold", h.Number)
	}
	return nil
}

// Keys are the keys of a plane: the first signs, heads of all are gone on from.
type Keys struct{ private []ed25519.PrivateKey }

// minSecret is the least length of a secret, in characters.
const minSecret = 32

// ParseKeys makes keys of CORDUM_AUDIT_KEY: a random text of at least 32 characters, or several with commas between, the newest first.
func ParseKeys(secrets string) (Keys, error) {
	var k Keys
	for secret := range strings.SplitSeq(secrets, ",") {
		secret = strings.TrimSpace(secret)
		if len(secret) < minSecret {
			return Keys{}, fmt.Errorf("CORDUM_AUDIT_KEY must be a random text of at least %d characters, or several with commas between", minSecret)
		}
		seed, err := hkdf.Key(sha256.New, []byte(secret), nil, "cordum audit trail", ed25519.SeedSize)
		if err != nil {
			return Keys{}, fmt.Errorf("CORDUM_AUDIT_KEY: %w", err)
		}
		k.private = append(k.private, ed25519.NewKeyFromSeed(seed))
	}
	return k, nil
}

// Public answers the public halves.
func (k Keys) Public() []ed25519.PublicKey {
	out := make([]ed25519.PublicKey, len(k.private))
	for i, p := range k.private {
		out[i], _ = p.Public().(ed25519.PublicKey)
	}
	return out
}

func (k Keys) sign(h *Head) {
	h.Key = k.Public()[0]
	h.Signature = ed25519.Sign(k.private[0], h.signed())
}

// SpellKey writes a public key as people pass it on.
func SpellKey(key ed25519.PublicKey) string { return base64.RawURLEncoding.EncodeToString(key) }

// ParsePublicKey reads what SpellKey wrote.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("a public key is 43 characters of base64url, as the sealer's log and cordum-audit show it")
	}
	return key, nil
}
