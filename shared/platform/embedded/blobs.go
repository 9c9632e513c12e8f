package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// Blobs is the blob store: a folder, or memory.
type Blobs struct {
	shelf shelf
	base  *url.URL // nil: URLs are not presigned
	key   []byte
}

// shelf keeps objects.
type shelf interface {
	// put stores all of body or nothing.
	put(key string, o blob.Object, body io.Reader, ifAbsent bool) error
	// open answers the description and the bytes; ErrNotFound.
	open(key string) (blob.Object, io.ReadCloser, error)
	remove(key string) error
}

func newBlobs(dir string, opts Options) (*Blobs, error) {
	b := &Blobs{key: opts.BlobKey}
	if b.key == nil {
		b.key = make([]byte, 32)
		_, _ = rand.Read(b.key) // never fails
	}
	if opts.BlobURL != "" {
		base, err := url.Parse(strings.TrimSuffix(opts.BlobURL, "/"))
		if err != nil || base.Host == "" || base.RawQuery != "" {
			return nil, fmt.Errorf("embedded: BlobURL %q is not a URL without query", opts.BlobURL)
		}
		b.base = base
	}
	if dir == "" {
		b.shelf = &memoryShelf{objects: map[string]memoryObject{}}
		return b, nil
	}
	folder, err := newFolderShelf(dir, opts.Sync == "full")
	b.shelf = folder
	return b, err
}

// failed turns errors of the disk into what the port says.
func failed(err error) error {
	if err == nil || errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrExists) {
		return err
	}
	return fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
}

func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return blob.CheckKey(key)
}

// Put implements blob.Store.
func (b *Blobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	if err := opts.Check(); err != nil {
		return err
	}
	if len(data) > blob.MaxInline {
		return fmt.Errorf("%w: %d bytes, at most %d", blob.ErrTooLarge, len(data), blob.MaxInline)
	}
	o := blob.Object{ContentType: opts.ContentType, Class: opts.Class, Size: int64(len(data)), Metadata: maps.Clone(opts.Metadata)}
	if o.ContentType == "" {
		o.ContentType = blob.DefaultType
	}
	return failed(b.shelf.put(key, o, bytes.NewReader(data), opts.IfAbsent))
}

// Get implements blob.Store.
func (b *Blobs) Get(ctx context.Context, key string, limit int64) ([]byte, blob.Object, error) {
	if err := check(ctx, key); err != nil {
		return nil, blob.Object{}, err
	}
	o, body, err := b.shelf.open(key)
	if err != nil {
		return nil, blob.Object{}, failed(err)
	}
	defer body.Close() //nolint:errcheck // only read
	if limit == 0 {
		limit = blob.MaxInline
	}
	if o.Size > limit {
		return nil, o, fmt.Errorf("%w: %s has %d bytes, at most %d", blob.ErrTooLarge, key, o.Size, limit)
	}
	data := make([]byte, o.Size)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, blob.Object{}, failed(err)
	}
	return data, o, nil
}

// Head implements blob.Store.
func (b *Blobs) Head(ctx context.Context, key string) (blob.Object, error) {
	if err := check(ctx, key); err != nil {
		return blob.Object{}, err
	}
	o, body, err := b.shelf.open(key)
	if err != nil {
		return blob.Object{}, failed(err)
	}
	return o, failed(body.Close())
}

// Delete implements blob.Store.
func (b *Blobs) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	return failed(b.shelf.remove(key))
}

// PresignGet implements blob.Store.
func (b *Blobs) PresignGet(ctx context.Context, key string, ttl time.Duration) (string, error) {
	if err := blob.CheckPresign(key, ttl); err != nil {
		return "", err
	}
	return b.presign(ctx, grant{method: methodGet, key: key, until: time.Now().Add(ttl).Unix()})
}

// PresignPut implements blob.Store.
func (b *Blobs) PresignPut(ctx context.Context, key string, upload blob.Upload, ttl time.Duration) (blob.Signed, error) {
	if err := blob.CheckPresignPut(key, upload, ttl); err != nil {
		return blob.Signed{}, err
	}
	address, err := b.presign(ctx, grant{method: methodPut, key: key, until: time.Now().Add(ttl).Unix(), Upload: upload})
	if err != nil {
		return blob.Signed{}, err
	}
	return blob.Signed{URL: address, Header: headers(upload)}, nil
}
