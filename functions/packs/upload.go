package packs

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/word"
)

var (
	errForm     = fault.New(fault.Invalid, "invalid multipart form")
	errTooLarge = fault.New(fault.TooLarge, "pack bundle too large (max %d bytes)", archive.MaxBundle)
)

// Limits of a form beside the bundle: of all of it in bytes, of a word, and of the number of its parts.
const (
	formBytes = 64 << 10
	wordBytes = 1 << 10
	mostParts = 32
)

// upload reads the form of an installation. Parts that it does not know are passed over.
func upload(w http.ResponseWriter, r *http.Request) (*cordumv1.InstallPackRequest, error) {
	r.Body = http.MaxBytesReader(w, r.Body, archive.MaxBundle+formBytes)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, errForm
	}
	req := &cordumv1.InstallPackRequest{}
	for range mostParts {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return req, nil
		}
		if err == nil {
			err = read(req, part)
		}
		if err != nil {
			return nil, refused(err)
		}
	}
	return nil, errForm
}

// read takes one part in.
func read(req *cordumv1.InstallPackRequest, part *multipart.Part) error {
	limit := int64(wordBytes)
	if part.FormName() == "bundle" {
		limit = archive.MaxBundle
	}
	text, err := io.ReadAll(io.LimitReader(part, limit+1))
	switch {
	case err != nil:
		return err
	case int64(len(text)) > limit && part.FormName() == "bundle":
		return errTooLarge
	case int64(len(text)) > limit:
		return errForm
	}
	switch part.FormName() {
	case "bundle":
		if part.FileName() != "" {
			req.Bundle, req.Filename = text, part.FileName()
		}
	case "bundle_ptr":
		req.BundlePtr = string(text)
	case "force":
		req.Force = word.True(string(text))
	case "upgrade":
		req.Upgrade = word.True(string(text))
	case "inactive":
		req.Inactive = word.True(string(text))
	}
	return nil
}

// refused is what the client hears of a form that cannot be read.
func refused(err error) error {
	var large *http.MaxBytesError
	var known *fault.Error
	switch {
	case errors.As(err, &large):
		return errTooLarge
	case errors.As(err, &known):
		return err
	default:
		return errForm
	}
}
