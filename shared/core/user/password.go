package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// MaxPassword is the longest password, in bytes.
const MaxPassword = 256

// Rule says what a password must have.
type Rule struct {
	// Length is the fewest characters.
	Length int
	// Upper, Digit and Special want one of their kind each: a capital letter, a digit, and what is neither letter nor digit nor space.
	Upper, Digit, Special bool
}

// Check says what is wrong with a password, which it does not quote: an Invalid fault.
func (r Rule) Check(password string) error {
	switch has := func(is func(rune) bool) bool { return strings.ContainsFunc(password, is) }; {
	case len(password) > MaxPassword || !utf8.ValidString(password):
		return fault.New(fault.Invalid, "password must be text of at most %d bytes", MaxPassword)
	case utf8.RuneCountInString(password) < r.Length:
		return fault.New(fault.Invalid, "password must be at least %d characters", r.Length)
	case r.Upper && !has(unicode.IsUpper):
		return fault.New(fault.Invalid, "password must contain an upper-case letter")
	case r.Digit && !has(unicode.IsDigit):
		return fault.New(fault.Invalid, "password must contain a digit")
	case r.Special && !has(special):
		return fault.New(fault.Invalid, "password must contain a special character")
	}
	return nil
}

func special(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }

// What a hash costs, by OWASP's recommendation for argon2id: 19 MiB and two passes. It stands in every hash, so that it can be raised.
const (
	hashMemory  = 19 * 1024 // KiB
	hashPasses  = 2
	hashThreads = 1
	hashLength  = 32
	saltLength  = 16
)

// hashing bounds how many hashes a process makes at once: more would not fit beside the rest into a function of 512 MB.
var hashing = make(chan struct{}, 4)

// Passwords makes and compares hashes.
type Passwords struct{ derived atomic.Int64 }

// Derived is how many hashes were made: what a comparison costs, whoever it is for.
func (p *Passwords) Derived() int64 { return p.derived.Load() }

// Hash makes the text that is stored of a password.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // it does not fail
	h := hashed{memory: hashMemory, passes: hashPasses, threads: hashThreads, salt: salt, sum: make([]byte, hashLength)}
	sum, err := p.derive(ctx, password, h)
	h.sum = sum
	return h.String(), err
}

// Matches says whether a hash is of the password, in the same time wherever they differ.
func (p *Passwords) Matches(ctx context.Context, hash, password string) (bool, error) {
	h, err := parseHash(hash)
	if err != nil {
		return false, err
	}
	sum, err := p.derive(ctx, password, h)
	return err == nil && subtle.ConstantTimeCompare(sum, h.sum) == 1, err
}

// Nobody compares a password of somebody who does not exist: it takes as long as one of somebody who does.
func (p *Passwords) Nobody(ctx context.Context, password string) error {
	_, err := p.derive(ctx, password, hashed{
		memory: hashMemory, passes: hashPasses, threads: hashThreads, salt: make([]byte, saltLength), sum: make([]byte, hashLength),
	})
	return err
}

func (p *Passwords) derive(ctx context.Context, password string, h hashed) ([]byte, error) {
	select {
	case hashing <- struct{}{}:
		defer func() { <-hashing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.derived.Add(1)
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, uint32(len(h.sum))), nil
}

// hashed is a hash as it is stored, in the form that all implementations of argon2 share: $argon2id$v=19$m=19456,t=2,p=1$<salt>$<sum>.
type hashed struct {
	memory, passes uint32
	threads        uint8
	salt, sum      []byte
}

func (h hashed) String() string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.threads, text(h.salt), text(h.sum))
}

func parseHash(text string) (h hashed, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.threads); err != nil || h.passes == 0 || h.threads == 0 {
		return h, errHash
	}
	h.salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err == nil {
		h.sum, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(h.sum) == 0 {
		return h, errHash
	}
	return h, nil
}

var errHash = fmt.Errorf("user: what is stored is no argon2id hash")
