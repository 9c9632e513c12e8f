package runs

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/workflow/chat"
)

// defaultChat is how many messages a page has when the request does not say.
const defaultChat = 100

// ListChat lists the chat of a run.
func (s *Service) ListChat(ctx context.Context, req *cordumv1.ListChatRequest) (*cordumv1.ListChatResponse, error) {
	tenant := identity.From(ctx).Tenant
	run, err := s.runs.Header(ctx, tenant, req.GetId())
	if err != nil {
		return nil, err
	}
	cursor, _ := strconv.ParseInt(strings.TrimSpace(req.GetCursor()), 10, 64) // what is no number is the beginning
	page, next, err := s.chats.List(ctx, tenant, run.MemoryID, run.ID, cursor, job.Limit(req.GetLimit(), defaultChat), s.runs.Jobs.Clock.Now())
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListChatResponse{NextCursor: next, Items: make([]*cordumv1.ChatMessage, len(page))}
	for i, m := range page {
		res.Items[i] = said(m)
	}
	return res, nil
}

// PostChat adds a message, and tells those who listen.
func (s *Service) PostChat(ctx context.Context, req *cordumv1.PostChatRequest) (*cordumv1.ChatMessage, error) {
	id := identity.From(ctx)
	role, err := chat.Role(req.GetRole(), id.Role == identity.Admin)
	if err != nil {
		return nil, err
	}
	run, err := s.runs.Header(ctx, id.Tenant, req.GetId())
	if err != nil {
		return nil, err
	}
	m, err := s.chats.Post(ctx, id.Tenant, run.MemoryID, chat.Message{
		ID: s.runs.Jobs.IDs.UUID(), RunID: run.ID, Role: role, Content: req.GetContent(), StepID: req.GetStepId(), JobID: req.GetJobId(),
		AgentID: req.GetAgentId(), AgentName: req.GetAgentName(), Metadata: req.GetMetadata().GetRaw(),
	}, s.runs.Jobs.Clock.Now())
	if err != nil {
		return nil, err
	}
	s.runs.Jobs.Events.Run(ctx, id.Tenant, run.ID, "", []json.RawMessage{m.Frame()})
	return said(m), nil
}

func said(m chat.Message) *cordumv1.ChatMessage {
	out := &cordumv1.ChatMessage{
		Id: m.ID, RunId: m.RunID, Role: m.Role, Content: m.Content, CreatedAt: m.CreatedAt, StepId: m.StepID, JobId: m.JobID, AgentId: m.AgentID,
		AgentName: m.AgentName,
	}
	if m.Metadata != nil {
		out.Metadata = &cordumv1.Json{Raw: m.Metadata}
	}
	return out
}
