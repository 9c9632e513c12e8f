package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

// rest calls the plane's routes for workers.
type rest struct {
	base, key string
	client    http.Client
}

const (
	// callTimeout bounds a call, payloadTimeout one that carries a payload.
	callTimeout    = 10 * time.Second
	payloadTimeout = 30 * time.Second
	// maxAnswer is the longest answer that is read, in bytes.
	maxAnswer = 16 << 20
)

func newREST(base, key string, client *http.Client) (*rest, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("worker: PollingConfig.URL is %q; it must be like https://api.example.com", base)
	}
	r := &rest{base: strings.TrimSuffix(base, "/") + "/api/v1/worker/", key: key}
	if client != nil {
		r.client = *client
	}
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the key stays here
	return r, nil
}

// refusal is an answer other than 200.
type refusal struct {
	status int
	text   string
	// ours says that the plane itself answered, not something in front of it.
	ours bool
}

func (e *refusal) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.text) }

// passing says whether the same call may succeed later.
func passing(err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return true // the network, or the call's time was over
	}
	return r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout || r.status >= 500
}

// shut says whether the plane will never let this worker in: a bad key, a pool that the key does not name, a heartbeat that it does not take.
func shut(err error) bool {
	var r *refusal
	if !errors.As(err, &r) || !r.ours {
		return false
	}
	switch r.status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	default:
		return false
	}
}

// call sends in, nil for nothing, as JSON, and reads the answer into out.
func (r *rest) call(ctx context.Context, timeout time.Duration, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	req.Header.Set("X-Api-Key", r.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it is read to its end
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return refused(res.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("worker: the answer to %s %s cannot be read: %w", method, path, err)
	}
	return nil
}

func refused(status int, body []byte) *refusal {
	var said struct {
		Error  string `json:"error"`
		Status int    `json:"status"`
	}
	if err := json.Unmarshal(body, &said); err == nil && said.Status == status {
		return &refusal{status, said.Error, true}
	}
	return &refusal{status: status, text: http.StatusText(status)}
}

// The outcomes of a claim.
const (
	claimed   = "claimed"
	gone      = "gone"
	elsewhere = "elsewhere"
)

// claim asks for a job; key names the claim, the same whenever it is asked again. packet is set when the outcome is claimed.
func (r *rest) claim(ctx context.Context, workerID string, t ticket, key string) (outcome string, packet *agentv1.BusPacket, err error) {
	in := struct {
		WorkerID string `json:"worker_id"`
		JobID    string `json:"job_id"`
		Attempt  int64  `json:"attempt"`
		Key      string `json:"key"`
	}{workerID, t.Job, t.Attempt, key}
	var out struct {
		Outcome string          `json:"outcome"`
		Packet  json.RawMessage `json:"packet"`
	}
	if err := r.call(ctx, callTimeout, http.MethodPost, "claim", in, &out); err != nil || out.Outcome != claimed {
		return out.Outcome, nil, err
	}
	packet = &agentv1.BusPacket{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(out.Packet, packet); err != nil {
		return "", nil, fmt.Errorf("worker: the packet of job %s cannot be read: %w", t.Job, err)
	}
	return out.Outcome, packet, nil
}

// beat sends a heartbeat with the jobs that the worker speaks of. It answers the token for the inbox, and which of the jobs are not the
// worker's any more.
func (r *rest) beat(ctx context.Context, h *agentv1.Heartbeat, jobs []string, leaving bool) (token string, cancels []string, err error) {
	heartbeat, err := protojson.Marshal(h)
	if err != nil {
		return "", nil, fmt.Errorf("worker: heartbeat: %w", err)
	}
	in := struct {
		Heartbeat json.RawMessage `json:"heartbeat"`
		Jobs      []string        `json:"jobs,omitempty"`
		Leaving   bool            `json:"leaving,omitempty"`
	}{heartbeat, jobs, leaving}
	var out struct {
		Cancels []struct {
			JobID string `json:"jobId"`
		} `json:"cancels"`
		Token string `json:"session_token"`
	}
	if err := r.call(ctx, callTimeout, http.MethodPost, "heartbeat", in, &out); err != nil {
		return "", nil, err
	}
	for _, c := range out.Cancels {
		cancels = append(cancels, c.JobID)
	}
	return out.Token, cancels, nil
}

// context reads the input of a job.
func (r *rest) context(ctx context.Context, jobID string) ([]byte, error) {
	var out struct {
		Data []byte `json:"data"`
	}
	err := r.call(ctx, payloadTimeout, http.MethodGet, "jobs/"+url.PathEscape(jobID)+"/context", nil, &out)
	return out.Data, err
}

// result stores the output of a job and answers its pointer.
func (r *rest) result(ctx context.Context, jobID string, attempt int, data []byte) (string, error) {
	in := struct {
		Attempt     int    `json:"attempt"`
		Data        []byte `json:"data"`
		ContentType string `json:"content_type"`
	}{attempt, data, "application/json"}
	var out struct {
		Pointer string `json:"result_ptr"`
	}
	err := r.call(ctx, payloadTimeout, http.MethodPost, "jobs/"+url.PathEscape(jobID)+"/result", in, &out)
	return out.Pointer, err
}
