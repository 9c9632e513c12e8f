// Package artifact keeps files that clients store and never change: what is known about one in the table, its bytes in the object store. A small file
// comes with the request; a larger one is announced, and its client uploads it to the object store by itself.
//
// The item of the table is what makes an artifact. Bytes are stored before it, so that one that was acknowledged has them; where only the bytes were
// stored, nobody knows their id, and they go with their class. An announced artifact is there when the object is, with the size and the type that
// were announced: both are signed into the URL, and an object that is there is not replaced.
package artifact

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store keeps artifacts. All its methods may be called at once. Who only reads needs neither IDs nor Settings.
type Store struct {
	Table    store.Table
	Blobs    blob.Store
	IDs      ids.Source
	Settings Settings
}

// File is what a client says of a file.
type File struct {
	ContentType string
	// Retention may be any word; what is no retention is Standard.
	Retention Retention
	// Labels must not name another tenant than the client's.
	Labels map[string]string
	// SHA256 is of its bytes, in hexadecimal digits; "" says nothing about them.
	SHA256 string
}

// Meta is what is known about an artifact.
type Meta struct {
	ID          string
	ContentType string
	Size        int64
	Retention   Retention
	// Labels have the tenant among them.
	Labels map[string]string
	// Expires is when it is gone.
	Expires time.Time

	tenant   string
	labels   []byte // Labels as JSON
	sum      string // what its bytes must have; "" is any
	verified bool   // they have it
}

// Link is a request that a client makes by itself, without a credential: it began before Expires.
type Link struct {
	blob.Signed

	Expires time.Time
}

// What a client hears.
var (
	// ErrUnknown is the answer for an artifact that a tenant has not, and for one that was announced and is not uploaded yet.
	ErrUnknown = fault.New(fault.NotFound, "artifact not found")

	errTooLarge = fault.New(fault.TooLarge, "artifact too large")
	errContent  = fault.New(fault.Invalid, "content required")
	errOther    = fault.New(fault.Conflict, "what was uploaded is not what was announced; store it again")
	// errInline is the text of the route for a request that is too large altogether.
	errInline = fault.New(fault.TooLarge,
		"artifact too large to be sent as content (max %d bytes): send size_bytes instead, and upload it to the URL of the answer", MaxInline)
)

const (
	// maxType is the longest media type, maxLabels the most that the labels of one artifact take as JSON, in bytes: they lie in one item.
	maxType   = 256
	maxLabels = 256 << 10
	// linkTime is how long a link works, if the artifact lives so long.
	linkTime = 15 * time.Minute
)

// Put stores a file of the caller's tenant. limit lowers what is accepted, in bytes; 0 does not.
//
// Faults: Invalid for nothing, for labels that are none, for bytes that do not have their SHA-256; Denied for another tenant's label; TooLarge.
func (s *Store) Put(ctx context.Context, by identity.Identity, f File, data []byte, limit int64, now time.Time) (Meta, error) {
	m, class, err := s.describe(by, f, now)
	m.Size, m.verified = int64(len(data)), true
	switch {
	case err != nil:
		return Meta{}, err
	case len(data) == 0:
		return Meta{}, errContent
	case m.Size > lower(s.Settings.maxContent(), limit):
		return Meta{}, errTooLarge
	case m.Size > MaxInline:
		return Meta{}, errInline
	case m.sum != "" && m.sum != canonical.Hash(data):
		return Meta{}, fault.New(fault.Invalid, "content does not have this sha256")
	}
	if err := s.Blobs.Put(ctx, object(m.ID), data, blob.PutOptions{ContentType: m.objectType(), Class: class}); err != nil {
		return Meta{}, err
	}
	return m, s.write(ctx, by, m, now)
}

