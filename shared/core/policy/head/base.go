package head

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Signature is what a process knows of the signature of the base policy.
type Signature string

// What it can know. Only a process with the key can tell a good one.
const (
	NoBase     Signature = "none"
	Unsigned   Signature = "unsigned"
	Unverified Signature = "unverified" // there is one, and no key to verify it with
	Verified   Signature = "verified"
	Invalid    Signature = "invalid" // it is missing or wrong: this process decides nothing
)

// SignatureError says that the base does not carry the signature that it must.
type SignatureError struct{ cause error }

func (e *SignatureError) Error() string { return "base policy: " + e.cause.Error() }

// Unwrap answers what is wrong.
func (e *SignatureError) Unwrap() error { return e.cause }

// Compile makes the policy that content means. An error is a *policy.Error, or a *SignatureError where there is a key and the base is not signed by it.
func (s *Store) Compile(c *Content) (*policy.Policy, error) {
	if err := s.verify(c); err != nil {
		return nil, err
	}
	return c.Compile()
}

// verify passes content without anything in it: that denies everything. Bundles without a base do not pass.
func (s *Store) verify(c *Content) error {
	if s.Key == nil || c.Base == nil && len(c.Bundles) == 0 {
		return nil
	}
	var document []byte
	if c.Base != nil {
		document = c.Base.Content
	}
	if err := s.Key.Verify(document, c.Signature); err != nil {
		return &SignatureError{err}
	}
	return nil
}

func (s *Store) signatureOf(c *Content) Signature {
	switch {
	case c.Base == nil:
		return NoBase
	case s.Key != nil:
		return Verified // or it would not have compiled
	case len(bytes.TrimSpace(c.Signature)) > 0:
		return Unverified
	default:
		return Unsigned
	}
}

// Check says what is wrong with a document as the base policy: a *policy.Error or a *SignatureError.
func (s *Store) Check(base policy.Source, signature []byte) error {
	_, err := s.Compile(&Content{Base: &base, Signature: signature})
	return err
}

// SetBase puts a document in force as the base policy, with its signature, keeping the bundles. It says whether anything changed. A document that
// Check refuses changes nothing.
func (s *Store) SetBase(ctx context.Context, base policy.Source, signature []byte, now time.Time) (bool, error) {
	before, after, err := s.Change(ctx, func(v Version) (*Change, error) {
		if b := v.Content.Base; b != nil && bytes.Equal(b.Content, base.Content) && bytes.Equal(v.Content.Signature, signature) {
			return nil, nil
		}
		v.Content.Base, v.Content.Signature = &base, signature
		return &Change{Content: v.Content, With: func(Version) []store.Op { return []store.Op{loads{LoadedAt: now.UnixMicro()}.op()} }}, nil
	})
	if err != nil || after.Revision != before.Revision {
		return err == nil, err
	}
	l, err := s.loads(ctx)
	if err != nil || l.Error == "" {
		return false, err
	}
	return false, s.Table.Write(ctx, loads{LoadedAt: l.LoadedAt}.op()) // it is what was last good, whatever was refused since
}

// loads is what became of the last attempts to load a base policy.
type loads struct {
	// LoadedAt is when the base was put in force, ErrorAt when another one was refused after that, in microseconds; 0 is never.
	LoadedAt, ErrorAt int64
	Error             string
}

var loadsKey = store.Key{PK: "POLICY#BASE", SK: "L"}

func (l loads) op() store.Op {
	return store.Put(store.Item{Key: loadsKey, Attrs: store.Attrs{"at": l.LoadedAt, "error": l.Error, "error_at": l.ErrorAt}})
}

func (s *Store) loads(ctx context.Context) (loads, error) {
	it, err := s.Table.Get(ctx, loadsKey)
	if errors.Is(err, store.ErrNotFound) {
		return loads{}, nil
	}
	return loads{LoadedAt: it.Attrs.Int("at"), Error: it.Attrs.String("error"), ErrorAt: it.Attrs.Int("error_at")}, err
}

// Refused notes that a base policy was not loaded, for whoever asks for the State. It holds until one is.
func (s *Store) Refused(ctx context.Context, cause error, now time.Time) error {
	l, err := s.loads(ctx)
	if err != nil {
		return err
	}
	return s.Table.Write(ctx, loads{LoadedAt: l.LoadedAt, Error: cause.Error(), ErrorAt: now.UnixMicro()}.op())
}

// State is how the policy in force is, as one process sees it.
type State struct {
	Snapshot  string
	Revision  int64
	Signature Signature
	// LoadedAt is when the base was put in force. LastError is why a later one was not, or why this process cannot decide.
	LoadedAt, LastErrorAt time.Time
	LastError             string
}

// State answers how the policy in force is. Its error says that this is not known.
func (s *Store) State(ctx context.Context) (State, error) {
	l, err := s.loads(ctx)
	if err != nil {
		return State{}, err
	}
	out := State{LoadedAt: moment(l.LoadedAt), LastErrorAt: moment(l.ErrorAt), LastError: l.Error}
	h, err := s.Current(ctx)
	if err == nil {
		out.Snapshot, out.Revision, out.Signature = h.Policy.Snapshot(), h.Revision, h.Signature
		return out, nil
	}
	if _, refused := errors.AsType[*SignatureError](err); !refused {
		return State{}, fmt.Errorf("policy in force: %w", err)
	}
	now, readErr := s.read(ctx, 0)
	out.Snapshot, out.Revision, out.Signature, out.LastError = now.Snapshot, now.Revision, Invalid, cmp.Or(out.LastError, err.Error())
	return out, readErr
}

func moment(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
