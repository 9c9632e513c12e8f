package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// flow is a workflow that every tenant has. after says of a step which others must have ended before it begins.
type flow struct {
	id, steps, input string
	after            map[string][]string
}

var flows = []flow{
	{
		"chain", `{"a":{"topic":"job.work","retry":{"max_retries":2,"initial_backoff_sec":2}},"b":{"topic":"job.once","depends_on":["a"],"on_error":"h"},
			"c":{"topic":"job.work","depends_on":["b"]},"h":{"topic":"job.work"}}`, `{}`,
		map[string][]string{"b": {"a"}, "c": {"b"}},
	},
	{
		"fan", `{"each":{"topic":"job.work","for_each":"input.of","max_parallel":2},"join":{"topic":"job.few","depends_on":["each"]}}`, `{"of":[1,2,3]}`,
		map[string][]string{"join": {"each[0]", "each[1]", "each[2]"}},
	},
	{
		"gate", `{"before":{"topic":"job.work"},"ok":{"type":"approval","depends_on":["before"]},"after":{"topic":"job.work","depends_on":["ok"]}}`, `{}`,
		map[string][]string{"ok": {"before"}, "after": {"ok"}},
	},
	{
		"mix", `{"wait":{"type":"delay","delay_sec":20},"any":{"type":"parallel","input":{"steps":["x","y"],"strategy":"any"}},
			"x":{"topic":"job.work"},"y":{"topic":"job.ask"},"last":{"topic":"job.work","depends_on":["wait","any"],"timeout_sec":30}}`, `{}`,
		map[string][]string{"last": {"wait"}},
	},
	{
		"nest", `{"sub":{"type":"subworkflow","input":{"workflow_id":"gate"}},"then":{"topic":"job.work","depends_on":["sub"]}}`, `{}`,
		map[string][]string{"then": {"sub"}},
	},
	{"rush", `{"a":{"topic":"job.work"},"b":{"topic":"job.no"},"c":{"type":"loop","topic":"job.work","input":{"max_iterations":3}}}`, `{}`, nil},
}

// drawn is how many workflows of a world are drawn, beside those above.
const drawn = 4

// drawFlow makes a workflow of up to seven steps of any kind, each after some of those before it.
func (w *world) drawFlow(id string) flow {
	f := flow{id: id, input: `{"of":[1,2]}`, after: map[string][]string{}}
	steps := map[string]any{}
	ends := map[string][]string{} // what has ended when a step has
	var names []string
	for i := range 2 + w.draw(6) {
		name := string(rune('a' + i))
		s := map[string]any{"topic": topics[w.draw(4)]}
		ends[name] = []string{name}
		switch w.draw(9) {
		case 0, 1:
			s = map[string]any{"type": "approval"}
		case 2:
			s = map[string]any{"type": "transform", "input": map[string]any{"n": i}}
		case 3:
			s = map[string]any{"type": "delay", "delay_sec": 1 + w.draw(30)}
		case 4:
			s["for_each"], s["max_parallel"] = "input.of", w.draw(3)
			ends[name] = []string{name + "[0]", name + "[1]"}
		case 5:
			s["retry"] = map[string]any{"max_retries": 2, "initial_backoff_sec": 1 + w.draw(5)}
		}
		var deps []string
		for _, before := range names {
			if w.draw(3) == 0 {
				deps = append(deps, before)
				for _, child := range []string{name, name + "[0]", name + "[1]"} {
					f.after[child] = append(f.after[child], ends[before]...)
				}
			}
		}
		s["depends_on"] = deps
		steps[name] = s
		names = append(names, name)
	}
	text, err := json.Marshal(steps)
	if err != nil {
		panic("sim: " + err.Error()) // it has texts and numbers only
	}
	f.steps = string(text)
	return f
}

// mostRuns is how many live runs a tenant may have.
const mostRuns = 6

// ackedRun is a run that a client knows of.
type ackedRun struct {
	id, tenant, workflow string
	deleted              bool           // by an acknowledged delete
	decided              map[string]int // acknowledged decisions, by gate
}

