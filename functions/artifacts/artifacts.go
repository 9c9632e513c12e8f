// Package artifacts is the function of the routes of files that jobs make or use.
package artifacts

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/artifact"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/word"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Service serves cordum.v1.Artifacts.
type Service struct {
	cordumv1.UnimplementedArtifactsServer
	artifacts *artifact.Store
	clock     clock.Clock
}

// New makes the service.
func New(d *dispatch.Dispatcher, settings artifact.Settings) *Service {
	return &Service{artifacts: &artifact.Store{Table: d.Jobs.Table, Blobs: d.Jobs.Blobs, IDs: d.IDs, Settings: settings}, clock: d.Clock}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Artifacts_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterArtifactsHandlerServer(ctx, mux, s)
	})
}

// CreateArtifact stores a file, or takes the announcement of one.
func (s *Service) CreateArtifact(ctx context.Context, req *cordumv1.CreateArtifactRequest) (*cordumv1.CreateArtifactResponse, error) {
	in := req.GetArtifact()
	data, err := content(in)
	if err != nil {
		return nil, err
	}
	f := artifact.File{ContentType: in.GetContentType(), Retention: artifact.Retention(in.GetRetention()), Labels: in.GetLabels(), SHA256: in.GetSha256()}
	by, limit, now := identity.From(ctx), most(ctx, req.GetMaxBytes()), s.clock.Now()
	if len(data) > 0 || in.GetSizeBytes() == 0 {
		m, err := s.artifacts.Put(ctx, by, f, data, limit, now)
		return created(m, nil), err
	}
	m, link, err := s.artifacts.Announce(ctx, by, f, in.GetSizeBytes(), limit, now)
	return created(m, &cordumv1.ArtifactUpload{Url: link.URL, Method: http.MethodPut, Headers: link.Header, ExpiresAt: moment(link.Expires)}), err
}

func created(m artifact.Meta, upload *cordumv1.ArtifactUpload) *cordumv1.CreateArtifactResponse {
	return &cordumv1.CreateArtifactResponse{ArtifactPtr: artifact.Pointer(m.ID), SizeBytes: m.Size, Upload: upload}
}

// content is what a client sent, of two forms the one that keeps every byte.
func content(in *cordumv1.ArtifactContent) ([]byte, error) {
	if in.GetContentBase64() == "" {
		return []byte(in.GetContent()), nil
	}
	data, err := base64.StdEncoding.DecodeString(in.GetContentBase64())
	if err != nil {
		return nil, fault.New(fault.Invalid, "invalid base64 content")
	}
	return data, nil
}

// most is what the caller says of the most bytes, in the query or else in the header; 0 is nothing.
func most(ctx context.Context, query string) int64 {
	for _, text := range []string{query, rpc.MaxArtifactBytes(ctx)} {
		if n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

func moment(t time.Time) string { return t.Format(time.RFC3339) }

// GetArtifact answers a file, or where it is.
func (s *Service) GetArtifact(ctx context.Context, req *cordumv1.GetArtifactRequest) (*cordumv1.Artifact, error) {
	id, err := artifact.ParsePointer(req.GetPtr())
	if err != nil {
		return nil, err
	}
	data, link, m, err := s.artifacts.Open(ctx, identity.From(ctx).Tenant, id, most(ctx, req.GetMaxBytes()), word.True(req.GetDownload()), s.clock.Now())
	if err != nil {
		return nil, err
	}
	res := &cordumv1.Artifact{
		ArtifactPtr: artifact.Pointer(m.ID), ContentBase64: base64.StdEncoding.EncodeToString(data),
		Metadata: &cordumv1.ArtifactMetadata{ContentType: m.ContentType, SizeBytes: m.Size, Retention: string(m.Retention), Labels: m.Labels},
	}
	if data == nil {
		res.Download = &cordumv1.ArtifactDownload{Url: link.URL, ExpiresAt: moment(link.Expires)}
	}
	return res, nil
}
