// Package client is the little of an HTTP client that the demo and the benchmarks need.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Client calls a plane. The zero HTTP client works.
type Client struct {
	// Base is the plane's address, "http://localhost:8081".
	Base   string
	Key    string
	Tenant string
	HTTP   *http.Client
}

// Error is an answer other than 2xx.
type Error struct {
	Status int
	Body   string
}

func (e *Error) Error() string { return fmt.Sprintf("HTTP %d: %s", e.Status, e.Body) }

// Do calls a route below /api/v1. in is sent as JSON unless it is nil; out, unless it is nil, gets the answer.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-API-Key", c.Key)
	req.Header.Set("X-Tenant-ID", c.Tenant)
	res, err := c.http().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end below
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return &Error{Status: res.StatusCode, Body: string(bytes.TrimSpace(text))}
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

// Receipt is the answer to a submission.
type Receipt struct {
	JobID   string `json:"job_id"`
	TraceID string `json:"trace_id"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
}

// Submit submits a job; body is the JSON body of POST /jobs.
func (c *Client) Submit(ctx context.Context, body any) (Receipt, error) {
	var r Receipt
	err := c.Do(ctx, http.MethodPost, "/jobs", body, &r)
	return r, err
}

// Job is what the demo shows of a job.
type Job struct {
	ID           string          `json:"id"`
	State        string          `json:"state"`
	Topic        string          `json:"topic"`
	Attempts     int             `json:"attempts"`
	Decision     string          `json:"safety_decision"`
	Rule         string          `json:"safety_rule_id"`
	Reason       string          `json:"safety_reason"`
	Constraints  json.RawMessage `json:"safety_constraints"`
	Result       json.RawMessage `json:"result"`
	ErrorCode    string          `json:"error_code"`
	ErrorMessage string          `json:"error_message"`
	Progress     *struct {
		Percent int    `json:"percent"`
		Message string `json:"message"`
	} `json:"progress"`
}

// Ended says whether nothing follows.
func (j Job) Ended() bool {
	switch j.State {
	case "SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "DENIED":
		return true
	default:
		return false
	}
}

// Get reads a job.
func (c *Client) Get(ctx context.Context, id string) (Job, error) {
	var j Job
	err := c.Do(ctx, http.MethodGet, "/jobs/"+url.PathEscape(id), nil, &j)
	return j, err
}

// Cancel cancels a job.
func (c *Client) Cancel(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodPost, "/jobs/"+url.PathEscape(id)+"/cancel", nil, nil)
}