// prepareRuns saves the workflows, and makes what reads runs without being a process.
func (w *world) prepareRuns() error {
	ctx := context.Background()
	d := dispatch.New(dispatch.Platform{
		Table: w.platform.Table(), Queues: w.platform.Queues(), Blobs: w.platform.Blobs(), Clock: &skew{}, IDs: ids.Source{}, Log: slog.New(slog.DiscardHandler), Shards: 1,
	})
	w.rawRuns = runs.New(d)
	definitions := &catalog.Store{Table: w.platform.Table(), Blobs: w.platform.Blobs(), Clock: &skew{}}
	w.flows = slices.Clone(flows)
	for i := range drawn {
		w.flows = append(w.flows, w.drawFlow(fmt.Sprintf("drawn%d", i)))
	}
	for _, t := range tenants {
		for _, f := range w.flows {
			def, err := workflow.Decode([]byte(`{"id":"` + f.id + `","timeout_sec":1200,"steps":` + f.steps + `}`))
			if err != nil {
				return err
			}
			if _, err := definitions.Save(ctx, identity.Identity{Tenant: t, Role: identity.Admin}, def); err != nil {
				return err
			}
		}
	}
	documents := &config.Store{Table: w.platform.Table(), Blobs: w.platform.Blobs()}
	c, err := documents.Get(ctx, config.SystemScope, config.DefaultID)
	if err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if len(c.Data) > 0 {
		if err := json.Unmarshal(c.Data, &members); err != nil {
			return err
		}
	}
	if members == nil {
		members = map[string]json.RawMessage{}
	}
	members["rate_limits"] = json.RawMessage(fmt.Sprintf(`{"concurrent_workflows":"%d"}`, mostRuns))
	if c.Data, err = json.Marshal(members); err != nil {
		return err
	}
	_, err = documents.Put(ctx, c, time.Now())
	return err
}

// actOnRuns begins something new with runs.
func (w *world) actOnRuns() {
	switch w.draw(8) {
	case 0, 1, 2:
		w.startRun()
	case 3, 4:
		w.approveOne()
	case 5:
		w.onRun("cancel", func(a *ackedRun) (method, path string, body any) {
			return "POST", "/workflows/" + a.workflow + "/runs/" + a.id + "/cancel", nil
		}, nil)
	case 6:
		w.onRun("delete", func(a *ackedRun) (method, path string, body any) { return "DELETE", "/workflow-runs/" + a.id, nil }, func(a *ackedRun) { a.deleted = true })
	case 7:
		if w.draw(2) == 0 {
			w.peekAtRun()
			return
		}
		w.rerunOne()
	}
}

func (w *world) startRun() {
	tenant, f := tenants[w.draw(len(tenants))], w.flows[w.draw(len(w.flows))]
	path, key := "/workflows/"+f.id+"/runs", ""
	times := 1
	if w.draw(3) == 0 {
		key = fmt.Sprintf("r%d", w.draw(4))
		path += "?idempotency_key=" + key
		times += w.draw(2)
	}
	for range times {
		w.trace("start %s of %s", path, tenant)
		w.request(tenant, "k-"+tenant, "POST", path, json.RawMessage(f.input), func(status int, answer []byte) { w.startedRun(tenant, f.id, key, status, answer) })
		w.wait()
	}
}

// startedRun judges the answer to a start, or to a rerun.
func (w *world) startedRun(tenant, of, key string, status int, answer []byte) {
	var r struct {
		RunID string `json:"run_id"`
	}
	if status != 200 || json.Unmarshal(answer, &r) != nil || r.RunID == "" {
		if status < 500 && status != 429 && status != 404 && status != 400 {
			w.violated("start answered %d %s", status, answer)
		}
		return
	}
	w.met("run")
	if run, err := w.rawRuns.Header(context.Background(), tenant, r.RunID); err == nil {
		of = run.WorkflowID // a key that was used before answers with a run of whatever workflow that was
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if key != "" {
		k := "run " + tenant + "/" + key
		if first, there := w.keys[k]; there && first != r.RunID {
			w.violations = append(w.violations, fmt.Sprintf("key %s made runs %s and %s", k, first, r.RunID))
		}
		w.keys[k] = r.RunID
		if w.runs[r.RunID] != nil {
			return
		}
	}
	w.runs[r.RunID] = &ackedRun{id: r.RunID, tenant: tenant, workflow: of, decided: map[string]int{}}
}

// knownRuns lists the runs that clients know of, and that were not deleted.
func (w *world) knownRuns() []*ackedRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*ackedRun
	for _, id := range keysOfMap(w.runs) {
		if !w.runs[id].deleted {
			out = append(out, w.runs[id])
		}
	}
	return out
}

// onRun does something to one of them; done is for an acknowledged one.
func (w *world) onRun(what string, how func(*ackedRun) (method, path string, body any), done func(*ackedRun)) {
	all := w.knownRuns()
	if len(all) == 0 {
		return
	}
	a := all[w.draw(len(all))]
	method, path, body := how(a)
	w.trace("%s run %s", what, a.id)
	w.request(a.tenant, "k-"+a.tenant, method, path, body, func(status int, answer []byte) {
		switch {
		case status == 204:
			w.met("run " + what)
			if done != nil {
				w.mu.Lock()
				done(a)
				w.mu.Unlock()
			}
		case status < 500 && status != 404 && status != 409:
			w.violated("%s of a run answered %d %s", what, status, answer)
		}
	})
}

