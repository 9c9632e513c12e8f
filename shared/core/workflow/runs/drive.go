package runs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// How much one pass takes in, how many passes one invocation makes, and how often it begins again since others were first.
const (
	newsAtOnce = 10
	mostPasses = 40
	mostLosses = 30
	// hurry is how long before the end of an invocation no other pass begins.
	hurry = 3 * time.Second
)

// wish is what somebody who waits for the answer wants of a run.
type wish struct {
	// event is applied once; part is written with it, if it changes something.
	event engine.Event
	part  part
	// resend sends what is outstanding again, however fresh it is.
	resend bool

	// granted says that it was applied; otherwise refused is why not.
	granted bool
	refused string
}

// driver gets one run on.
type driver struct {
	*Runs

	run    string
	timers []string
	wish   *wish
	st     *state
	// sent are effects to be confirmed; failed are jobs that can never be submitted.
	sent   []string
	failed []engine.JobResult
	// crowded says that a job was not sent because its tenant's queue was full.
	crowded bool
	// look says that a pass may find something to do without events, resend that what is outstanding is to be sent again; most is how many news a
	// pass takes in.
	look, resend bool
	most         int
}

// drive gets a run on until nothing is left to do now, or for as many passes as an invocation should make: then it is woken again. timers are records
// whose time may have come. It answers the run as it is then, nil for one that does not exist.
func (r *Runs) drive(ctx context.Context, run string, timers []string, w *wish) (*header, error) {
	d := &driver{Runs: r, run: run, timers: timers, wish: w, most: newsAtOnce}
	if w == nil {
		d.wish = &wish{granted: true}
	}
	return d.on(ctx)
}

// on makes passes.
func (d *driver) on(ctx context.Context) (*header, error) {
	losses := 0
	for range mostPasses {
		if end, ok := ctx.Deadline(); ok && time.Until(end) < hurry {
			break
		}
		if d.st == nil {
			if err := d.begin(ctx); err != nil || d.st.head == nil {
				return nil, err
			}
		}
		did, err := d.pass(ctx)
		switch {
		case errors.Is(err, errOvertaken):
			if losses++; losses >= mostLosses {
				return d.leave(ctx)
			}
			d.st = nil
		case errors.Is(err, errTooMuch) && d.most > 1:
			d.most /= 2
		case err != nil:
			return nil, err
		case !did && d.st.full:
			d.st = nil
		case !did:
			d.hasten(ctx)
			return d.st.head, d.settle(ctx)
		}
	}
	return d.leave(ctx)
}

// hasten has a run looked at sooner whose jobs wait for a place in their tenant's queue: after crowdedFor, and then, while nothing else happens to it,
// after times that double up to patience. The time stands in the header, so that there is one however many look.
func (d *driver) hasten(ctx context.Context) {
	h := d.st.head
	if !d.crowded || len(h.Outbox) == 0 {
		return
	}
	now := d.now()
	at := now.Add(min(max(now.Sub(h.UpdatedAt), crowdedFor), patience))
	if h.due <= at.UnixMicro() {
		return
	}
	if err := d.commit(ctx, d.st, &engine.Result{Run: h.Run}, part{due: at.UnixMicro()}, now); err != nil { // somebody else has the run, or it waits for its time
		d.Jobs.Log.InfoContext(ctx, "run whose jobs have no place is not looked at sooner", "run", d.run, "error", err)
		return
	}
	d.Jobs.WakeRun(ctx, d.run, "", at)
}

// leave has somebody else go on with the run. It is busy for who still wants something of it; what was granted stands.
func (d *driver) leave(ctx context.Context) (*header, error) {
	d.wake(ctx, d.run, "")
	if !d.wish.granted && d.wish.refused == "" {
		return nil, errBusy
	}
	st, err := d.read(ctx, d.run)
	if err != nil {
		return nil, err
	}
	return st.head, nil
}

// begin reads the run.
func (d *driver) begin(ctx context.Context) error {
	st, err := d.read(ctx, d.run)
	if err != nil {
		return err
	}
	d.st = st
	if st.head == nil {
		return d.orphaned(ctx, d.run, st.news)
	}
	d.look = d.wish.resend || st.head.due != 0 && d.now().UnixMicro() >= st.head.due
	d.resend = d.look && len(st.head.Outbox) > 0
	return nil
}

// batch is what a pass takes in.
type batch struct {
	events []engine.Event
	part   part
	// wish is the position of the wish among the events, -1 for none.
	wish int
}

