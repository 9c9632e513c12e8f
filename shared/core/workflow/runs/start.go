package runs

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Start is a run as a client asks for it.
type Start struct {
	Workflow string
	Team     string
	// Input is a JSON object, {} when empty.
	Input  json.RawMessage
	DryRun bool
	// Key makes a repetition within a week answer the first run; "" is none.
	Key string
}

// Start begins a run of a workflow of the caller's tenant and answers its id: that of the first start when the key was used before. The run, the
// key, the place among the tenant's live runs, the first steps and the audit entry are one transaction.
//
// Faults: Invalid, NotFound, Limited with the members current and limit.
func (r *Runs) Start(ctx context.Context, id identity.Identity, s Start) (run string, err error) {
	input, err := ReadInput(s.Input)
	if err != nil {
		return "", err
	}
	v, plan, err := r.begin(ctx, id.Tenant, s.Workflow)
	if err != nil {
		return "", err
	}
	if err := CheckInput(v, input); err != nil {
		return "", err
	}
	if run, err := r.once(ctx, id.Tenant, s.Key); run != "" || err != nil {
		return run, err
	}
	given := engine.Run{
		ID: r.Jobs.IDs.UUID(), OrgID: id.Tenant, TeamID: s.Team, Input: engine.Value{Inline: input}, TriggeredBy: id.Principal, DryRun: s.DryRun,
		IdempotencyKey: s.Key, StartedWith: id.KeyID,
	}
	now := r.now()
	entry := audit.By(id, now.UnixMicro(), "start", "run", given.ID)
	entry.ResourceName, entry.After = s.Workflow, v.Hash
	return r.create(ctx, plan, engine.NewRun(plan, given, now), nil, true, entry.Op(), now)
}

// ReadInput reads the input of a run.
func ReadInput(text json.RawMessage) (map[string]any, error) {
	if len(text) == 0 {
		return map[string]any{}, nil
	}
	v, err := expr.Decode(text)
	input, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, fault.New(fault.Invalid, "invalid json")
	}
	return input, nil
}

// CheckInput says what is wrong with an input.
func CheckInput(v *catalog.Version, input map[string]any) error {
	if err := v.CheckInput(input); err != nil {
		return fault.New(fault.Invalid, "input schema validation failed: %s", strings.TrimPrefix(err.Error(), "schema validation failed: "))
	}
	given, there := input["memory_id"]
	if !there {
		return nil
	}
	id, ok := given.(string)
	switch {
	case !ok:
		return fault.New(fault.Invalid, "memory_id must be a string")
	case strings.TrimSpace(id) != "" && !dispatch.ValidMemoryID(id):
		return fault.New(fault.Invalid, "invalid memory id")
	}
	return nil
}

// once answers the run that a key has started, "" for none.
func (r *Runs) once(ctx context.Context, tenant, key string) (string, error) {
	if key == "" {
		return "", nil
	}
	it, err := r.Table.Get(ctx, onceKey(tenant, key))
	if errors.Is(err, store.ErrNotFound) || err == nil && it.Attrs.Int(attrUntil) <= r.Jobs.Clock.Now().Unix() {
		return "", nil
	}
	return it.Attrs.String(attrStarted), err
}

// startTries is how often a start begins anew because its workflow was changed meanwhile.
const startTries = 5

// begin answers the definition of a workflow as it is now, and the plan of the runs that begin with it; both are kept for them. An unknown workflow is
// ErrWorkflow.
func (r *Runs) begin(ctx context.Context, tenant, workflow string) (*catalog.Version, *engine.Plan, error) {
	for range startTries {
		v, err := r.Catalog.Current(ctx, tenant, workflow)
		switch {
		case err != nil:
			return nil, nil, err
		case v == nil:
			return nil, nil, ErrWorkflow
		}
		plan, err := r.keep(ctx, tenant, v)
		if !errors.Is(err, errOvertaken) {
			return v, plan, err
		}
	}
	return nil, nil, errChanging
}