func (w *world) rerunOne() {
	all := w.knownRuns()
	if len(all) == 0 {
		return
	}
	a := all[w.draw(len(all))]
	body := map[string]any{}
	if a.workflow == "chain" && w.draw(2) == 0 {
		body["from_step"] = "c"
	}
	w.trace("rerun %s %v", a.id, body)
	w.request(a.tenant, "k-"+a.tenant, "POST", "/workflow-runs/"+a.id+"/rerun", body, func(status int, answer []byte) {
		w.startedRun(a.tenant, a.workflow, "", status, answer)
	})
}

// peekAtRun asks for a run of the other tenant: it must not exist.
func (w *world) peekAtRun() {
	all := w.knownRuns()
	if len(all) == 0 {
		return
	}
	a := all[w.draw(len(all))]
	other := tenants[0]
	if a.tenant == other {
		other = tenants[1]
	}
	w.request(other, "k-"+other, "GET", "/workflow-runs/"+a.id, nil, func(status int, answer []byte) {
		if status != 404 && status < 500 {
			w.violated("tenant %s sees run %s of tenant %s: %s", other, a.id, a.tenant, answer)
		}
	})
}

// approveOne decides a gate that waits, through either door, up to twice at once.
func (w *world) approveOne() {
	all := w.knownRuns()
	if len(all) == 0 {
		return
	}
	a := all[w.draw(len(all))]
	gates := w.gates(a)
	if len(gates) == 0 {
		return
	}
	gate := gates[w.draw(len(gates))]
	for range 1 + w.draw(2) {
		approved := w.draw(3) > 0
		w.decide(a, gate, approved, w.draw(2) == 0)
		w.wait()
	}
}

// gates are the steps of a run that wait for a human.
func (w *world) gates(a *ackedRun) []string {
	view, err := w.rawRuns.Get(context.Background(), a.tenant, a.id)
	if err != nil {
		return nil // it is deleted, or not there yet
	}
	var gates []string
	for _, id := range keysOfMap(view.Steps) {
		if view.Steps[id].Status == engine.Waiting {
			gates = append(gates, id)
		}
	}
	return gates
}

func (w *world) decide(a *ackedRun, gate string, approved, byJob bool) {
	path, body := "/workflows/"+a.workflow+"/runs/"+a.id+"/steps/"+gate+"/approve", any(map[string]any{"approved": approved})
	if byJob {
		how := map[bool]string{true: "approve", false: "reject"}[approved]
		path, body = "/approvals/"+url.PathEscape(a.id+":"+gate+"@1")+"/"+how, nil
	}
	w.trace("decide %s:%s %t by its job: %t", a.id, gate, approved, byJob)
	w.request(a.tenant, "k-"+a.tenant, "POST", path, body, func(status int, answer []byte) {
		switch {
		case status == 200 || status == 204:
			w.met("gate decided")
			w.mu.Lock()
			a.decided[gate]++
			w.mu.Unlock()
		case status < 500 && status != 404 && status != 409 && status != 400:
			w.violated("decision on a gate answered %d %s", status, answer)
		}
	})
}

// runsFinished says whether all runs that clients know of have ended; for those that wait for a human it decides.
func (w *world) runsFinished(decide bool) bool {
	done := true
	for _, id := range keysOfMap(w.runs) {
		if w.runs[id].deleted && len(w.partition(id)) > 0 {
			done = false
		}
	}
	for _, a := range w.knownRuns() {
		run, err := w.rawRuns.Header(context.Background(), a.tenant, a.id)
		if err != nil || run.Status.Terminal() && len(run.Outbox) == 0 && len(run.Sweeps) == 0 {
			continue
		}
		if done = false; !decide || run.Status != engine.Waiting {
			continue
		}
		for _, gate := range w.gates(a) {
			w.decide(a, gate, true, false)
			w.flow()
		}
	}
	return done
}

// partition is the first of what is stored of a run.
func (w *world) partition(run string) []store.Item {
	page, err := w.platform.Table().Query(context.Background(), store.Query{PK: inbox.Partition(run)})
	if err != nil {
		w.violated("run %s cannot be read: %v", run, err)
	}
	return page.Items
}

// judgeRuns looks at what is left of runs.
func (w *world) judgeRuns() {
	ctx := context.Background()
	ended := map[string]bool{}
	for _, t := range tenants {
		ended[t] = true
	}
	for _, id := range keysOfMap(w.runs) {
		a := w.runs[id]
		run, err := w.rawRuns.Header(ctx, a.tenant, a.id)
		switch {
		case a.deleted:
			if items := w.partition(id); len(items) > 0 {
				w.violated("run %s was deleted, and %d items of it are there, the first is %s", id, len(items), items[0].Key)
			}
			continue
		case err != nil:
			w.mu.Lock()
			w.seen["run whose deletion was not acknowledged"]++
			w.mu.Unlock()
			continue
		case !run.Status.Terminal():
			w.violated("run %s (%s) never ends: %s, marks %s, outbox %v", id, a.workflow, run.Status, run.Marks, run.Outbox)
			ended[a.tenant] = false
			continue
		}
		w.met("run " + string(run.Status))
		w.judgeHistory(a)
	}
	for _, t := range tenants {
		it, err := w.platform.Table().Get(ctx, store.Key{PK: "RC#" + t, SK: "active"})
		if n := it.Attrs.Int("n"); err == nil && n != 0 && ended[t] && w.childrenEnded(t) {
			w.violated("tenant %s has %d live runs by its counter, and none is", t, n)
		}
	}
}

