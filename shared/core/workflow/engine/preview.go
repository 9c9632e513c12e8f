package engine

import (
	"maps"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// Preview is a step that dispatches jobs, as policy would see them.
type Preview struct {
	StepID, Name, Type string
	// Gate says that the job waits for a human, whatever policy says.
	Gate   bool
	Topic  string
	Labels map[string]string
	Meta   workflow.Meta
}

// Previews are the steps of a plan that dispatch jobs, in the order of their dependencies, for a run with this input. A route label whose template
// needs more than the input is shown as it is written.
func Previews(p *Plan, input any) []Preview {
	var out []Preview
	scope := expr.Scope{Input: input, Ctx: map[string]any{}, Steps: map[string]any{}}
	for _, i := range p.order {
		n := p.nodes[i]
		if body, _ := n.Body(); n.kind != workflow.Job && n.kind != workflow.Approval && (n.kind != workflow.Loop || p.node(body) != nil && body != n.ID) {
			continue
		}
		labels := map[string]string{"workflow_id": p.workflow.ID, "step_id": n.ID, "_source": "workflow"}
		if n.WorkerID != "" {
			labels["worker_id"] = n.WorkerID
		}
		maps.Copy(labels, fillLabels(n.Step, scope))
		out = append(out, Preview{
			StepID: n.ID, Name: n.Name, Type: n.Type, Gate: n.kind == workflow.Approval, Topic: topicOf(n.Step, p.workflow.ID), Labels: labels, Meta: meta(n.Meta),
		})
	}
	return out
}

// topicOf is the topic of a step's jobs.
func topicOf(s *workflow.Step, workflowID string) string {
	if s.Topic == "" {
		return "job.workflow." + workflowID
	}
	return s.Topic
}

// fillLabels are the route labels of a step; one whose template cannot be filled in stays as it is written.
func fillLabels(s *workflow.Step, scope expr.Scope) map[string]string {
	made := make(map[string]string, len(s.RouteLabels))
	for k, text := range s.RouteLabels {
		made[k] = text
		if v, _, err := expr.Template(text, scope); err == nil {
			if filled, err := expr.Text(v); err == nil && len(filled) <= maxLabel {
				made[k] = filled
			}
		}
	}
	return made
}
