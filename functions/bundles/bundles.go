// Package bundles is the function of the policy bundles' routes: rules, bundles and their drafts, copies of all of them, publish, rollback, and the
// audit trail.
package bundles

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/word"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
)

// Service serves cordum.v1.Bundles.
type Service struct {
	cordumv1.UnimplementedBundlesServer
	bundles    *bundles.Store
	kernel     *asking.Kernel
	audit      *audit.Log
	dispatcher *dispatch.Dispatcher
}

// policyDocument is where clients of the configuration see bundles.
const policyDocument = config.SystemScope + "/policy"

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	return &Service{
		bundles: &bundles.Store{Table: d.Jobs.Table, Head: d.Policy, Clock: d.Clock, IDs: d.IDs}, kernel: asking.NewKernel(d),
		audit: &audit.Log{Table: d.Jobs.Table}, dispatcher: d,
	}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Bundles_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterBundlesHandlerServer(ctx, mux, s)
	})
}

// named is a request that names a bundle: in its path, or in its query, which wins.
type named interface {
	GetId() string
	GetBundleId() string
}

// idOf is the id that a request means: in URLs a slash is written "~".
func idOf(r named) string {
	id := strings.TrimSpace(r.GetBundleId())
	if id == "" {
		id = r.GetId()
	}
	return strings.ReplaceAll(id, "~", "/")
}

// ListRules lists the rules of bundles.
func (s *Service) ListRules(ctx context.Context, req *cordumv1.ListRulesRequest) (*cordumv1.ListRulesResponse, error) {
	var views []bundles.View
	var err error
	all := word.True(req.GetIncludeDisabled())
	if all {
		views, _, err = s.bundles.List(ctx)
	} else {
		views, err = s.bundles.InForce(ctx)
	}
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListRulesResponse{}
	for _, v := range views {
		if !v.Enabled && !all || v.Content == "" {
			continue
		}
		rules, err := v.Rules()
		if err != nil {
			res.Errors = append(res.Errors, &cordumv1.FragmentError{FragmentId: v.ID, Error: err.Error()})
			continue
		}
		source := &cordumv1.RuleSource{FragmentId: v.ID, Version: v.Version, InstalledAt: v.InstalledAt, Sha256: v.Hash()}
		source.PackId, source.OverlayName = v.Pack()
		for i := range rules {
			shown, err := rule(&rules[i])
			if err != nil {
				return nil, err
			}
			shown.Source = source
			res.Items = append(res.Items, shown)
		}
	}
	return res, nil
}

func rule(r *policy.Rule) (*cordumv1.Rule, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	member := func(name string) *cordumv1.Json {
		if raw := members[name]; len(raw) > 0 && string(raw) != "{}" {
			return &cordumv1.Json{Raw: raw}
		}
		return nil
	}
	return &cordumv1.Rule{
		Id: r.ID, Match: member("match"), Decision: r.Decision, Reason: r.Reason, Constraints: member("constraints"),
		Remediations: view.Remediations(r.Remediations), Velocity: member("velocity"), ThrottleDuration: r.ThrottleDuration,
	}, nil
}

// ListBundles lists bundles, as they are stored and in short.
func (s *Service) ListBundles(ctx context.Context, _ *cordumv1.ListBundlesRequest) (*cordumv1.ListBundlesResponse, error) {
	views, updatedAt, err := s.bundles.List(ctx)
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListBundlesResponse{Bundles: make(map[string]*cordumv1.Json, len(views)), UpdatedAt: updatedAt}
	for _, v := range views {
		res.Bundles[v.ID] = &cordumv1.Json{Raw: v.Raw}
		rules, _ := v.Rules() // what is wrong with it, the list of rules says
		res.Items = append(res.Items, &cordumv1.BundleSummary{
			Id: v.ID, Enabled: v.Enabled, Source: head.Source(v.ID), Author: v.Author, Message: v.Message, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
			Version: v.Version, InstalledAt: v.InstalledAt, Sha256: v.Hash(), RuleCount: int32(len(rules)), Draft: v.Draft,
		})
	}
	return res, nil
}

// GetBundle answers a bundle or its draft.
func (s *Service) GetBundle(ctx context.Context, req *cordumv1.GetBundleRequest) (*cordumv1.Bundle, error) {
	v, err := s.bundles.Get(ctx, idOf(req))
	if err != nil {
		return nil, err
	}
	return &cordumv1.Bundle{
		Id: v.ID, Content: v.Content, Enabled: v.Enabled, Author: v.Author, Message: v.Message, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, Draft: v.Draft,
	}, nil
}

// PutBundle saves a draft.
func (s *Service) PutBundle(ctx context.Context, req *cordumv1.PutBundleRequest) (*cordumv1.PutBundleResponse, error) {
	id, b := idOf(req), req.GetBundle()
	at, err := s.bundles.Put(ctx, identity.From(ctx), id, bundles.Wish{
		Content: b.GetContent(), Enabled: b.Enabled, Author: strings.TrimSpace(b.GetAuthor()), Message: strings.TrimSpace(b.GetMessage()),
	})
	if err != nil {
		return nil, err
	}
	return &cordumv1.PutBundleResponse{Id: id, UpdatedAt: at}, nil
}

// DeleteBundle takes a bundle out of force.
func (s *Service) DeleteBundle(ctx context.Context, req *cordumv1.DeleteBundleRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.bundles.Delete(ctx, identity.From(ctx), idOf(req))
}

