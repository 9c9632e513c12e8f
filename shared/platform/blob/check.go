package blob

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	// MaxKey is the longest key, in bytes.
	MaxKey = 900
	// MaxMetadata is the most that metadata names and values take together, in bytes.
	MaxMetadata = 2048
	// MaxTTL is the longest a presigned URL works.
	MaxTTL = 7 * 24 * time.Hour
	// MaxUpload is the largest object that a presigned URL uploads, in bytes.
	MaxUpload = 5 << 30
)

var (
	keys   = regexp.MustCompile(`^[A-Za-z0-9._\-:@=+~/]+$`)
	names  = regexp.MustCompile(`^[a-z0-9-]+$`)
	values = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
	types  = regexp.MustCompile(`^[!-~]+/[!-~]([ -~]*[!-~])?$`)
)

// CheckKey answers ErrInvalid, with the reason, for what is no key.
func CheckKey(key string) error {
	switch {
	case key == "" || len(key) > MaxKey:
		return invalid("key of %d bytes", len(key))
	case !keys.MatchString(key):
		return invalid("key %q has characters that are not allowed", key)
	case strings.HasPrefix(key, "/") || strings.HasSuffix(key, "/") || strings.Contains(key, "//"):
		return invalid("key %q has an empty segment", key)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "." || segment == ".." {
			return invalid("key %q has a segment that names a place", key)
		}
	}
	return nil
}

// Check answers ErrInvalid, with the reason, for options that no adapter stores.
func (o PutOptions) Check() error {
	if err := checkType(o.ContentType); err != nil {
		return err
	}
	if o.Class != "" && !names.MatchString(o.Class) {
		return invalid("class %q", o.Class)
	}
	size := 0
	for name, value := range o.Metadata {
		if !names.MatchString(name) || !values.MatchString(value) {
			return invalid("metadata %q: %q; lower-case names, printable ASCII without space around it", name, value)
		}
		size += len(name) + len(value)
	}
	if size > MaxMetadata {
		return invalid("metadata of %d bytes; at most %d", size, MaxMetadata)
	}
	return nil
}

// CheckPresign answers ErrInvalid for what is not presigned: a bad key, or a ttl that is not one second to MaxTTL.
func CheckPresign(key string, ttl time.Duration) error {
	if ttl < time.Second || ttl > MaxTTL {
		return invalid("ttl %v; one second to %v", ttl, MaxTTL)
	}
	return CheckKey(key)
}

// CheckPresignPut is CheckPresign for uploads.
func CheckPresignPut(key string, u Upload, ttl time.Duration) error {
	if u.Size < 0 || u.Size > MaxUpload {
		return invalid("upload of %d bytes; at most %d", u.Size, int64(MaxUpload))
	}
	if u.ContentType == "" {
		return invalid("upload without content type")
	}
	if err := (PutOptions{ContentType: u.ContentType, Class: u.Class}).Check(); err != nil {
		return err
	}
	return CheckPresign(key, ttl)
}

func checkType(contentType string) error {
	if contentType != "" && !types.MatchString(contentType) {
		return invalid("content type %q", contentType)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