// pass takes in what there is; false says that there was nothing to do.
func (d *driver) pass(ctx context.Context) (bool, error) {
	now := d.now()
	b, err := d.gather(ctx)
	if err != nil || len(b.events) == 0 && len(b.part.taken) == 0 && !d.look {
		return false, err
	}
	res, err := d.advance(ctx, d.st, b.events, now)
	if err != nil {
		return false, err
	}
	if b.wish >= 0 {
		at := slices.IndexFunc(res.Ignored, func(i engine.Ignored) bool { return i.Event == b.wish })
		if at >= 0 {
			d.wish.refused = res.Ignored[at].Why
		} else {
			b.part.ops, b.part.remove = d.wish.part.ops, d.wish.part.remove
		}
	}
	if err := d.commit(ctx, d.st, res, b.part, now); err != nil {
		return false, err
	}
	d.wish.granted = d.wish.granted || b.wish >= 0 && d.wish.refused == ""
	d.st.news = d.st.news[len(b.part.taken):]
	d.timers, d.sent, d.failed, d.look, d.resend = nil, nil, nil, res.More, false
	d.tell(ctx, d.st.head, res)
	var crowded bool
	d.sent, d.failed, crowded = d.send(ctx, d.st, res.Effects)
	d.crowded = d.crowded || crowded
	return true, nil
}

// gather makes the events of a pass.
func (d *driver) gather(ctx context.Context) (batch, error) {
	b := batch{wish: -1}
	if len(d.sent) > 0 {
		b.events = append(b.events, engine.Sent{IDs: d.sent})
	}
	if d.resend {
		b.events = append(b.events, engine.Resend{})
	}
	plain := len(b.events)
	for _, e := range d.failed {
		b.events = append(b.events, e)
	}
	for _, record := range d.timers {
		b.events = append(b.events, engine.Timer{Record: record})
	}
	if d.wish.event != nil && !d.wish.granted && d.wish.refused == "" {
		b.wish = len(b.events)
		b.events = append(b.events, d.wish.event)
	}
	some := d.st.news[:min(len(d.st.news), d.most)]
	events, err := d.happened(ctx, d.st, some)
	if err != nil {
		return b, err
	}
	b.events = append(b.events, events...)
	for _, n := range some {
		b.part.taken = append(b.part.taken, n.key)
	}
	if len(b.events) == plain || d.st.head.Status.Terminal() {
		return b, nil
	}
	there, err := d.Catalog.Exists(ctx, d.st.head.OrgID, d.st.head.WorkflowID)
	if err == nil && !there {
		b.events = append(b.events, engine.Deleted{})
	}
	return b, err
}

// happened makes events of news, one of each at most.
func (d *driver) happened(ctx context.Context, st *state, some []news) ([]engine.Event, error) {
	ended, err := d.results(ctx, st, some)
	if err != nil {
		return nil, err
	}
	var events []engine.Event
	for _, n := range some {
		switch e := n.event; e.Kind {
		case inbox.JobEnded:
			events = append(events, ended[e.Job])
		case inbox.GateDecided:
			events = append(events, engine.Approval{JobID: e.Job, Approved: e.Approved, By: e.By, Reason: e.Reason, Note: e.Note})
		case inbox.Cancelled:
			events = append(events, engine.Cancel{By: e.By})
		case inbox.ChildEnded:
			event, err := d.childEnded(ctx, st, e)
			if err != nil {
				return nil, err
			}
			events = append(events, event)
		case inbox.Preparing:
		}
	}
	return events, nil
}

