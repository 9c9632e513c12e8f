package runs

import (
	"encoding/json"
	"strings"
	"time"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
)

func shownAll(views []*runs.View) ([]*cordumv1.Run, error) {
	out := make([]*cordumv1.Run, len(views))
	for i, v := range views {
		var err error
		if out[i], err = shown(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// shown is a run as the contract has it.
func shown(v *runs.View) (*cordumv1.Run, error) {
	r := &cordumv1.Run{
		Id: v.ID, WorkflowId: v.WorkflowID, OrgId: v.OrgID, TeamId: v.TeamID, Status: string(v.Status), StartedAt: stamp(v.StartedAt),
		CompletedAt: stamp(v.CompletedAt), Steps: make(map[string]*cordumv1.StepRun, len(v.Steps)), TriggeredBy: v.TriggeredBy,
		CreatedAt: stamp(v.CreatedAt), UpdatedAt: stamp(v.UpdatedAt), Labels: v.Labels, Metadata: v.Metadata, IdempotencyKey: v.IdempotencyKey,
		RerunOf: v.RerunOf, RerunStep: v.RerunStep, DryRun: v.DryRun,
	}
	var err error
	if r.Input, err = written(v.Input); err != nil {
		return nil, err
	}
	if v.Context != nil {
		if r.Context, err = written(v.Context); err != nil {
			return nil, err
		}
	}
	if v.Error != "" {
		if r.Error, err = written(map[string]any{"message": v.Error}); err != nil {
			return nil, err
		}
	}
	for id, rec := range v.Steps {
		if r.Steps[id], err = step(rec); err != nil {
			return nil, err
		}
	}
	for id, s := range r.GetSteps() { // children stand at the top and below their step
		if parent, _, child := strings.Cut(id, "["); child && r.GetSteps()[parent] != nil {
			p := r.GetSteps()[parent]
			if p.Children == nil {
				p.Children = map[string]*cordumv1.StepRun{}
			}
			p.Children[id] = s
		}
	}
	for _, t := range v.Timers {
		r.Timers = append(r.Timers, &cordumv1.RunTimer{
			WorkflowId: v.WorkflowID, RunId: v.ID, FiresAt: stamp(t.FiresAt), RemainingMs: t.Remaining.Milliseconds(),
		})
	}
	return r, nil
}

// step is a step, or a child of one, as the contract has it: the output of a job is the pointer of its result.
func step(rec *engine.Record) (*cordumv1.StepRun, error) {
	s := &cordumv1.StepRun{
		StepId: rec.ID, Status: string(rec.Status), StartedAt: stamp(rec.StartedAt), CompletedAt: stamp(rec.CompletedAt),
		NextAttemptAt: stamp(rec.NextAttemptAt), Attempts: int32(rec.Attempts), JobId: rec.JobID, SkipReason: rec.SkipReason,
	}
	var err error
	put := func(to **cordumv1.Json, v any, there bool) {
		if err == nil && there {
			*to, err = written(v)
		}
	}
	put(&s.Input, rec.Input.Inline, rec.Input.Inline != nil)
	put(&s.Item, rec.Item.Inline, rec.Item.Inline != nil)
	switch {
	case rec.ResultPtr != "":
		put(&s.Output, rec.ResultPtr, true)
	default:
		put(&s.Output, rec.Output.Inline, rec.HasOutput && rec.Output.Ref == "")
	}
	if rec.Error != nil {
		put(&s.Error, rec.Error, true)
	}
	return s, err
}

func written(v any) (*cordumv1.Json, error) {
	text, err := json.Marshal(v)
	return &cordumv1.Json{Raw: text}, err
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}