// childrenEnded says whether no run of a tenant is live, also of those that no client was told of.
func (w *world) childrenEnded(tenant string) bool {
	all, _, err := w.rawRuns.List(context.Background(), tenant, runs.Filter{}, 500)
	if err != nil {
		w.violated("runs of %s cannot be listed: %v", tenant, err)
		return false
	}
	return !slices.ContainsFunc(all, func(v *runs.View) bool { return !v.Status.Terminal() })
}

// judgeHistory reads a run as its timeline tells it.
func (w *world) judgeHistory(a *ackedRun) {
	events, err := w.rawRuns.Timeline(context.Background(), a.tenant, a.id, runs.TimelineLength)
	if err != nil {
		w.violated("run %s has no history: %v", a.id, err)
		return
	}
	view, err := w.rawRuns.Get(context.Background(), a.tenant, a.id)
	if err != nil {
		w.violated("run %s cannot be read: %v", a.id, err)
		return
	}
	h := history{w: w, a: a, events: events, done: map[string]bool{}, begun: map[string]bool{}, decided: map[string]int{}}
	for id, s := range view.Steps { // what a rerun took over is in no history
		if s.Status == engine.Succeeded && s.JobID != "" && !strings.HasPrefix(s.JobID, a.id) {
			h.done[id] = true
		}
	}
	for _, e := range events {
		h.add(e)
	}
	for _, gate := range keysOfMap(a.decided) {
		if n := a.decided[gate]; n > 1 || n > h.decided[gate] && view.Status == engine.Succeeded {
			w.violated("run %s: %d decisions of %s were acknowledged, %d tell: %s", a.id, n, gate, h.decided[gate], h.String())
		}
	}
	for _, id := range keysOfMap(w.states) {
		run, ok := job.RunOf(id)
		states := w.states[id]
		switch {
		case !ok || run != a.id:
		case !h.begun[id]:
			w.violated("run %s: job %s stands in no history", a.id, id)
		case !states[len(states)-1].Terminal():
			w.violated("run %s has ended, and its job %s is %s", a.id, id, states[len(states)-1])
		}
	}
}

// history is what a timeline has told so far.
type history struct {
	w      *world
	a      *ackedRun
	events []runs.TimelineEntry
	// done are steps that have what others wait for, begun the jobs that were dispatched.
	done, begun map[string]bool
	decided     map[string]int // by gate
	over        bool
}

func (h *history) add(e runs.TimelineEntry) {
	switch e.Type {
	case "step_dispatched", "step_waiting":
		h.begins(e)
	case "step_delay_started", "step_transform_completed":
		h.follows(e)
		h.done[e.StepID] = e.Status == string(engine.Succeeded)
	case "step_approved", "step_rejected":
		h.decided[e.StepID]++
		h.done[e.StepID] = h.done[e.StepID] || e.Type == "step_approved"
	case "run_status":
		h.over = h.over || engine.Status(e.Status).Terminal()
	default:
		h.done[e.StepID] = h.done[e.StepID] || e.Status == string(engine.Succeeded)
	}
}

// begins judges the beginning of a step: before the end of the run, once, and after what it depends on.
func (h *history) begins(e runs.TimelineEntry) {
	if h.over {
		h.w.violated("run %s: %s begins after the end of the run", h.a.id, e.StepID)
	}
	if h.begun[e.JobID] {
		h.w.violated("run %s: job %s was dispatched twice", h.a.id, e.JobID)
	}
	h.begun[e.JobID] = true
	h.follows(e)
}

// follows judges that what a step depends on has ended.
func (h *history) follows(e runs.TimelineEntry) {
	i := slices.IndexFunc(h.w.flows, func(f flow) bool { return f.id == h.a.workflow })
	for _, d := range h.w.flows[i].after[e.StepID] {
		if !h.done[d] && !h.done["h"] {
			h.w.violated("run %s (%s): %s begins before %s has ended: %s", h.a.id, h.a.workflow, e.StepID, d, h.String())
		}
	}
}

// String is the history on one line.
func (h *history) String() string {
	var b strings.Builder
	for _, e := range h.events {
		fmt.Fprintf(&b, "%s %s %s %s; ", e.Type, e.StepID, e.JobID, e.Status)
	}
	return b.String()
}