// results answers the ends of the jobs that news speak of.
func (r *Runs) results(ctx context.Context, st *state, some []news) (map[string]engine.JobResult, error) {
	var ids []string
	for _, n := range some {
		if n.event.Kind == inbox.JobEnded {
			ids = append(ids, n.event.Job)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	now := r.Jobs.Clock.Now()
	records, err := r.Jobs.Jobs.Heads(ctx, ids, now)
	if err != nil {
		return nil, err
	}
	ended := make(map[string]engine.JobResult, len(ids))
	for _, id := range ids { // for a job that is not kept any more
		ended[id] = engine.JobResult{JobID: id, Status: engine.JobFailed, Error: "the job is not known any more"}
	}
	for _, j := range records {
		e := engine.JobResult{JobID: j.ID, Status: engine.JobStatus(j.State), ResultPtr: j.ResultPtr, Error: j.ErrorMessage}
		if j.State == job.Succeeded && !st.head.Status.Terminal() && j.ResultPtr == job.ResultPointer(j.ID) {
			if e.Result, err = r.Jobs.Jobs.Result(ctx, j, now); err != nil {
				return nil, err
			}
		}
		ended[j.ID] = e
	}
	return ended, nil
}

// childEnded is the end of a child run as the step hears of it.
func (r *Runs) childEnded(ctx context.Context, st *state, e inbox.Event) (engine.Event, error) {
	ended := engine.ChildEnded{Record: e.Record, RunID: e.Child, Status: engine.Status(e.Status), Error: e.Error}
	if e.Status != "" {
		return ended, nil
	}
	h, err := r.find(ctx, st.head.OrgID, e.Child)
	if fault.Is(err, fault.NotFound) {
		ended.Status, ended.Error = engine.Failed, "the child run was deleted"
		return ended, nil
	}
	if err != nil {
		return nil, err
	}
	ended.Status, ended.Error = h.Status, h.Error
	switch {
	case st.head.Status.Terminal(): // nobody looks at it
	case h.Status == engine.Succeeded:
		ended.Input, ended.Context, err = r.left(ctx, h)
	case h.Status != engine.Cancelled && h.Error == "":
		ended.Error, err = r.why(ctx, h)
	}
	return ended, err
}

// why is what the step says that a run has not succeeded for: the run itself says only what went wrong with it as a whole.
func (r *Runs) why(ctx context.Context, h *header) (string, error) {
	plan, err := r.plan(ctx, h)
	if err != nil {
		return "", err
	}
	src := newLoaded()
	if err := r.load(ctx, h.ID, src, engine.Blamed(plan, h.Run), nil); err != nil {
		return "", err
	}
	var blamed []*engine.Record
	for _, id := range sorted(slices.Collect(maps.Keys(src.records))) {
		if rec := src.records[id]; rec != nil {
			blamed = append(blamed, rec)
		}
	}
	return engine.Why(blamed), nil
}

// orphaned removes what lies in the partition of a run that does not exist, unless it is being made.
func (r *Runs) orphaned(ctx context.Context, run string, some []news) error {
	now := r.Jobs.Clock.Now()
	if slices.ContainsFunc(some, func(n news) bool { return n.event.Kind == inbox.Preparing && now.Before(n.due) }) {
		return nil
	}
	if len(some) == 0 {
		return nil
	}
	return r.purge(ctx, run)
}

// settle removes a run that is to be removed, when nothing of it is left to be done, with its chat where that lies in a memory of its own.
func (d *driver) settle(ctx context.Context) error {
	h := d.st.head
	if !h.settled() || !h.deleted && !h.over(d.Jobs.Clock.Now()) {
		return nil
	}
	if h.MemoryID == engine.OwnMemory(h.ID) {
		if err := d.Memory.Forget(ctx, h.OrgID, h.MemoryID); err != nil {
			return err
		}
	}
	return d.purge(ctx, h.ID)
}

// purgeAtOnce is how many items are removed in one write.
const purgeAtOnce = 50

// purge removes everything of a run, the header last, so that who is interrupted is followed by another.
func (r *Runs) purge(ctx context.Context, run string) error {
	for page, err := range store.Pages(ctx, r.Table, store.Query{PK: inbox.Partition(run)}) {
		if err != nil {
			return err
		}
		for some := range slices.Chunk(page, purgeAtOnce) {
			if err := r.purgeItems(ctx, run, some); err != nil {
				return err
			}
		}
	}
	return store.Transact(ctx, r.Table, store.Delete(inbox.Header(run)))
}

// purgeItems removes items of a run, and the objects that they name; its header stays.
func (r *Runs) purgeItems(ctx context.Context, run string, some []store.Item) error {
	var ops []store.Op
	for _, it := range some {
		if inbox.IsHeader(it) {
			continue
		}
		if isValue(it) && it.Attrs.Bytes(attrText) == nil {
			if err := r.Blobs.Delete(ctx, object(run, it.SK[len(valuePrefix):])); err != nil {
				return err
			}
		}
		ops = append(ops, store.Delete(it.Key))
	}
	if len(ops) == 0 {
		return nil
	}
	return store.Transact(ctx, r.Table, ops...)
}

// Woken gets a run on, for messages of the runs queue. An error means that they must come again.
func (r *Runs) Woken(ctx context.Context, run string, timers []string) error {
	_, err := r.drive(ctx, run, sorted(timers), nil)
	return err
}

// wake has a run looked at now. That it is not sent costs time, nothing else.
func (r *Runs) wake(ctx context.Context, run, timer string) {
	r.Jobs.WakeRun(ctx, run, timer, time.Time{})
}
