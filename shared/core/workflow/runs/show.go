package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// View is a run as readers see it.
type View struct {
	*engine.Run

	// Input is the run's, Context what its steps have left, nil before the first.
	Input   any
	Context map[string]any
	// Steps are those that were reached, and their children, by their ids. The values of what is shown are inline; those that Omitted counts were
	// left out, since an answer has its bounds.
	Steps   map[string]*engine.Record
	Omitted int
	// Timers are delays that are being waited for.
	Timers []Timer
}

// Timer is a delay that is being waited for.
type Timer struct {
	FiresAt   time.Time
	Remaining time.Duration
}

// viewBytes is how much of values that are kept apart one answer has. A function answers 6 MB at most, after what it answers was quoted once more.
const viewBytes = 2 << 20

// Get answers a tenant's run with all that it has.
func (r *Runs) Get(ctx context.Context, tenant, id string) (*View, error) {
	h, err := r.find(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	plan, err := r.plan(ctx, h)
	if err != nil {
		return nil, err
	}
	records, err := r.records(ctx, id)
	if err != nil {
		return nil, err
	}
	steps := shown(plan, h.Run, records)
	var values []*engine.Value
	head := *h.Run
	values = append(values, &head.Input)
	roots := map[string]*engine.Record{}
	for id, rec := range records {
		if name, root := strings.CutPrefix(id, "$"); root {
			roots[name] = rec
			values = append(values, &rec.Output)
		}
	}
	for _, rec := range steps {
		values = append(values, &rec.Output)
	}
	for _, rec := range steps {
		values = append(values, &rec.Input, &rec.Item)
	}
	omitted, err := r.resolve(ctx, id, values)
	if err != nil {
		return nil, err
	}
	v := &View{Run: h.Run, Input: head.Input.Inline, Steps: steps, Omitted: omitted, Context: contextOf(steps, roots)}
	now := r.Jobs.Clock.Now()
	for _, rec := range steps {
		if rec.Status == engine.Running && !rec.Due.IsZero() {
			v.Timers = append(v.Timers, Timer{rec.Due, max(rec.Due.Sub(now), 0)})
		}
	}
	slices.SortFunc(v.Timers, func(a, b Timer) int { return a.FiresAt.Compare(b.FiresAt) })
	return v, nil
}

// records reads all records of a run.
func (r *Runs) records(ctx context.Context, run string) (map[string]*engine.Record, error) {
	records := map[string]*engine.Record{}
	for it, err := range store.Items(ctx, r.Table, inbox.Records(run)) {
		if err != nil {
			return nil, err
		}
		rec, err := parseRecord(it)
		if err != nil {
			return nil, err
		}
		records[rec.ID] = rec
	}
	return records, nil
}

// shown are the steps that were reached, with their children.
func shown(plan *engine.Plan, run *engine.Run, records map[string]*engine.Record) map[string]*engine.Record {
	steps := map[string]*engine.Record{}
	for _, id := range plan.Steps() {
		rec := records[id]
		s := engine.Show(plan, run, id, rec, nil)
		if s == nil {
			continue
		}
		steps[id] = s
		for _, child := range children(rec) {
			if c := engine.Show(plan, run, child, records[child], rec); c != nil {
				steps[child] = c
			}
		}
	}
	return steps
}

// children are the ids of a record's children.
func children(rec *engine.Record) []string {
	n := 0
	switch {
	case rec == nil:
	case rec.Fan != nil:
		n = rec.Fan.Count
	case rec.Loop != nil:
		n = rec.Loop.Index + 1
	}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = engine.ChildID(rec.ID, i)
	}
	return ids
}

// contextOf is the context of a run: what its steps have recorded, and its other roots; nil for nothing.
func contextOf(steps, roots map[string]*engine.Record) map[string]any {
	left := map[string]any{}
	for id, rec := range steps {
		if !rec.Recorded {
			continue
		}
		entry := map[string]any{}
		if rec.ResultPtr != "" {
			entry["result_ptr"] = rec.ResultPtr
		}
		if rec.HasOutput && rec.Output.Ref == "" {
			entry["output"] = rec.Output.Inline
		}
		left[id] = entry
	}
	if len(left) == 0 && len(roots) == 0 {
		return nil
	}
	made := map[string]any{"steps": left}
	for name, rec := range roots {
		if rec.Output.Ref == "" {
			made[name] = rec.Output.Inline
		}
	}
	return made
}

