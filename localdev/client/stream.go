package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Frame is what the demo and the benchmarks read of a frame of the live stream.
type Frame struct {
	// Kind is the member that says what happened: jobRequest, jobProgress, jobResult, jobCancel, heartbeat or alert; "" for a keep-alive.
	Kind   string
	JobID  string
	Status string // of a result, SUCCEEDED
	// Percent and Message are of a progress, Error of a result.
	Percent int
	Message string
	Error   string
	Sender  string
	// EventID names the event; what comes again has the same.
	EventID string
}

// wire is a frame as it is sent, without what is repeated under "payload".
type wire struct {
	EventID  string `json:"eventId"`
	Sender   string `json:"senderId"`
	Request  *said  `json:"jobRequest"`
	Progress *said  `json:"jobProgress"`
	Result   *said  `json:"jobResult"`
	Cancel   *said  `json:"jobCancel"`
	Beat     *said  `json:"heartbeat"`
	Alert    *said  `json:"alert"`
}

// said is what a frame says, whatever its kind.
type said struct {
	JobID        string `json:"jobId"`
	Status       string `json:"status"`
	Percent      int    `json:"percent"`
	Message      string `json:"message"`
	ErrorMessage string `json:"errorMessage"`
}

// Stream is a live stream of a tenant's events.
type Stream struct{ conn *websocket.Conn }

// Stream opens the live stream.
func (c *Client) Stream(ctx context.Context) (*Stream, error) { return c.StreamSince(ctx, "") }

// StreamSince opens the live stream after an event that was seen, or "now"; "" asks for nothing.
func (c *Client) StreamSince(ctx context.Context, since string) (*Stream, error) {
	query := ""
	if since != "" {
		query = "?since=" + since
	}
	header := http.Header{"X-Api-Key": {c.Key}, "X-Tenant-Id": {c.Tenant}}
	conn, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.Base, "http")+"/api/v1/stream"+query, &websocket.DialOptions{HTTPHeader: header})
	if res != nil && res.Body != nil {
		_ = res.Body.Close() // it holds nothing once the handshake is over
	}
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(1 << 20)
	return &Stream{conn}, nil
}

// Raw waits for the text of a frame.
func (s *Stream) Raw(ctx context.Context) ([]byte, error) {
	_, text, err := s.conn.Read(ctx)
	return text, err
}

// Next waits for a frame.
func (s *Stream) Next(ctx context.Context) (Frame, error) {
	text, err := s.Raw(ctx)
	if err != nil {
		return Frame{}, err
	}
	return ParseFrame(text)
}

// ParseFrame reads the text of a frame.
func ParseFrame(text []byte) (Frame, error) {
	var w wire
	if err := json.Unmarshal(text, &w); err != nil {
		return Frame{}, err
	}
	for _, member := range []struct {
		kind string
		body *said
	}{
		{"jobRequest", w.Request}, {"jobProgress", w.Progress}, {"jobResult", w.Result}, {"jobCancel", w.Cancel},
		{"heartbeat", w.Beat}, {"alert", w.Alert},
	} {
		if b := member.body; b != nil {
			return Frame{
				Kind: member.kind, JobID: b.JobID, Status: strings.TrimPrefix(b.Status, "JOB_STATUS_"), Percent: b.Percent,
				Message: b.Message, Error: b.ErrorMessage, Sender: w.Sender, EventID: w.EventID,
			}, nil
		}
	}
	return Frame{}, nil
}

// Close ends the stream.
func (s *Stream) Close() { _ = s.conn.Close(websocket.StatusNormalClosure, "") } // the other side may have gone

// Retry submits the job of a dead letter anew.
func (c *Client) Retry(ctx context.Context, id string) (Receipt, error) {
	var r Receipt
	err := c.Do(ctx, http.MethodPost, "/dlq/"+id+"/retry", nil, &r)
	return r, err
}

// DeadLetter is what the demo shows of a dead letter.
type DeadLetter struct {
	JobID      string    `json:"job_id"`
	ReasonCode string    `json:"reason_code"`
	Reason     string    `json:"reason"`
	CreatedAt  time.Time `json:"created_at"`
	LastWorker string    `json:"last_worker"`
}

// DeadLetters lists the newest dead letters.
func (c *Client) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	var list struct {
		Items []DeadLetter `json:"items"`
	}
	err := c.Do(ctx, http.MethodGet, "/dlq/page", nil, &list)
	return list.Items, err
}

// Approval is what the demo shows of a job that waits for a human.
type Approval struct {
	JobID  string `json:"job_id"`
	Rule   string `json:"policy_rule_id"`
	Reason string `json:"policy_reason"`
}

// Approvals lists the newest jobs that wait for a human.
func (c *Client) Approvals(ctx context.Context) ([]Approval, error) {
	var list struct {
		Items []Approval `json:"items"`
	}
	err := c.Do(ctx, http.MethodGet, "/approvals", nil, &list)
	return list.Items, err
}

// Approve lets a job run.
func (c *Client) Approve(ctx context.Context, id, reason string) error {
	return c.Do(ctx, http.MethodPost, "/approvals/"+id+"/approve", map[string]string{"reason": reason}, nil)
}

// Remediate submits the only suggestion of the policy instead of a job.
func (c *Client) Remediate(ctx context.Context, id string) (Receipt, error) {
	var r Receipt
	err := c.Do(ctx, http.MethodPost, "/jobs/"+id+"/remediate", nil, &r)
	return r, err
}
