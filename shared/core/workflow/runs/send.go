package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// tell lets those know of a commit who are not asked to confirm it: clients that listen, and whoever wakes the run before the next sweep.
func (r *Runs) tell(ctx context.Context, h *header, res *engine.Result) {
	if len(res.Timeline) > 0 {
		frames := make([]json.RawMessage, 0, len(res.Timeline))
		for _, e := range told(h.Run, res.Timeline) {
			frames = append(frames, frame(e))
		}
		r.Jobs.Events.Run(ctx, h.OrgID, h.ID, fmt.Sprintf("%012d", h.Version), frames)
	}
	if h.Status.Terminal() {
		return
	}
	for _, rec := range res.Records {
		if !rec.Due.IsZero() {
			r.Jobs.WakeRun(ctx, h.ID, rec.ID, rec.Due)
		}
	}
	if !h.Deadline.IsZero() && h.Deadline.UnixMicro() == h.due {
		r.Jobs.WakeRun(ctx, h.ID, "", h.Deadline)
	}
}

// sendAtOnce is how many jobs are submitted at one time.
const sendAtOnce = 8

// send sends effects in their order, jobs that follow each other several at once. It answers those that were received, and the jobs that nobody will
// ever take, with the reason. What is in neither is sent again later: what fails, and what would overtake something about the same job or run that is
// not known to have been received. crowded says that it is for want of a place in the tenant's queue of jobs.
func (r *Runs) send(ctx context.Context, st *state, effects []engine.Effect) (sent []string, refused []engine.JobResult, crowded bool) {
	targets, waits := map[string]string{}, map[string]bool{}
	for _, p := range st.head.Outbox {
		targets[p.ID] = p.Target
		if !slices.ContainsFunc(effects, func(e engine.Effect) bool { return e.ID == p.ID }) {
			waits[p.Target] = true
		}
	}
	effects = slices.DeleteFunc(slices.Clone(effects), func(e engine.Effect) bool { return waits[targets[e.ID]] })
	for len(effects) > 0 {
		n := together(effects)
		errs := make([]error, n)
		if n == 1 {
			errs[0] = r.deliver(ctx, st.head, effects[0])
		} else {
			var sending sync.WaitGroup
			for i, e := range effects[:n] {
				sending.Go(func() {
					r.Jobs.Yield.At(ctx, "send "+e.ID)
					errs[i] = r.deliver(ctx, st.head, e)
				})
			}
			sending.Wait()
		}
		for i, e := range effects[:n] {
			switch err := errs[i]; {
			case err == nil:
				sent = append(sent, e.ID)
			case e.Job != nil && (fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied)):
				sent = append(sent, e.ID)
				refused = append(refused, engine.JobResult{JobID: e.Job.ID, Status: engine.JobFatal, Error: err.Error()})
			default:
				r.Jobs.Log.WarnContext(ctx, "effect of a run not sent; it is sent again", "run", st.head.ID, "effect", e.ID, "error", err)
				waits[targets[e.ID]] = true
				crowded = crowded || e.Job != nil && fault.Is(err, fault.Limited)
			}
		}
		effects = slices.DeleteFunc(effects[n:], func(e engine.Effect) bool { return waits[targets[e.ID]] })
	}
	return sent, refused, crowded
}

// together is how many of the first effects may be sent at once: jobs, which know nothing of each other.
func together(effects []engine.Effect) int {
	n := slices.IndexFunc(effects, func(e engine.Effect) bool { return e.Job == nil })
	if n < 0 {
		n = len(effects)
	}
	return min(max(n, 1), sendAtOnce)
}

// deliver sends one effect. Whoever receives it twice does it once.
func (r *Runs) deliver(ctx context.Context, h *header, e engine.Effect) error {
	switch {
	case e.Job != nil:
		return r.submit(ctx, h, e.Job)
	case e.Cancel != nil:
		return r.Jobs.CancelStep(ctx, h.OrgID, e.Cancel.JobID, e.Cancel.Reason)
	case e.StartRun != nil:
		return r.startChild(ctx, e.StartRun, h.StartedWith)
	case e.CancelRun != "":
		return r.post(ctx, e.CancelRun, inbox.Event{Kind: inbox.Cancelled})
	case e.Notify != nil:
		return r.post(ctx, e.Notify.Parent.RunID, inbox.Event{Kind: inbox.ChildEnded, Child: h.ID, Record: e.Notify.Parent.StepID})
	case e.Alert != nil:
		r.Jobs.Log.InfoContext(ctx, "workflow alert", "subject", "sys.workflow.event", "tenant", h.OrgID, "workflow", h.WorkflowID, "run", h.ID,
			"level", e.Alert.Level, "message", e.Alert.Message, "code", e.Alert.Code, "component", e.Alert.Component)
	}
	return nil
}

// post puts an event into the inbox of another run of the same tenant, and wakes it.
func (r *Runs) post(ctx context.Context, run string, e inbox.Event) error {
	if err := store.Transact(ctx, r.Table, inbox.Put(run, e, r.Jobs.Clock.Now())); err != nil {
		return err
	}
	r.wake(ctx, run, "")
	return nil
}

func (r *Runs) submit(ctx context.Context, h *header, j *engine.Job) error {
	var payload json.RawMessage
	if j.Payload != nil {
		text, err := json.Marshal(j.Payload)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "payload cannot be written as JSON")
		}
		payload = text
	}
	_, err := r.Jobs.SubmitStep(ctx, dispatch.StepJob{
		ID: j.ID, RunID: j.RunID, WorkflowID: j.WorkflowID, StepID: j.StepID, Gate: j.Gate, Topic: j.Topic, Priority: j.Priority, Adapter: j.AdapterID,
		MemoryID: j.MemoryID, Tenant: j.TenantID, Team: j.TeamID, Principal: j.PrincipalID, Payload: payload, Env: j.Env, Labels: j.Labels,
		MetaLabels: j.Meta.Labels, ActorID: j.Meta.ActorID, ActorType: j.Meta.ActorType, IdempotencyKey: j.Meta.IdempotencyKey, PackID: j.Meta.PackID,
		Capability: j.Meta.Capability, RiskTags: j.Meta.RiskTags, Requires: j.Meta.Requires, DeadlineMS: j.DeadlineMS, Submitter: h.StartedWith,
	})
	return err
}

// frame is an entry of the timeline as clients of the stream see it: a frame of our own beside CAP's, with its member at both places where clients look.
func frame(e TimelineEntry) json.RawMessage {
	made := struct {
		TraceID   string `json:"traceId"`
		SenderID  string `json:"senderId"`
		CreatedAt string `json:"createdAt"`
		Version   int    `json:"protocolVersion"`

		Event   TimelineEntry `json:"workflowEvent"`
		Payload struct {
			Event TimelineEntry `json:"workflowEvent"`
		} `json:"payload"`
	}{TraceID: e.RunID, SenderID: "workflow-engine", CreatedAt: e.Time, Version: 1, Event: e}
	made.Event.Data = nil
	made.Payload.Event = made.Event
	text, err := json.Marshal(made)
	if err != nil {
		panic("runs: frame: " + err.Error()) // it has texts only
	}
	return text
}
