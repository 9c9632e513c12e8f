package runs

import (
	"context"
	"errors"
	"slices"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Filter says which runs of a tenant a list shows. Zero values do not filter.
type Filter struct {
	Status   engine.Status
	Workflow string
	Team     string
	// After and Before bound the last change, inclusive, in microseconds.
	After, Before int64
}

// mayMatch says whether an entry can be of a run that the filter wants.
func (f Filter) mayMatch(e listing.Entry) bool {
	n := len(job.Mark(""))
	for i, want := range []string{string(f.Status), f.Workflow, f.Team} {
		if want != "" && (len(e.Rest) < (i+1)*n || e.Rest[i*n:(i+1)*n] != job.Mark(want)) {
			return false
		}
	}
	return true
}

func (f Filter) matches(h *header) bool {
	return (f.Status == "" || h.Status == f.Status) && (f.Workflow == "" || h.WorkflowID == f.Workflow) && (f.Team == "" || h.TeamID == f.Team)
}

// List answers at most limit runs of a tenant, last changed first, and the cursor of the next page, 0 at the end. They are shown without what is in the
// records of their steps: of a step only its status.
func (r *Runs) List(ctx context.Context, tenant string, f Filter, limit int) ([]*View, int64, error) {
	l := listing.List[View]{Table: r.Table, After: f.After, Before: f.Before}
	for shard := range max(int(r.Shards), 1) {
		l.Partitions = append(l.Partitions, listPartition(tenant, shard))
	}
	if f.Status != "" || f.Workflow != "" || f.Team != "" {
		l.Keep = f.mayMatch
	}
	l.Load = func(ctx context.Context, entries []listing.Entry) ([]*View, error) {
		keys := make([]store.Key, len(entries))
		for i, e := range entries {
			keys[i] = e.Key
		}
		return r.heads(ctx, tenant, keys, f)
	}
	return l.Page(ctx, limit)
}

// heads reads headers as lists show them: nil for one that is gone or does not match.
func (r *Runs) heads(ctx context.Context, tenant string, keys []store.Key, f Filter) ([]*View, error) {
	items, err := r.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	place := make(map[store.Key]int, len(keys))
	for i, k := range keys {
		place[k] = i
	}
	out := make([]*View, len(keys))
	now := r.Jobs.Clock.Now()
	for _, it := range items {
		h, err := parseHeader(it)
		if err != nil {
			return nil, err
		}
		if !h.visible(tenant, now) || !f.matches(h) {
			continue
		}
		plan, err := r.plan(ctx, h)
		if err != nil {
			return nil, err
		}
		out[place[it.Key]] = &View{Run: h.Run, Input: h.Input.Inline, Steps: standing(plan, h.Run)}
	}
	return out, r.inputs(ctx, out)
}

// standing are the steps that were reached, as far as the header knows them: how each stands, and nothing that its record may have otherwise.
func standing(plan *engine.Plan, run *engine.Run) map[string]*engine.Record {
	steps := map[string]*engine.Record{}
	for _, id := range plan.Steps() {
		if s := engine.Show(plan, run, id, nil, nil); s != nil {
			steps[id] = &engine.Record{ID: id, Status: s.Status}
		}
	}
	return steps
}

// inputBytes is how much of large inputs a page reads.
const inputBytes = 1 << 20

// inputs fills in those that are kept apart, as many as a page has room for; the others stay nil.
func (r *Runs) inputs(ctx context.Context, views []*View) error {
	of := map[store.Key]*View{}
	var keys []store.Key
	for _, v := range views {
		if v != nil && v.Run.Input.Ref != "" {
			k := valueKey(v.ID, v.Run.Input.Ref)
			of[k], keys = v, append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	items, err := r.Table.BatchGet(ctx, keys)
	room := int64(inputBytes)
	for _, it := range items {
		if room -= it.Attrs.Int(attrBytes); room < 0 {
			break
		}
		v := of[it.Key]
		if v.Input, err = r.value(ctx, v.ID, it); err != nil {
			return err
		}
	}
	return err
}

// ofWorkflow is how many runs of a workflow are listed.
const ofWorkflow = 100

// Of answers the newest runs of a tenant's workflow, 100 at most, as List shows them.
func (r *Runs) Of(ctx context.Context, tenant, id string) ([]*View, error) {
	if !workflow.ValidID(id) {
		return nil, ErrWorkflow
	}
	there, err := r.Catalog.Exists(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	out := []*View{}
	q := store.Query{Index: store.ByLink, PK: workflowPartition(tenant, id), Desc: true, Limit: ofWorkflow}
	for page, err := range store.Pages(ctx, r.Table, q) {
		if err != nil {
			return nil, err
		}
		keys := make([]store.Key, len(page))
		for i, it := range page {
			keys[i] = it.Key
		}
		views, err := r.heads(ctx, tenant, keys, Filter{Workflow: id})
		if err != nil {
			return nil, err
		}
		if out = append(out, slices.DeleteFunc(views, func(v *View) bool { return v == nil })...); len(out) >= ofWorkflow {
			out = out[:ofWorkflow]
			break
		}
	}
	if len(out) == 0 && !there { // a deleted workflow's runs are still its runs
		return nil, ErrWorkflow
	}
	return out, nil
}

// Cancel ends a tenant's run and everything that it has under way. One that has ended stays as it is.
//
// Faults: NotFound, also for a run of another workflow where one is named, Conflict when others keep changing the run.
func (r *Runs) Cancel(ctx context.Context, id identity.Identity, workflow, run string) error {
	h, err := r.find(ctx, id.Tenant, run)
	switch {
	case err != nil:
		return err
	case workflow != "" && h.WorkflowID != workflow:
		return ErrUnknown
	case h.Status.Terminal():
		return nil
	}
	entry := r.entry(id, "cancel", h)
	entry.After = string(engine.Cancelled)
	_, err = r.drive(ctx, run, nil, &wish{event: engine.Cancel{By: id.Principal}, part: part{ops: []store.Op{entry.Op()}}})
	return err
}

// entry is the audit entry of what somebody does with a run.
func (r *Runs) entry(id identity.Identity, action string, h *header) audit.Entry {
	e := audit.By(id, r.now().UnixMicro(), action, "run", h.ID)
	e.ResourceName, e.Before = h.WorkflowID, string(h.Status)
	return e
}

// Delete removes a tenant's run with all that it has. One that has not ended is cancelled first. It is gone for everybody at once; what it had is
// removed then, or, where that takes long, later.
//
// Faults: NotFound, Conflict as for Cancel.
func (r *Runs) Delete(ctx context.Context, id identity.Identity, run string) error {
	h, err := r.find(ctx, id.Tenant, run)
	if err != nil {
		return err
	}
	gone := part{ops: []store.Op{r.entry(id, "delete", h).Op()}, remove: true}
	for range mostLosses {
		if h.Status.Terminal() {
			err = r.remove(ctx, run, gone)
		} else {
			w := &wish{event: engine.Cancel{By: id.Principal}, part: gone}
			if _, err = r.drive(ctx, run, nil, w); err == nil && !w.granted {
				err = errOvertaken // it has ended meanwhile
			}
		}
		if !errors.Is(err, errOvertaken) {
			return err
		}
		if h, err = r.find(ctx, id.Tenant, run); err != nil {
			return err
		}
	}
	return errBusy
}

// remove deletes a run that has ended.
func (r *Runs) remove(ctx context.Context, run string, gone part) error {
	st, err := r.read(ctx, run)
	switch {
	case err != nil:
		return err
	case st.head == nil || st.head.deleted:
		return ErrUnknown
	case !st.head.Status.Terminal():
		return errOvertaken
	}
	if err := r.commit(ctx, st, &engine.Result{Run: st.head.Run}, gone, r.now()); err != nil {
		return err
	}
	if _, err := r.drive(ctx, run, nil, nil); err != nil { // somebody comes by later
		r.Jobs.Log.WarnContext(ctx, "run is deleted, and is removed later", "run", run, "error", err)
	}
	return nil
}

// Why a step cannot be approved.
var (
	errNoStep     = fault.New(fault.Invalid, "%s", engine.NoStep)
	errNotWaiting = fault.New(fault.Invalid, "%s", engine.NotWaiting)
	errRunEnded   = fault.New(fault.Invalid, "%s", engine.RunEnded)
)

// ApproveStep approves or rejects the gate of a step, or of a child of one. The gate's job is what is decided, as through the approvals' own routes, so
// that of any number of decisions, whichever way they come, one counts.
//
// Faults: NotFound, also for a run of another workflow; Invalid; Denied where who started the run may not approve; Conflict when it is to be tried again.
func (r *Runs) ApproveStep(ctx context.Context, id identity.Identity, workflow, run, step string, approved bool) error {
	h, err := r.find(ctx, id.Tenant, run)
	switch {
	case err != nil:
		return err
	case h.WorkflowID != workflow:
		return ErrUnknown
	}
	if h, err = r.drive(ctx, run, nil, &wish{granted: true, resend: len(h.Outbox) > 0}); err != nil {
		return err
	}
	switch {
	case h == nil || h.deleted:
		return ErrUnknown
	case h.Status.Terminal():
		return errRunEnded
	}
	gate, err := r.gate(ctx, h, step)
	if err != nil {
		return err
	}
	decide := r.Jobs.Reject
	if approved {
		decide = r.Jobs.Approve
	}
	_, err = decide(ctx, id, gate, dispatch.Word{})
	switch {
	case fault.Is(err, fault.NotFound): // it is about to be asked for
		return errBusy
	case fault.Is(err, fault.Conflict) && fault.From(err).Details["retryable"] != true:
		return errNotWaiting
	case err != nil:
		return err
	}
	if _, err := r.drive(ctx, run, nil, nil); err != nil { // the decision stands, and the run is woken for it
		r.Jobs.Log.WarnContext(ctx, "step is decided, and the run goes on later", "run", run, "step", step, "error", err)
	}
	return nil
}

// gate answers the job of a step that waits for a human.
func (r *Runs) gate(ctx context.Context, h *header, step string) (string, error) {
	plan, err := r.plan(ctx, h)
	if err != nil {
		return "", err
	}
	if !plan.Has(step) {
		return "", errNoStep
	}
	src := newLoaded()
	if err := r.load(ctx, h.ID, src, []string{step}, nil); err != nil {
		return "", err
	}
	rec := src.records[step]
	if rec == nil || rec.Status != engine.Waiting {
		return "", errNotWaiting
	}
	return rec.JobID, nil
}

// Header answers a tenant's run without its steps.
func (r *Runs) Header(ctx context.Context, tenant, run string) (*engine.Run, error) {
	h, err := r.find(ctx, tenant, run)
	if err != nil {
		return nil, err
	}
	return h.Run, nil
}