// Announce makes an artifact of the caller's tenant that is there as soon as its client has uploaded it. limit lowers what is accepted, in bytes; 0
// does not.
//
// Faults: those of Put.
func (s *Store) Announce(ctx context.Context, by identity.Identity, f File, size, limit int64, now time.Time) (Meta, Link, error) {
	m, class, err := s.describe(by, f, now)
	m.Size = size
	switch {
	case err != nil:
		return Meta{}, Link{}, err
	case size <= 0:
		return Meta{}, Link{}, errContent
	case size > lower(s.Settings.maxUpload(), limit):
		return Meta{}, Link{}, errTooLarge
	}
	link, ttl := m.link(now)
	if link.Signed, err = s.Blobs.PresignPut(ctx, object(m.ID), blob.Upload{ContentType: m.objectType(), Size: size, Class: class}, ttl); err != nil {
		return Meta{}, Link{}, err
	}
	return m, link, s.write(ctx, by, m, now)
}

// describe checks what a client says of a file, and answers what will be known about it, and the class of its bytes.
func (s *Store) describe(by identity.Identity, f File, now time.Time) (m Meta, class string, err error) {
	if tenant, said := f.Labels[tenantLabel]; said && tenant != by.Tenant {
		return m, "", fault.New(fault.Denied, "tenant access denied")
	}
	if err := job.CheckLabels(f.Labels); err != nil {
		return m, "", err
	}
	if len(f.ContentType) > maxType {
		return m, "", fault.New(fault.Invalid, "content_type too long (max %d bytes)", maxType)
	}
	if bytes, err := hex.DecodeString(f.SHA256); err != nil || len(bytes) != 0 && len(bytes) != sha256.Size {
		return m, "", fault.New(fault.Invalid, "invalid sha256: it has %d hexadecimal digits", 2*sha256.Size)
	}
	retention := f.Retention.known()
	keep, class := s.Settings.keep(retention)
	m = Meta{
		ID: s.IDs.UUID(), ContentType: f.ContentType, Retention: retention, Labels: maps.Clone(f.Labels), Expires: time.Unix(now.Add(keep).Unix(), 0).UTC(),
		tenant: by.Tenant, sum: strings.ToLower(f.SHA256),
	}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	m.Labels[tenantLabel] = by.Tenant
	if m.labels, err = json.Marshal(m.Labels); err != nil {
		return m, "", fmt.Errorf("artifact %s: encode labels: %w", m.ID, err)
	}
	if len(m.labels) > maxLabels {
		return m, "", fault.New(fault.Invalid, "labels too large (max %d bytes of JSON)", maxLabels)
	}
	return m, class, nil
}

// tenantLabel is the label that the plane sets.
const tenantLabel = "tenant_id"

// objectType is the media type of its bytes in the object store, which takes only what is one.
func (m Meta) objectType() string {
	if m.ContentType == "" || (blob.PutOptions{ContentType: m.ContentType}).Check() != nil {
		return blob.DefaultType
	}
	return m.ContentType
}

// link answers a link without its URL, and how long it works: not longer than the artifact lives, and a second if that is less.
func (m Meta) link(now time.Time) (Link, time.Duration) {
	ttl := max(time.Second, min(linkTime, m.Expires.Sub(now)))
	return Link{Expires: now.Add(ttl).UTC()}, ttl
}

// write makes the artifact.
func (s *Store) write(ctx context.Context, by identity.Identity, m Meta, now time.Time) error {
	return s.Table.Write(ctx, store.Put(store.Item{
		Key: key(m.tenant, m.ID), Expires: m.Expires.Unix(),
		Attrs: store.Attrs{
			attrType: m.ContentType, attrSize: m.Size, attrRetention: string(m.Retention), attrLabels: m.labels, attrSum: m.sum, attrVerified: m.verified,
			attrBy: cmp.Or(by.Principal, by.KeyID), attrAt: now.UnixMicro(),
		},
	}))
}

