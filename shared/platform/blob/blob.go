// Package blob is the port to object storage: bytes under a key, immutable once read. Adapters pass blobtest.
package blob

import (
	"context"
	"errors"
	"time"
)

// MaxInline is the largest body that Put and Get carry in memory.
const MaxInline = 64 << 20

// DefaultType is the content type of what was stored without one.
const DefaultType = "application/octet-stream"

// Object describes what is stored under a key.
type Object struct {
	ContentType string
	Size        int64
	// Class is the retention class that the store's lifecycle rules go by ("short", "standard", "audit"; "" is kept).
	Class string
	// Metadata are short ASCII values kept beside the bytes; names are lower case.
	Metadata map[string]string
}

// PutOptions are what Put stores beside the bytes.
type PutOptions struct {
	ContentType string
	Class       string
	Metadata    map[string]string
	// IfAbsent refuses to replace what is there (ErrExists).
	IfAbsent bool
}

// Upload is what a presigned URL takes, and nothing else.
type Upload struct {
	ContentType string
	Size        int64
	Class       string
}

// Signed is a presigned URL, and the headers that a request must have to be what was signed, beside its Content-Length.
type Signed struct {
	URL    string
	Header map[string]string
}

// Store is the port. Keys are 1 to 900 bytes of A-Z a-z 0-9 / . _ - : @ = + ~, in segments between "/" that are neither empty nor "." nor
// "..". All methods may fail with ErrUnavailable, with ErrInvalid for a bad key, and with the context's error. What was written is there for
// every read that begins afterwards.
type Store interface {
	// Put stores data under key, replacing what is there: all of it or none. More than MaxInline bytes are ErrTooLarge. Without a content
	// type it is DefaultType.
	Put(ctx context.Context, key string, data []byte, opts PutOptions) error
	// Get answers the bytes; ErrNotFound for an unknown key, ErrTooLarge when there are more than limit bytes (0: MaxInline).
	Get(ctx context.Context, key string, limit int64) ([]byte, Object, error)
	// Head answers the description alone; ErrNotFound for an unknown key.
	Head(ctx context.Context, key string) (Object, error)
	// Delete removes the object; an unknown key is no error.
	Delete(ctx context.Context, key string) error
	// PresignGet answers a URL that downloads the object without a credential until ttl (at most 7 days) has passed.
	PresignGet(ctx context.Context, key string, ttl time.Duration) (string, error)
	// PresignPut answers a URL that uploads exactly these bytes until ttl has passed, with an HTTP PUT. It creates: where an object is, from
	// an earlier PUT too, the upload is refused, 412. The object has no metadata.
	PresignPut(ctx context.Context, key string, upload Upload, ttl time.Duration) (Signed, error)
}

// What may go wrong.
var (
	ErrNotFound    = errors.New("blob: no such object")
	ErrExists      = errors.New("blob: object exists")
	ErrTooLarge    = errors.New("blob: object too large")
	ErrInvalid     = errors.New("blob: invalid request")
	ErrUnavailable = errors.New("blob: not available")
)
