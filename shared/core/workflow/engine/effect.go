package engine

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// Kind is what an effect does.
type Kind string

// The kinds of effects.
const (
	DispatchKind  Kind = "dispatch"
	GateKind      Kind = "gate"
	CancelJobKind Kind = "cancel"
	StartRunKind  Kind = "start"
	CancelRunKind Kind = "cancel-run"
	AlertKind     Kind = "alert"
	NotifyKind    Kind = "notify"
)

// PendingEffect is an effect in the header: what is needed to make it again.
type PendingEffect struct {
	// ID is "<kind>:<target>".
	ID     string `json:"id"`
	Kind   Kind   `json:"kind"`
	Record string `json:"record,omitzero"`
	// Target is the job or run that it is about.
	Target string `json:"target"`
	// Reason is why something is cancelled.
	Reason string `json:"reason,omitzero"`
}

// Effect is something to be sent. One of the pointers is set.
type Effect struct {
	ID       string
	Job      *Job
	Cancel   *CancelJob
	StartRun *StartRun
	// CancelRun is the child run to be cancelled.
	CancelRun string
	Alert     *Alert
	Notify    *Notify
}

// Job is one to be submitted. The sender adds the effective configuration to Env.
type Job struct {
	ID      string
	TraceID string
	// Gate says that it waits for a human, and is for no worker: Payload is what the human decides about, Topic is reserved.
	Gate  bool
	Topic string
	// Priority is batch, interactive or critical.
	Priority    string
	AdapterID   string
	WorkflowID  string
	RunID       string
	StepID      string
	MemoryID    string
	TenantID    string
	TeamID      string
	PrincipalID string
	// Payload is a JSON tree, to be stored under ContextPtr.
	Payload    any
	ContextPtr string
	Env        map[string]string
	Labels     map[string]string
	Meta       workflow.Meta
	// DeadlineMS is the budget, 0 for none.
	DeadlineMS int64
}

// GateTopic is the topic of gate jobs. No pool serves it.
const GateTopic = "job.cordum.workflow.approval"

// CancelJob asks a worker, or the holder of a gate, to stop.
type CancelJob struct{ JobID, Reason, RequestedBy string }

// StartRun asks for a run of another workflow of the same tenant. The run has this id, so that a repetition finds it.
type StartRun struct {
	RunID, WorkflowID, OrgID, TeamID string
	Input                            any
	TriggeredBy                      string
	Labels                           map[string]string
	Parent                           Parent
	CallStack                        []string
	DryRun                           bool
}

// Alert is for operators, on sys.workflow.event.
type Alert struct{ Level, Message, Code, Component, TraceID string }

// Notify tells the run above that this one has ended.
type Notify struct {
	Parent Parent
	RunID  string
	Status Status
	Error  string
}

const engineName = "workflow-engine"

// send makes an effect and keeps it in the header until it is confirmed.
func (t *tx) send(e PendingEffect) {
	e.ID = string(e.Kind) + ":" + e.Target
	t.run.Outbox = append(t.run.Outbox, e)
	t.touched = true
	t.effects = append(t.effects, t.effect(e))
}

// room says whether another effect may be outstanding. One place is kept for the end of the run.
func (t *tx) room() bool { return len(t.run.Outbox)+1 < MaxSend }

// effect makes what a pending effect stands for. The header and its record say everything, so that it is the same at any time.
func (t *tx) effect(e PendingEffect) Effect {
	made := Effect{ID: e.ID}
	switch e.Kind {
	case DispatchKind:
		made.Job = t.job(t.get(e.Record), e.Target)
	case GateKind:
		made.Job = t.gateJob(t.get(e.Record), e.Target)
	case CancelJobKind:
		made.Cancel = &CancelJob{e.Target, e.Reason, engineName}
	case StartRunKind:
		made.StartRun = t.startRun(t.get(e.Record), e.Target)
	case CancelRunKind:
		made.CancelRun = e.Target
	case AlertKind:
		made.Alert = t.alert(t.get(e.Record))
	case NotifyKind:
		made.Notify = &Notify{*t.run.Parent, t.run.ID, t.run.Status, t.run.Error}
	}
	return made
}

func (t *tx) job(r *Record, id string) *Job {
	u := t.unit(r.ID)
	step := u.step
	attempt := id[strings.LastIndexByte(id, '@')+1:]
	j := &Job{
		ID: id, TraceID: t.run.ID, Topic: topicOf(step, t.run.WorkflowID), Priority: t.run.Priority, AdapterID: step.WorkerID, WorkflowID: t.run.WorkflowID,
		RunID: t.run.ID, StepID: r.ID, MemoryID: t.run.MemoryID, TenantID: t.run.OrgID, TeamID: t.run.TeamID,
		Payload: t.value(r.Input), ContextPtr: contextPtr(id), DeadlineMS: step.TimeoutSec * 1000,
		Env: map[string]string{
			"workflow_id": t.run.WorkflowID, "run_id": t.run.ID, "step_id": r.ID, "tenant_id": t.run.OrgID, "team_id": t.run.TeamID,
			"memory_id": t.run.MemoryID, "context_mode": "raw",
		},
		Labels: map[string]string{"workflow_id": t.run.WorkflowID, "run_id": t.run.ID, "step_id": r.ID, "_source": "workflow"},
		Meta:   meta(step.Meta),
	}
	if step.WorkerID != "" {
		j.Labels["worker_id"] = step.WorkerID
	}
	maps.Copy(j.Labels, r.Labels)
	if t.run.DryRun {
		j.Env["dry_run"], j.Labels["dry_run"] = "true", "true"
	}
	if j.PrincipalID = t.run.TriggeredBy; j.PrincipalID == "" {
		j.PrincipalID = j.Meta.ActorID
	}
	if j.Meta.IdempotencyKey == "" {
		j.Meta.IdempotencyKey = "wf:" + t.run.ID + ":" + r.ID + ":" + attempt
	}
	switch {
	case u.inFan():
		j.Env["foreach_index"] = strconv.Itoa(u.index)
		j.Env["foreach_item"] = jsonText(t.value(r.Item))
	case u.inLoop():
		j.Env["loop_index"] = strconv.Itoa(u.index)
		j.Env["loop_iteration"] = strconv.Itoa(u.index + 1)
		j.Env["loop_previous_output"] = jsonText(t.value(r.Item))
	}
	return j
}