// find answers what is known about a tenant's artifact.
func (s *Store) find(ctx context.Context, tenant, id string, now time.Time) (Meta, error) {
	id, ok := ids.ParseUUID(id)
	if !ok {
		return Meta{}, ErrUnknown
	}
	it, err := s.Table.Get(ctx, key(tenant, id))
	if errors.Is(err, store.ErrNotFound) || err == nil && !it.Live(now.Unix()) {
		return Meta{}, ErrUnknown
	}
	if err != nil {
		return Meta{}, err
	}
	a := it.Attrs
	m := Meta{
		ID: id, ContentType: a.String(attrType), Size: a.Int(attrSize), Retention: Retention(a.String(attrRetention)), Expires: time.Unix(it.Expires, 0).UTC(),
		tenant: tenant, sum: a.String(attrSum), verified: a.Bool(attrVerified),
	}
	if err := json.Unmarshal(a.Bytes(attrLabels), &m.Labels); err != nil {
		return Meta{}, fmt.Errorf("artifact %s: decode labels: %w", id, err)
	}
	return m, nil
}

// Read answers the bytes of a tenant's artifact. limit is the most that the caller takes, in bytes; 0 is all.
//
// Faults: ErrUnknown, TooLarge, Conflict when what was uploaded is not what was announced.
func (s *Store) Read(ctx context.Context, tenant, id string, limit int64, now time.Time) ([]byte, Meta, error) {
	m, err := s.find(ctx, tenant, id, now)
	if err != nil {
		return nil, Meta{}, err
	}
	data, err := s.read(ctx, m, limit)
	return data, m, err
}

// Open is Read for a client that may be told where the bytes are instead: when it asks for that, and when they are too many for an answer. Then data
// is nil.
func (s *Store) Open(ctx context.Context, tenant, id string, limit int64, download bool, now time.Time) (data []byte, link Link, m Meta, err error) {
	if m, err = s.find(ctx, tenant, id, now); err != nil {
		return nil, Link{}, Meta{}, err
	}
	if !download && m.Size <= MaxInline {
		data, err = s.read(ctx, m, limit)
		return data, Link{}, m, err
	}
	if err = s.present(ctx, m); err != nil {
		return nil, Link{}, Meta{}, err
	}
	if m.Size > lower(m.Size, limit) {
		return nil, Link{}, Meta{}, errTooLarge
	}
	if err = s.verify(ctx, m); err != nil {
		return nil, Link{}, Meta{}, err
	}
	link, ttl := m.link(now)
	link.URL, err = s.Blobs.PresignGet(ctx, object(m.ID), ttl)
	return nil, link, m, err
}

// read answers the bytes, when they are there and are what they should be.
func (s *Store) read(ctx context.Context, m Meta, limit int64) ([]byte, error) {
	if m.Size > lower(m.Size, limit) {
		if err := s.present(ctx, m); err != nil {
			return nil, err
		}
		return nil, errTooLarge
	}
	data, o, err := s.Blobs.Get(ctx, object(m.ID), m.Size)
	if err = m.is(o, err); err != nil {
		return nil, err
	}
	if m.sum != "" && m.sum != canonical.Hash(data) {
		return nil, errOther
	}
	return data, nil
}

// present says whether the bytes are there.
func (s *Store) present(ctx context.Context, m Meta) error {
	o, err := s.Blobs.Head(ctx, object(m.ID))
	return m.is(o, err)
}

// is says whether an object that was looked for is the artifact's.
func (m Meta) is(o blob.Object, err error) error {
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return ErrUnknown
	case errors.Is(err, blob.ErrTooLarge), err == nil && (o.Size != m.Size || o.ContentType != m.objectType()):
		return errOther
	}
	return err
}

// verify reads what a client was told the SHA-256 of, once: it never changes.
func (s *Store) verify(ctx context.Context, m Meta) error {
	if m.sum == "" || m.verified {
		return nil
	}
	if _, err := s.read(ctx, m, 0); err != nil {
		return err
	}
	err := s.Table.Write(ctx, store.Update(key(m.tenant, m.ID)).SetAttr(attrVerified, true).If(store.Exists()))
	if store.Overtaken(err) { // it has expired meanwhile
		return ErrUnknown
	}
	return err
}
