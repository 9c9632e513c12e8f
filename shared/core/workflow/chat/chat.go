// Package chat is what people and agents say to each other about a run. It is kept in the memory that the run's jobs see.
package chat

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/memory"
)

// Message is one message. Its names are those of the wire.
type Message struct {
	ID        string          `json:"id"`
	RunID     string          `json:"run_id"`
	Role      string          `json:"role"`
	Content   string          `json:"content"`
	CreatedAt string          `json:"created_at"`
	StepID    string          `json:"step_id,omitempty"`
	JobID     string          `json:"job_id,omitempty"`
	AgentID   string          `json:"agent_id,omitempty"`
	AgentName string          `json:"agent_name,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
}

// The roles.
const (
	User   = "user"
	Agent  = "agent"
	System = "system"
)

// Limits of a message, in bytes.
const (
	MaxContent  = 32 << 10
	maxMetadata = 16 << 10
	maxName     = 512
)

// Role is what a message's role becomes: who is no administrator speaks as a user.
func Role(asked string, admin bool) (string, error) {
	role := User
	switch strings.ToLower(strings.TrimSpace(asked)) {
	case "", User:
	case Agent, "assistant":
		role = Agent
	case System:
		role = System
	default:
		return "", fault.New(fault.Invalid, "role must be user, agent, assistant or system")
	}
	if !admin {
		role = User
	}
	return role, nil
}

// check trims a message and says what is wrong with it.
func (m *Message) check() error {
	if m.Content = strings.TrimSpace(m.Content); m.Content == "" {
		return fault.New(fault.Invalid, "content required")
	}
	if len(m.Content) > MaxContent {
		return fault.New(fault.Invalid, "content too long (max %d bytes)", MaxContent)
	}
	for name, v := range map[string]string{"step_id": m.StepID, "job_id": m.JobID, "agent_id": m.AgentID, "agent_name": m.AgentName} {
		if len(v) > maxName {
			return fault.New(fault.Invalid, "%s too long (max %d bytes)", name, maxName)
		}
	}
	if len(m.Metadata) == 0 || string(m.Metadata) == "null" {
		m.Metadata = nil
		return nil
	}
	if m.Metadata[0] != '{' || len(m.Metadata) > maxMetadata {
		return fault.New(fault.Invalid, "metadata must be an object of at most %d bytes", maxMetadata)
	}
	return nil
}

// Chats keeps messages.
type Chats struct{ Memory *memory.Store }

// Post adds a message to the chat of a run, in the memory that the run has, and answers it as it is stored. Its id and its time are the caller's.
func (c *Chats) Post(ctx context.Context, tenant, memoryID string, m Message, now time.Time) (Message, error) {
	if err := m.check(); err != nil {
		return m, err
	}
	m.CreatedAt = now.UTC().Format(time.RFC3339)
	text, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	return m, c.Memory.Append(ctx, tenant, memoryID, m.ID, now, memory.Event{ID: m.ID, Text: text})
}

// List answers the messages of a run, newest first, and the cursor of the next page, 0 at the end. A cursor is the position of a message in the memory,
// which it keeps whatever is said later: older ones are listed, all for 0. Of what others have put into the memory, what is no message reads as said by
// the system.
func (c *Chats) List(ctx context.Context, tenant, memoryID, run string, cursor int64, limit int, now time.Time) (page []Message, next int64, err error) {
	events, err := c.Memory.Events(ctx, tenant, memoryID, now)
	if err != nil {
		return nil, 0, err
	}
	if cursor > 0 {
		events = slices.DeleteFunc(events, func(e memory.Event) bool { return e.Number >= cursor })
	}
	if len(events) > limit {
		events = events[:limit]
		next = events[limit-1].Number
	}
	page = make([]Message, len(events))
	for i, e := range events {
		page[i] = read(e, run)
	}
	return page, next, nil
}

// read makes a message of what lies in the memory. What it does not say is the event's, and the run's whose chat it is.
func read(e memory.Event, run string) Message {
	var m Message
	if json.Unmarshal(e.Text, &m) != nil || m.Content == "" {
		m = Message{Role: System, Content: string(e.Text)}
	}
	if m.Role != User && m.Role != System {
		m.Role = Agent
	}
	m.ID = cmp.Or(m.ID, e.ID)
	m.RunID = cmp.Or(m.RunID, run)
	m.CreatedAt = cmp.Or(m.CreatedAt, e.At.Format(time.RFC3339))
	return m
}

// Frame is a message as clients of the stream see it, at both places where they look for it. One that is too large for a frame has no metadata, and
// then its content is cut; the chat has all of it.
func (m Message) Frame() json.RawMessage {
	frame := m.frame()
	if len(frame) > event.MaxFrame {
		m.Metadata = nil
		frame = m.frame()
	}
	for whole, keep := m.Content, len(m.Content); len(frame) > event.MaxFrame; frame = m.frame() {
		keep = keep * 4 / 5
		m.Content = strings.ToValidUTF8(whole[:keep], "") + "…"
	}
	return frame
}

func (m Message) frame() json.RawMessage {
	said := map[string]any{"id": m.ID, "runId": m.RunID, "role": m.Role, "content": m.Content, "createdAt": m.CreatedAt}
	for name, v := range map[string]string{"stepId": m.StepID, "jobId": m.JobID, "agentId": m.AgentID, "agentName": m.AgentName} {
		if v != "" {
			said[name] = v
		}
	}
	if m.Metadata != nil {
		said["metadata"] = m.Metadata
	}
	text, err := json.Marshal(map[string]any{
		"traceId": m.ID, "senderId": "api-gateway", "createdAt": m.CreatedAt, "protocolVersion": 1, "chatMessage": said,
		"payload": map[string]any{"chatMessage": said},
	})
	if err != nil {
		panic("chat: frame: " + err.Error()) // texts, and JSON that was checked
	}
	return text
}