// SimulateBundle judges a job by the policy as it would be.
func (s *Service) SimulateBundle(ctx context.Context, req *cordumv1.SimulateBundleRequest) (*agentv1.PolicyCheckResponse, error) {
	q, err := asking.Of(ctx, req.GetSimulation().GetRequest())
	if err != nil {
		return nil, err
	}
	h, err := s.bundles.Try(ctx, idOf(req), req.GetSimulation().GetContent())
	if err != nil {
		return nil, err
	}
	if err := s.kernel.Complete(ctx, h.Policy, h.Revision, q); err != nil {
		return nil, err
	}
	return asking.Answer(h.Policy.Decide(&q.Request), q.Request.JobID), nil
}

// ListBundleSnapshots lists the kept copies.
func (s *Service) ListBundleSnapshots(
	ctx context.Context, _ *cordumv1.ListBundleSnapshotsRequest,
) (*cordumv1.ListBundleSnapshotsResponse, error) {
	kept, err := s.bundles.Copies(ctx)
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListBundleSnapshotsResponse{}
	for _, k := range kept {
		res.Items = append(res.Items, &cordumv1.BundleSnapshotSummary{Id: k.ID, CreatedAt: k.CreatedAt, Note: k.Note})
	}
	return res, nil
}

// CreateBundleSnapshot keeps a copy.
func (s *Service) CreateBundleSnapshot(ctx context.Context, req *cordumv1.CreateBundleSnapshotRequest) (*cordumv1.BundleSnapshot, error) {
	c, err := s.bundles.Capture(ctx, identity.From(ctx), strings.TrimSpace(req.GetNote()))
	return snapshot(c), err
}

// GetBundleSnapshot answers a kept copy.
func (s *Service) GetBundleSnapshot(ctx context.Context, req *cordumv1.GetBundleSnapshotRequest) (*cordumv1.BundleSnapshot, error) {
	c, err := s.bundles.Copy(ctx, req.GetId())
	return snapshot(c), err
}

func snapshot(c bundles.Copy) *cordumv1.BundleSnapshot {
	out := &cordumv1.BundleSnapshot{Id: c.ID, CreatedAt: c.CreatedAt, Note: c.Note, Bundles: make(map[string]*cordumv1.Json, len(c.Bundles))}
	for id, raw := range c.Bundles {
		out.Bundles[id] = &cordumv1.Json{Raw: raw}
	}
	return out
}

// words trims what a request says about a change.
func words(author, message, note string) bundles.Words {
	return bundles.Words{Author: strings.TrimSpace(author), Message: strings.TrimSpace(message), Note: strings.TrimSpace(note)}
}

// Publish puts drafts in force.
func (s *Service) Publish(ctx context.Context, req *cordumv1.PublishRequest) (*cordumv1.PublishResponse, error) {
	c, err := s.bundles.Publish(ctx, identity.From(ctx), req.GetBundleIds(), words(req.GetAuthor(), req.GetMessage(), req.GetNote()))
	if err != nil {
		return nil, err
	}
	s.dispatcher.ConfigChanged(ctx, identity.From(ctx).Tenant, policyDocument)
	return &cordumv1.PublishResponse{SnapshotBefore: c.Before, SnapshotAfter: c.After, Published: c.IDs}, nil
}

// Rollback brings back a copy.
func (s *Service) Rollback(ctx context.Context, req *cordumv1.RollbackRequest) (*cordumv1.RollbackResponse, error) {
	target := strings.TrimSpace(req.GetSnapshotId())
	c, err := s.bundles.Rollback(ctx, identity.From(ctx), target, words(req.GetAuthor(), req.GetMessage(), req.GetNote()))
	if err != nil {
		return nil, err
	}
	s.dispatcher.ConfigChanged(ctx, identity.From(ctx).Tenant, policyDocument)
	return &cordumv1.RollbackResponse{SnapshotBefore: c.Before, SnapshotAfter: c.After, RollbackTo: target}, nil
}

// auditPage is the size of a page when the request does not say.
const auditPage = 100

// ListAudit lists who changed what.
func (s *Service) ListAudit(ctx context.Context, req *cordumv1.ListAuditRequest) (*cordumv1.ListAuditResponse, error) {
	entries, next, err := s.audit.List(ctx, identity.From(ctx).Tenant, job.Limit(req.GetLimit(), auditPage), job.UpperBound(req.GetCursor()))
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListAuditResponse{NextCursor: next}
	for i := range entries {
		res.Items = append(res.Items, entry(&entries[i]))
	}
	return res, nil
}

func entry(e *audit.Entry) *cordumv1.AuditEntry {
	out := &cordumv1.AuditEntry{
		Id: e.ID, Action: e.Action, CreatedAt: time.UnixMicro(e.At).UTC().Format(time.RFC3339), ActorId: e.ActorID, Role: e.Role, BundleIds: e.BundleIDs,
		Message: e.Message, ResourceType: e.ResourceType, ResourceId: e.ResourceID, ResourceName: e.ResourceName, RequestId: e.RequestID,
	}
	if e.OfBundles() {
		out.SnapshotBefore, out.SnapshotAfter = e.Before, e.After
	} else {
		out.Before, out.After = e.Before, e.After
	}
	return out
}