// resolve makes values inline that are kept apart, the first ones first, as many as an answer has room for, and answers how many were left out.
func (r *Runs) resolve(ctx context.Context, run string, values []*engine.Value) (omitted int, err error) {
	var refs []string
	for _, v := range values {
		if v.Ref != "" && !slices.Contains(refs, v.Ref) {
			refs = append(refs, v.Ref)
		}
	}
	if len(refs) == 0 {
		return 0, nil
	}
	keys := make([]store.Key, len(refs))
	for i, ref := range refs {
		keys[i] = valueKey(run, ref)
	}
	items, err := r.Table.BatchGet(ctx, keys)
	if err != nil {
		return 0, err
	}
	room := int64(viewBytes)
	known := map[string]any{}
	for _, it := range items {
		n := it.Attrs.Int(attrBytes)
		if n > room {
			continue
		}
		room -= n
		if known[it.SK[len(valuePrefix):]], err = r.value(ctx, run, it); err != nil {
			return 0, err
		}
	}
	for _, v := range values {
		if v.Ref == "" {
			continue
		}
		if tree, ok := known[v.Ref]; ok {
			*v = engine.Value{Inline: tree}
		} else {
			omitted++
		}
	}
	return omitted, nil
}

// left is the input and the context of a run that has ended, whole.
func (r *Runs) left(ctx context.Context, h *header) (input, left any, err error) {
	plan, err := r.plan(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	records, err := r.records(ctx, h.ID)
	if err != nil {
		return nil, nil, err
	}
	steps, roots := shown(plan, h.Run, records), map[string]*engine.Record{}
	head := *h.Run
	values := []*engine.Value{&head.Input}
	for id, rec := range records {
		if name, root := strings.CutPrefix(id, "$"); root {
			roots[name] = rec
			values = append(values, &rec.Output)
		}
	}
	for _, rec := range steps {
		values = append(values, &rec.Output)
	}
	src := newLoaded()
	var refs []string
	for _, v := range values {
		if v.Ref != "" {
			refs = append(refs, v.Ref)
		}
	}
	if err := r.load(ctx, h.ID, src, nil, sorted(refs)); err != nil {
		return nil, nil, err
	}
	for _, v := range values {
		if v.Ref != "" {
			*v = engine.Value{Inline: src.values[v.Ref]}
		}
	}
	made := contextOf(steps, roots)
	if made == nil {
		made = map[string]any{}
	}
	return head.Input.Inline, made, nil
}

// TimelineEntry is something that happened in a run, in the words of the wire.
type TimelineEntry struct {
	Time       string         `json:"time"`
	Type       string         `json:"type"`
	RunID      string         `json:"run_id,omitempty"`
	WorkflowID string         `json:"workflow_id,omitempty"`
	StepID     string         `json:"step_id,omitempty"`
	JobID      string         `json:"job_id,omitempty"`
	Status     string         `json:"status,omitempty"`
	ResultPtr  string         `json:"result_ptr,omitempty"`
	Message    string         `json:"message,omitempty"`
	Data       map[string]any `json:"data,omitempty"`
}

// told are entries as readers see them.
func told(run *engine.Run, entries []engine.Entry) []TimelineEntry {
	out := make([]TimelineEntry, len(entries))
	for i, e := range entries {
		out[i] = TimelineEntry{
			e.Time.UTC().Format(time.RFC3339Nano), e.Type, run.ID, run.WorkflowID, e.StepID, e.JobID, string(e.Status), e.ResultPtr, e.Message, e.Data,
		}
	}
	return out
}

// TimelineLength is how many events of a run are shown, the newest.
const TimelineLength = 1000

// Timeline answers the oldest limit of the newest TimelineLength events of a tenant's run, oldest first.
func (r *Runs) Timeline(ctx context.Context, tenant, id string, limit int) ([]TimelineEntry, error) {
	h, err := r.find(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	var newest []TimelineEntry // newest first
	q := store.Query{PK: inbox.Partition(id), Prefix: timelinePrefix, Desc: true}
	for it, err := range store.Items(ctx, r.Table, q) {
		if err != nil {
			return nil, err
		}
		var some []TimelineEntry
		if err := json.Unmarshal(it.Attrs.Bytes(attrEntries), &some); err != nil {
			return nil, fmt.Errorf("timeline %s: %w", it.Key, err)
		}
		slices.Reverse(some)
		if newest = append(newest, some...); len(newest) >= TimelineLength {
			break
		}
	}
	newest = newest[:min(len(newest), TimelineLength)]
	slices.Reverse(newest)
	for i := range newest {
		newest[i].RunID, newest[i].WorkflowID = h.ID, h.WorkflowID
	}
	return newest[:min(len(newest), limit)], nil
}
