package workflow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Workflow is a definition, with the members and the presence that the wire has.
type Workflow struct {
	ID          string `json:"id"`
	OrgID       string `json:"org_id"`
	TeamID      string `json:"team_id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	// Version is a label. There is one stored version per id.
	Version string `json:"version"`
	// TimeoutSec bounds a run as a whole, in seconds; 0 does not.
	TimeoutSec int64 `json:"timeout_sec"`
	// Steps by their ids; nil is "not said", which Merge tells from "none".
	Steps Steps `json:"steps"`
	// Config and Parameters (a list of objects) are not interpreted.
	Config      JSON `json:"config,omitzero"`
	InputSchema JSON `json:"input_schema,omitzero"`
	Parameters  JSON `json:"parameters,omitzero"`
	// PolicyOverride is a policy document for the jobs of this workflow.
	PolicyOverride string    `json:"policy_override,omitempty"`
	CreatedBy      string    `json:"created_by"`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
}

// Step is a node of the graph.
type Step struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Type is as the author wrote it; Kind says what it means.
	Type      string   `json:"type"`
	Topic     string   `json:"topic,omitempty"`
	WorkerID  string   `json:"worker_id,omitempty"`
	DependsOn []string `json:"depends_on,omitempty"`
	// Condition is the gate of a step, and for condition and switch the expression itself.
	Condition string `json:"condition,omitempty"`
	// ForEach is an expression for a list; the step is done once for each of its items.
	ForEach string `json:"for_each,omitempty"`
	// MaxParallel is how many children run at once; 0 is all.
	MaxParallel int `json:"max_parallel,omitempty"`
	// Input is a template, its numbers json.Number; a job whose step has none is sent the input of the run.
	Input          map[string]any `json:"input,omitempty"`
	InputSchema    JSON           `json:"input_schema,omitzero"`
	InputSchemaID  string         `json:"input_schema_id,omitempty"`
	OutputPath     string         `json:"output_path,omitempty"`
	ResultDataPath string         `json:"result_data_path,omitempty"`
	OutputSchema   JSON           `json:"output_schema,omitzero"`
	OutputSchemaID string         `json:"output_schema_id,omitempty"`
	Meta           *Meta          `json:"meta,omitempty"`
	OnError        string         `json:"on_error,omitempty"`
	Retry          *Retry         `json:"retry,omitempty"`
	// TimeoutSec is the budget of a job in seconds, 0 is none; for a delay its length when nothing else says it.
	TimeoutSec int64 `json:"timeout_sec,omitempty"`
	DelaySec   int64 `json:"delay_sec,omitempty"`
	// DelayUntil is RFC 3339, or a template for it.
	DelayUntil string `json:"delay_until,omitempty"`
	// RouteLabels are templates by label.
	RouteLabels map[string]string `json:"route_labels,omitempty"`
	// PolicyGate is a hint of user interfaces: allow, deny or require_approval.
	PolicyGate string `json:"policy_gate,omitempty"`
}

// Meta is what policy sees of a step's jobs.
type Meta struct {
	ActorID string `json:"actor_id,omitempty"`
	// ActorType is human or service; anything else is unspecified.
	ActorType      string            `json:"actor_type,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	PackID         string            `json:"pack_id,omitempty"`
	Capability     string            `json:"capability,omitempty"`
	RiskTags       []string          `json:"risk_tags,omitempty"`
	Requires       []string          `json:"requires,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
}

// Retry says how a step is tried again.
type Retry struct {
	// MaxRetries come after the first attempt.
	MaxRetries        int     `json:"max_retries,omitempty"`
	InitialBackoffSec int64   `json:"initial_backoff_sec,omitempty"`
	MaxBackoffSec     int64   `json:"max_backoff_sec,omitempty"`
	Multiplier        float64 `json:"multiplier,omitempty"`
}

// Decode reads a definition: one JSON object, unknown members passed over. The key of a step is its id, whatever the step says itself.
func Decode(data []byte) (*Workflow, error) {
	w := &Workflow{}
	if err := json.Unmarshal(data, w); err != nil {
		return nil, fmt.Errorf("workflow: %w", err)
	}
	return w, nil
}

// Steps are the nodes by their ids.
type Steps map[string]*Step

// UnmarshalJSON reads the steps and gives each the key as its id. A step that is null is one that says nothing.
func (s *Steps) UnmarshalJSON(data []byte) error {
	var m map[string]*Step
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	for id, step := range m {
		if step == nil {
			m[id] = &Step{}
		}
		m[id].ID = id
	}
	*s = m
	return nil
}

// MarshalJSON writes {} for nil.
func (s Steps) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]*Step(s))
}

// UnmarshalJSON keeps every digit of the numbers in the input, as package expr wants them.
func (s *Step) UnmarshalJSON(data []byte) error {
	type plain Step
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode((*plain)(s))
}

// JSON is a value that is kept as it came, without white space.
type JSON []byte

// UnmarshalJSON keeps the value; null is none.
func (j *JSON) UnmarshalJSON(data []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return err
	}
	if *j = b.Bytes(); string(*j) == "null" {
		*j = nil
	}
	return nil
}

// MarshalJSON writes the value.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == nil {
		return []byte("null"), nil
	}
	return j, nil
}

// IsZero says that there is nothing to show: no value, {} or [].
func (j JSON) IsZero() bool { return len(j) == 0 || string(j) == "{}" || string(j) == "[]" }