// keep makes sure that a definition, and the registered schemas that it names, are there for as long as there are runs of it. The schemas are those of
// the definition's own time: one that was changed while they were read, as by an upgrade of its pack, is errOvertaken.
func (r *Runs) keep(ctx context.Context, tenant string, v *catalog.Version) (*engine.Plan, error) {
	kept, named := catalog.Kept{Version: v}, registry.Set{}
	if ids := v.SchemaIDs(); len(ids) > 0 {
		var err error
		if named, err = r.Schemas.Named(ctx, tenant, ids); err != nil {
			return nil, err
		}
		now, err := r.Catalog.Current(ctx, tenant, v.ID)
		switch {
		case err != nil:
			return nil, err
		case now == nil || now.Hash != v.Hash:
			return nil, errOvertaken
		}
		if err := r.Schemas.Keep(ctx, tenant, named); err != nil {
			return nil, err
		}
		kept.Schemas = named.Hashes
	}
	plan, err := r.planned(tenant, v, named.Hashes, func() (registry.Set, error) { return named, nil })
	if err != nil {
		return nil, err
	}
	return plan, r.Catalog.Keep(ctx, kept, plan.Fingerprint)
}

// create stores a new run with its first steps, sends what is to be sent, and gets it on. records are those that it begins with. limited says that it
// is refused where its tenant has as many as it may. It answers the id of the run, or of the one that its key has started meanwhile.
func (r *Runs) create(
	ctx context.Context, plan *engine.Plan, run *engine.Run, records []*engine.Record, limited bool, entry store.Op, now time.Time,
) (string, error) {
	st := &state{plan: plan, src: newLoaded(), head: &header{Run: run}}
	for _, rec := range records {
		st.src.records[rec.ID] = rec
	}
	var res *engine.Result
	for {
		var err error
		res, err = engine.Advance(plan, run, st.src, []engine.Event{engine.Start{}}, now)
		missing, some := errors.AsType[*engine.Missing](err)
		if !some {
			if err != nil {
				return "", err
			}
			break
		}
		for _, id := range missing.Records {
			st.src.records[id] = nil
		}
		if len(missing.Refs) > 0 {
			return "", missing // what a new run begins with is inline
		}
	}
	limit := r.limit(ctx, run)
	next := &header{Run: res.Run, counted: limit > 0 && !res.Run.Status.Terminal()}
	next.due = next.next(now, res.More)
	prepared, err := r.prepare(ctx, next, records, res, now)
	if err != nil {
		return "", err
	}
	ops, values, err := r.ops(ctx, next, res, store.NotExists())
	if err != nil {
		return "", err
	}
	if ops = append(ops, entry); prepared {
		ops = append(ops, store.Delete(inbox.Key(run.ID, preparing)))
	}
	onceAt, countAt := -1, -1
	if run.IdempotencyKey != "" {
		onceAt = len(ops)
		ops = append(ops, r.onceOp(run, now))
	}
	if !limited {
		limit = math.MaxInt64
	}
	room := store.Any(store.NotExists(), store.Less(attrCount, limit))
	switch {
	case next.counted:
		countAt = len(ops)
		ops = append(ops, store.Update(counterKey(run.OrgID)).AddInt(attrCount, 1).If(room))
	case limited && limit > 0: // it has ended at once and takes no place, and yet it began
		countAt = len(ops)
		ops = append(ops, store.Check(counterKey(run.OrgID), room))
	}
	err = r.write(ctx, next, ops)
	failed, refused := errors.AsType[*store.ConditionError](err)
	switch {
	case refused && failed.Op == onceAt:
		return failed.Old.Attrs.String(attrStarted), nil
	case refused && failed.Op == countAt:
		return "", fault.New(fault.Limited, "max concurrent workflow runs exceeded").With("current", failed.Old.Attrs.Int(attrCount)).With("limit", limit)
	case errors.Is(err, errOvertaken): // the child run of a step that was started before
		return run.ID, nil
	case err != nil:
		return "", err
	}
	for _, rec := range res.Records {
		st.src.records[rec.ID] = rec
	}
	for _, v := range values {
		st.src.values[v.ref] = v.tree
	}
	st.head = next
	r.started(ctx, st, res)
	return run.ID, nil
}

// preparing marks a run whose parts are stored before its header.
var preparing = inbox.Event{Kind: inbox.Preparing}