func (t *tx) gateJob(r *Record, id string) *Job {
	step := t.unit(r.ID).step
	m := meta(step.Meta)
	m.IdempotencyKey = "wf:" + t.run.ID + ":" + r.ID + ":1:approval"
	about := map[string]any{"workflow_id": t.run.WorkflowID, "run_id": t.run.ID, "step_id": r.ID, "requested_at": stamp(r.StartedAt)}
	for k, v := range map[string]string{
		"workflow_name": t.p.workflow.Name, "step_name": step.Name, "triggered_by": t.run.TriggeredBy, "tenant_id": t.run.OrgID, "team_id": t.run.TeamID,
	} {
		if v != "" {
			about[k] = v
		}
	}
	payload := map[string]any{"kind": "workflow_approval_context", "version": expr.Number(1), "workflow": about}
	if decision := t.value(r.Input); decision != nil {
		payload["decision"] = decision
	}
	j := &Job{
		ID: id, TraceID: t.run.ID, Gate: true, Topic: GateTopic, Priority: "interactive", WorkflowID: t.run.WorkflowID, RunID: t.run.ID, StepID: r.ID,
		MemoryID: t.run.MemoryID, TenantID: t.run.OrgID, TeamID: t.run.TeamID, PrincipalID: t.run.TriggeredBy, Payload: payload, ContextPtr: contextPtr(id), Meta: m,
		DeadlineMS: step.TimeoutSec * 1000,
		Env: map[string]string{
			"workflow_id": t.run.WorkflowID, "run_id": t.run.ID, "step_id": r.ID, "tenant_id": t.run.OrgID, "team_id": t.run.TeamID,
			"memory_id": t.run.MemoryID, "context_mode": "raw",
		},
		Labels: map[string]string{
			"workflow_id": t.run.WorkflowID, "run_id": t.run.ID, "step_id": r.ID, "_source": "workflow", "gate_type": "workflow_approval",
		},
	}
	if t.run.DryRun {
		j.Env["dry_run"], j.Labels["dry_run"] = "true", "true"
	}
	return j
}

// meta is that of a step, trimmed, without blank members.
func meta(m *workflow.Meta) workflow.Meta {
	if m == nil {
		return workflow.Meta{}
	}
	made := workflow.Meta{
		ActorID: strings.TrimSpace(m.ActorID), ActorType: strings.TrimSpace(m.ActorType), IdempotencyKey: strings.TrimSpace(m.IdempotencyKey),
		PackID: strings.TrimSpace(m.PackID), Capability: strings.TrimSpace(m.Capability), RiskTags: trimmed(m.RiskTags), Requires: trimmed(m.Requires),
	}
	if made.ActorType != "human" && made.ActorType != "service" {
		made.ActorType = ""
	}
	for k, v := range m.Labels {
		if k = strings.TrimSpace(k); k != "" {
			if made.Labels == nil {
				made.Labels = map[string]string{}
			}
			made.Labels[k] = strings.TrimSpace(v)
		}
	}
	return made
}

func trimmed(list []string) []string {
	var made []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			made = append(made, s)
		}
	}
	return made
}

func (t *tx) startRun(r *Record, id string) *StartRun {
	call, _ := t.value(r.Input).(map[string]any)
	target, _ := call["workflow_id"].(string)
	return &StartRun{
		RunID: id, WorkflowID: target, OrgID: t.run.OrgID, TeamID: t.run.TeamID, Input: call["input"], TriggeredBy: t.run.TriggeredBy,
		Labels: t.run.Labels, Parent: Parent{t.run.ID, r.ID}, CallStack: append(append([]string{}, t.run.CallStack...), t.run.WorkflowID), DryRun: t.run.DryRun,
	}
}

// childRunID is the id of the run that an attempt of a subworkflow starts: the same whenever it is asked.
func childRunID(run, record string, attempt int) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("cordum:run:"+JobID(run, record, attempt))).String()
}

func (t *tx) alert(r *Record) *Alert {
	step := t.unit(r.ID).step
	payload, _ := t.value(r.Input).(map[string]any)
	word := func(key, fallback string) string {
		if s, ok := payload[key].(string); ok && strings.TrimSpace(s) != "" {
			return s
		}
		return fallback
	}
	name := r.ID
	if step.Name != "" {
		name = step.Name
	}
	return &Alert{
		Level: strings.ToUpper(word("level", "INFO")), Message: word("message", name), Code: word("code", ""), Component: word("component", engineName),
		TraceID: t.run.ID,
	}
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return string(b)
}
