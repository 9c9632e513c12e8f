// Package s3 is the adapter of the objects to S3.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// Blobs is one S3 bucket. An object's class is its tag "class", which the bucket's lifecycle rules go by, and is kept in its metadata too,
// where reading it costs nothing.
type Blobs struct {
	client  *s3.Client
	presign *s3.PresignClient
	bucket  *string
}

var _ blob.Store = (*Blobs)(nil)

// classKey is the metadata name that holds the class.
const classKey = "cordum-class"

// New makes the adapter of a bucket.
func New(cfg sdk.Config, bucket string) *Blobs {
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }) // an emulator has no name for each bucket
	return &Blobs{client: client, presign: s3.NewPresignClient(client), bucket: &bucket}
}

// Create makes the bucket unless it is there. CDK does so for a deployment; this is for emulators and tests.
func (b *Blobs) Create(ctx context.Context) error {
	_, err := b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b.bucket})
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "BucketAlreadyOwnedByYou" || api.ErrorCode() == "BucketAlreadyExists") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("s3: create bucket %s: %w", *b.bucket, err)
	}
	return nil
}

// Put stores an object.
func (b *Blobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if err := opts.Check(); err != nil {
		return err
	}
	if len(data) > blob.MaxInline {
		return blob.ErrTooLarge
	}
	kind := opts.ContentType
	if kind == "" {
		kind = blob.DefaultType
	}
	in := &s3.PutObjectInput{Bucket: b.bucket, Key: &key, Body: bytes.NewReader(data), ContentType: &kind, Metadata: map[string]string{}}
	maps.Copy(in.Metadata, opts.Metadata)
	classify(in, opts.Class)
	if opts.IfAbsent {
		nothing := "*"
		in.IfNoneMatch = &nothing
	}
	_, err := b.client.PutObject(ctx, in)
	return blobFailure(err)
}

// classify gives an object its class, if it has one.
func classify(in *s3.PutObjectInput, class string) {
	if class == "" {
		return
	}
	tag := "class=" + url.QueryEscape(class)
	in.Tagging = &tag
	in.Metadata[classKey] = class
}

// Get reads an object.
func (b *Blobs) Get(ctx context.Context, key string, limit int64) ([]byte, blob.Object, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, blob.Object{}, err
	}
	if limit <= 0 || limit > blob.MaxInline {
		limit = blob.MaxInline
	}
	res, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: b.bucket, Key: &key})
	if err != nil {
		return nil, blob.Object{}, blobFailure(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or given up
	if res.ContentLength != nil && *res.ContentLength > limit {
		return nil, blob.Object{}, blob.ErrTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, blob.Object{}, fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
	}
	if int64(len(data)) > limit {
		return nil, blob.Object{}, blob.ErrTooLarge
	}
	return data, object(res.ContentType, int64(len(data)), res.Metadata), nil
}

// Head describes an object.
func (b *Blobs) Head(ctx context.Context, key string) (blob.Object, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Object{}, err
	}
	res, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.bucket, Key: &key})
	if err != nil {
		return blob.Object{}, blobFailure(err)
	}
	var size int64
	if res.ContentLength != nil {
		size = *res.ContentLength
	}
	return object(res.ContentType, size, res.Metadata), nil
}

func object(kind *string, size int64, metadata map[string]string) blob.Object {
	o := blob.Object{ContentType: sdk.ToString(kind), Size: size, Class: metadata[classKey]}
	for name, v := range metadata {
		if name == classKey {
			continue
		}
		if o.Metadata == nil {
			o.Metadata = map[string]string{}
		}
		o.Metadata[name] = v
	}
	return o
}

// Delete removes an object.
func (b *Blobs) Delete(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucket, Key: &key})
	return blobFailure(err)
}

// PresignGet makes a URL that downloads.
func (b *Blobs) PresignGet(ctx context.Context, key string, ttl time.Duration) (string, error) {
	if err := blob.CheckPresign(key, ttl); err != nil {
		return "", err
	}
	req, err := b.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: b.bucket, Key: &key}, s3.WithPresignExpires(ttl))
	if err != nil {
		return "", blobFailure(err)
	}
	return req.URL, nil
}

// PresignPut makes a URL that uploads. Type, length, class, and that nothing is replaced are part of its signature, so that a request has their headers.
func (b *Blobs) PresignPut(ctx context.Context, key string, upload blob.Upload, ttl time.Duration) (blob.Signed, error) {
	if err := blob.CheckPresignPut(key, upload, ttl); err != nil {
		return blob.Signed{}, err
	}
	nothing := "*"
	in := &s3.PutObjectInput{
		Bucket: b.bucket, Key: &key, ContentType: &upload.ContentType, ContentLength: &upload.Size, IfNoneMatch: &nothing, Metadata: map[string]string{},
	}
	classify(in, upload.Class)
	req, err := b.presign.PresignPutObject(ctx, in, s3.WithPresignExpires(ttl))
	if err != nil {
		return blob.Signed{}, blobFailure(err)
	}
	signed := blob.Signed{URL: req.URL, Header: map[string]string{}}
	for name, values := range req.SignedHeader {
		if name = http.CanonicalHeaderKey(name); name != "Host" && name != "Content-Length" { // every client sends these by itself
			signed.Header[name] = strings.Join(values, ",")
		}
	}
	return signed, nil
}

func blobFailure(err error) error {
	var noKey *types.NoSuchKey
	var notFound *types.NotFound
	var api smithy.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &noKey), errors.As(err, &notFound):
		return blob.ErrNotFound
	case errors.As(err, &api):
		switch api.ErrorCode() {
		case "NoSuchKey", "NotFound":
			return blob.ErrNotFound
		case "PreconditionFailed", "ConditionalRequestConflict":
			return blob.ErrExists
		}
	}
	return fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
}
