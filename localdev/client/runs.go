package client

import (
	"context"
	"net/http"
	"net/url"
)

// Run is a run of a workflow, as far as its readers here look.
type Run struct {
	ID     string          `json:"id"`
	Status string          `json:"status"`
	Steps  map[string]Step `json:"steps"`
}

// Step is a step of a run.
type Step struct {
	Status string `json:"status"`
	JobID  string `json:"job_id"`
}

// Ended says whether nothing changes the run any more.
func (r Run) Ended() bool {
	return r.Status != "pending" && r.Status != "running" && r.Status != "waiting"
}

// SaveWorkflow saves a definition, new or not.
func (c *Client) SaveWorkflow(ctx context.Context, definition any) error {
	return c.Do(ctx, http.MethodPost, "/workflows", definition, nil)
}

// Start begins a run and answers its id.
func (c *Client) Start(ctx context.Context, workflow string, input any) (string, error) {
	var r struct {
		RunID string `json:"run_id"`
	}
	err := c.Do(ctx, http.MethodPost, "/workflows/"+url.PathEscape(workflow)+"/runs", input, &r)
	return r.RunID, err
}

// Run reads a run.
func (c *Client) Run(ctx context.Context, id string) (Run, error) {
	var r Run
	err := c.Do(ctx, http.MethodGet, "/workflow-runs/"+url.PathEscape(id), nil, &r)
	return r, err
}

// ApproveStep decides an approval step of a run.
func (c *Client) ApproveStep(ctx context.Context, workflow, run, step string, approved bool) error {
	path := "/workflows/" + url.PathEscape(workflow) + "/runs/" + url.PathEscape(run) + "/steps/" + url.PathEscape(step) + "/approve"
	return c.Do(ctx, http.MethodPost, path, map[string]bool{"approved": approved}, nil)
}

// TimelineEvent is something that happened in a run.
type TimelineEvent struct {
	Type    string `json:"type"`
	StepID  string `json:"step_id"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// Timeline reads what happened in a run, oldest first.
func (c *Client) Timeline(ctx context.Context, run string) ([]TimelineEvent, error) {
	var events []TimelineEvent
	err := c.Do(ctx, http.MethodGet, "/workflow-runs/"+url.PathEscape(run)+"/timeline", nil, &events)
	return events, err
}