// prepareFor is how long the parts of a run that does not come to be may lie.
const prepareFor = 15 * time.Minute

// prepare stores what a new run begins with, and says whether there is anything. What is left of one that does not come to be is removed later.
func (r *Runs) prepare(ctx context.Context, h *header, records []*engine.Record, res *engine.Result, now time.Time) (bool, error) {
	if len(records) == 0 && !large(h, res) {
		return false, nil
	}
	if err := store.Transact(ctx, r.Table, inbox.PutUntil(h.ID, preparing, now.Add(prepareFor))); err != nil {
		return false, err
	}
	return true, r.putRecords(ctx, h, records)
}

// putRecords stores records of a run that is not there yet.
func (r *Runs) putRecords(ctx context.Context, h *header, records []*engine.Record) error {
	var ops []store.Op
	for _, rec := range records {
		values, err := apart(rec, rec.Values(), recordBytes)
		if err != nil {
			return err
		}
		if err := r.putValues(ctx, h.ID, values); err != nil {
			return err
		}
		it, err := recordItem(h, rec)
		if err != nil {
			return err
		}
		if ops = append(ops, store.Put(it)); len(ops) == purgeAtOnce {
			if err := store.Transact(ctx, r.Table, ops...); err != nil {
				return err
			}
			ops = nil
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return store.Transact(ctx, r.Table, ops...)
}

// large says that a commit will put values apart.
func large(h *header, res *engine.Result) bool {
	text, err := json.Marshal(h.Run)
	if err != nil || len(text) > headerBytes {
		return true
	}
	for _, rec := range res.Records {
		if text, err = json.Marshal(rec); err != nil || len(text) > recordBytes {
			return true
		}
	}
	return false
}

// onceOp makes a key stand for a run, unless it stands for another.
func (*Runs) onceOp(run *engine.Run, now time.Time) store.Op {
	until := now.Add(OnceFor).Unix()
	return store.Put(store.Item{
		Key: onceKey(run.OrgID, run.IdempotencyKey), Attrs: store.Attrs{attrStarted: run.ID, attrUntil: until}, Expires: until,
	}).If(store.Any(store.NotExists(), store.Less(attrUntil, now.Unix()+1)))
}

// started sends what a new run begins with, and gets it on. The run is there whatever comes of that.
func (r *Runs) started(ctx context.Context, st *state, res *engine.Result) {
	r.tell(ctx, st.head, res)
	d := &driver{Runs: r, run: st.head.ID, wish: &wish{granted: true}, st: st, most: newsAtOnce, look: res.More}
	d.sent, d.failed, d.crowded = r.send(ctx, st, res.Effects)
	if _, err := d.on(ctx); err != nil {
		r.Jobs.Log.WarnContext(ctx, "run is started and goes on later", "run", st.head.ID, "error", err)
		r.wake(ctx, st.head.ID, "")
	}
}

// startChild starts the run of a subworkflow, once, with the credential of the one above it: its id says which it is. One that cannot be started has
// failed, and the step hears of it.
func (r *Runs) startChild(ctx context.Context, s *engine.StartRun, with string) error {
	why := func(text string) error {
		return r.post(ctx, s.Parent.RunID, inbox.Event{Kind: inbox.ChildEnded, Child: s.RunID, Record: s.Parent.StepID, Status: string(engine.Failed), Error: text})
	}
	v, plan, err := r.begin(ctx, s.OrgID, s.WorkflowID)
	switch {
	case errors.Is(err, ErrWorkflow):
		return why(ErrWorkflow.Error())
	case err != nil:
		return err
	}
	input, _ := s.Input.(map[string]any)
	if input == nil {
		input = map[string]any{}
	}
	if err := CheckInput(v, input); err != nil {
		return why(err.Error())
	}
	now := r.now()
	given := engine.Run{
		ID: s.RunID, OrgID: s.OrgID, TeamID: s.TeamID, Input: engine.Value{Inline: input}, TriggeredBy: s.TriggeredBy, DryRun: s.DryRun, Labels: s.Labels,
		Parent: &s.Parent, CallStack: s.CallStack, StartedWith: with,
	}
	by := identity.Identity{Tenant: s.OrgID, Principal: s.TriggeredBy}
	entry := audit.By(by, now.UnixMicro(), "start", "run", s.RunID)
	entry.ResourceName, entry.Message, entry.After = s.WorkflowID, "subworkflow of run "+s.Parent.RunID, v.Hash
	_, err = r.create(ctx, plan, engine.NewRun(plan, given, now), nil, false, entry.Op(), now)
	return err
}

// Rerun is a repetition of a run as a client asks for it.
type Rerun struct {
	Run string
	// FromStep is where it begins, "" for the beginning: what that step depends on is taken over.
	FromStep string
	DryRun   bool
}

// Rerun starts a run that repeats another, by the definition as it is now, and answers its id.
//
// Faults: NotFound, Invalid, Limited as for Start.
func (r *Runs) Rerun(ctx context.Context, id identity.Identity, again Rerun) (string, error) {
	old, err := r.find(ctx, id.Tenant, again.Run)
	if err != nil {
		return "", err
	}
	_, plan, err := r.begin(ctx, id.Tenant, old.WorkflowID)
	if err != nil {
		return "", err
	}
	before, err := r.plan(ctx, old)
	if err != nil {
		return "", err
	}
	now := r.now()
	run, records, err := r.repeated(ctx, plan, before, old, again, now)
	if err != nil {
		return "", err
	}
	run.StartedWith = id.KeyID
	entry := r.entry(id, "rerun", old)
	entry.After = run.ID
	return r.create(ctx, plan, run, records, true, entry.Op(), now)
}

// repeated makes the new run, with all values of its records inline.
func (r *Runs) repeated(
	ctx context.Context, plan, before *engine.Plan, old *header, again Rerun, now time.Time,
) (run *engine.Run, records []*engine.Record, err error) {
	src := newLoaded()
	id := r.Jobs.IDs.UUID()
	err = r.filled(ctx, old.ID, src, func() (err error) {
		run, records, err = engine.Rerun(plan, before, old.Run, src, id, again.FromStep, again.DryRun, now)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var refs []string
	for _, rec := range records {
		for _, v := range rec.Values() {
			if _, known := src.values[v.Ref]; v.Ref != "" && !known {
				refs = append(refs, v.Ref)
			}
		}
	}
	if err := r.load(ctx, old.ID, src, nil, sorted(refs)); err != nil {
		return nil, nil, err
	}
	for _, rec := range records {
		for _, v := range rec.Values() {
			if v.Ref != "" {
				*v = engine.Value{Inline: src.values[v.Ref]}
			}
		}
	}
	return run, records, nil
}

// limit is how many live runs the run's tenant may have; 0 is any number, also where it is not known.
func (r *Runs) limit(ctx context.Context, run *engine.Run) int64 {
	head, err := r.Jobs.Policy.Current(ctx)
	if err == nil {
		var e *config.Effective
		if e, err = r.Jobs.Config.At(ctx, head.Revision, config.Subject{Tenant: run.OrgID, Team: run.TeamID}); err == nil {
			return limitOf(e.Data)
		}
	}
	r.Jobs.Log.WarnContext(ctx, "no configuration: the run is not limited", "run", run.ID, "error", err)
	return 0
}

// limitOf reads limits.max_concurrent_runs, else rate_limits.concurrent_workflows: numbers, or texts of numbers; anything else says nothing.
func limitOf(data json.RawMessage) int64 {
	var doc struct {
		Limits struct {
			Runs any `json:"max_concurrent_runs"`
		} `json:"limits"`
		Rates struct {
			Workflows any `json:"concurrent_workflows"`
		} `json:"rate_limits"`
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil {
		return 0
	}
	_ = json.Unmarshal(members["limits"], &doc.Limits)     // another shape is no limit
	_ = json.Unmarshal(members["rate_limits"], &doc.Rates) // likewise
	if n := whole(doc.Limits.Runs); n > 0 {
		return n
	}
	return whole(doc.Rates.Workflows)
}

func whole(v any) int64 {
	switch v := v.(type) {
	case float64:
		if v >= 1 && v < 1<<40 {
			return int64(v)
		}
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return whole(f)
		}
	}
	return 0
}
