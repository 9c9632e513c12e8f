package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// How often a parked call goes on rather than something new beginning, of 256; and, of 256 such calls, how many fail.
const (
	releases   = 190
	refusals   = 6
	cruelties  = 6
	duplicates = 6
)

// tick is how far the clock goes between two steps: what begins in different steps has its timeouts at different times.
const tick = 37 * time.Microsecond

// wait lets everything run until all wait for a call to a port, for a message or for the time.
func (w *world) wait() {
	synctest.Wait()
	time.Sleep(tick)
	synctest.Wait()
}

// step draws what happens next.
func (w *world) step() {
	parked := w.gate.waiting()
	if len(parked) > 0 && w.draw(256) < releases {
		c := parked[w.draw(len(parked))]
		v := pass
		switch fate := w.draw(256); {
		case fate >= 256-refusals:
			v = refuse
		case fate >= 256-refusals-cruelties:
			v = cruel
		case fate >= 256-refusals-cruelties-duplicates && strings.HasPrefix(c.what, "queue.send") && !strings.Contains(c.what, ".fifo"):
			v = duplicate
		}
		fate := [...]string{"pass", "refuse", "cruel", "duplicate"}[v]
		w.trace("release %s (%s)", c.key(), fate)
		w.met(fate)
		w.gate.release(c, v)
		return
	}
	w.act()
}

var topics = []string{"job.work", "job.work", "job.work", "job.once", "job.few", "job.brief", "job.slow", "job.ask", "job.no"}

// act begins something new.
func (w *world) act() {
	switch w.draw(23) {
	case 0, 1, 2:
		w.submit()
	case 3:
		w.cancelOne()
	case 4:
		w.peek()
	case 5:
		s := w.workers[w.draw(len(w.workers))]
		switch w.draw(4) {
		case 0, 1:
			s.connect(w.containers[w.draw(len(w.containers))])
		case 2:
			w.trace("%s loses its stream", s.name)
			s.cut()
		case 3:
			w.trace("%s dies", s.name)
			s.forget()
		}
	case 6, 7:
		if w.draw(3) == 0 && w.late() {
			return
		}
		s := w.workers[w.draw(len(w.workers))]
		if w.draw(3) == 0 {
			s.progress(w.draw(100))
		} else if h, ok := s.take(w.draw(3)); ok {
			s.finish(h, w.draw(3)/2)
		}
	case 8:
		w.beatAll(w.draw(1 << (len(w.workers) + len(w.pollers))))
	case 9:
		s := w.pollers[w.draw(len(w.pollers))]
		switch w.draw(8) {
		case 0, 1:
			s.beat()
		case 2, 3, 4:
			s.pull()
		case 5, 6:
			s.finish(w.draw(3), w.draw(3)/2, w.draw(4) == 0)
		case 7:
			w.trace("%s dies", s.name)
			s.forget()
		}
	case 10, 11:
		names := w.functionNames()
		w.drive(w.functions[names[w.draw(len(names))]])
	case 12:
		w.quiet(w.draw(1<<(len(w.workers)+len(w.pollers))), 1+w.draw(24))
	case 13:
		d := [...]time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 3 * time.Second, 12 * time.Second, 31 * time.Second, 70 * time.Second}[w.draw(7)]
		w.trace("wait %s", d)
		time.Sleep(d)
	case 14:
		names := append([]string{"api", "container0", "container1"}, w.functionNames()...)
		w.crash(names[w.draw(len(names))])
	case 15:
		w.misc()
	case 16, 17, 18:
		w.resolveOne()
	case 19, 20, 21, 22:
		w.actOnRuns()
	}
}

// late has a worker speak of a job that was taken from it; false when nobody has one.
func (w *world) late() bool {
	var says []func(how int)
	taken := func(h holding, worker string) bool {
		r, err := w.raw.Load(context.Background(), job.AnyTenant, h.id, time.Now())
		return err == nil && !r.State.Terminal() && (r.Worker != worker || fmt.Sprint(r.Attempts) != h.attempt)
	}
	for _, s := range w.workers {
		for i, h := range s.holds() {
			if s.link != nil && taken(h, s.name) {
				says = append(says, func(how int) {
					if h, ok := s.take(i); ok {
						s.finish(h, how)
					}
				})
			}
		}
	}
	for _, s := range w.pollers {
		for i, h := range s.holds() {
			if taken(h, s.name) {
				says = append(says, func(how int) { s.finish(i, how, false) })
			}
		}
	}
	if len(says) == 0 {
		return false
	}
	says[w.draw(len(says))](w.draw(3) / 2)
	return true
}

// beatAll sends heartbeats of all workers but the silent ones, a bit each.
func (w *world) beatAll(silent int) {
	for i, s := range w.workers {
		if silent>>i&1 == 0 {
			s.beat()
			w.wait() // one stimulus at a time: what happens next never hangs on which goroutine is first
		}
	}
	for i, s := range w.pollers {
		if silent>>(len(w.workers)+i)&1 == 0 {
			s.beat()
			w.wait()
		}
	}
}

// quiet is a time in which nothing goes wrong, except that some workers are silent: functions run, and nobody finishes anything.
func (w *world) quiet(silent, rounds int) {
	w.trace("quiet for %d rounds, silent %b", rounds, silent)
	for range rounds {
		w.beatAll(silent)
		w.flow()
		w.driveAll(true)
		time.Sleep(5 * time.Second)
	}
}

func (w *world) misc() {
	switch w.draw(6) {
	case 0:
		clocks := []*process{w.api, w.containers[0].proc, w.containers[1].proc, w.functions["sweep"].proc, w.functions["scheduler"].proc}
		p := clocks[w.draw(len(clocks))]
		d := [...]time.Duration{0, 900 * time.Millisecond, -900 * time.Millisecond, 5 * time.Second, -5 * time.Second, 40 * time.Second}[w.draw(6)]
		w.trace("the clock of %s is %s off", p.name, d)
		p.skew.jump(d)
	case 1, 2:
		w.retryOne()
	case 3:
		// a message that was lost: what waits in a queue of a pool vanishes
		msgs, _ := w.platform.Queues().Receive(context.Background(), "pool-main", 1, 0, time.Second)
		for _, m := range msgs {
			w.trace("a ticket is lost")
			_ = w.platform.Queues().Delete(context.Background(), "pool-main", m.Receipt) // the adapter in memory does not fail
		}
	case 4, 5:
		w.publish()
	}
}

func (w *world) functionNames() []string {
	var names []string
	for name := range w.functions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// submit sends a job as one of the tenants.
func (w *world) submit() { w.submitOf(topics[w.draw(len(topics))]) }

func (w *world) submitOf(topic string) {
	tenant := tenants[w.draw(len(tenants))]
	body := map[string]any{"prompt": "p", "topic": topic}
	key, times := "", 1
	switch w.draw(4) {
	case 0:
		key = fmt.Sprintf("k%d", w.draw(4))
		body["idempotency_key"] = key
		times += w.draw(2) // a client that sends twice at once
	case 1:
		body["deadline_ms"] = 1000 * (1 + w.draw(200))
	case 2:
		body["labels"] = map[string]string{"preferred_worker_id": "w" + tenant + fmt.Sprint(w.draw(2))}
	}
	for range times {
		w.trace("submit %s %v", tenant, body)
		w.request(tenant, "k-"+tenant, "POST", "/jobs", body, func(status int, answer []byte) { w.receipt(tenant, key, status, answer) })
		w.wait()
	}
}

// receipt judges the answer to a submission.
func (w *world) receipt(tenant, key string, status int, answer []byte) {
	var r struct {
		JobID string `json:"job_id"`
	}
	if status != 200 || json.Unmarshal(answer, &r) != nil || r.JobID == "" {
		if status < 500 && status != 404 && status != 409 {
			w.violated("submit answered %d %s", status, answer)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.acked[r.JobID] == nil {
		w.acked[r.JobID] = &acked{id: r.JobID, tenant: tenant}
	}
	if key != "" {
		k := tenant + "/" + key
		if first, there := w.keys[k]; there && first != r.JobID {
			w.violations = append(w.violations, fmt.Sprintf("key %s made jobs %s and %s", k, first, r.JobID))
		}
		w.keys[k] = r.JobID
	}
}

// known draws one of the jobs that clients know.
func (w *world) known() *acked {
	w.mu.Lock()
	var ids []string
	for id := range w.acked {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return w.acked[ids[w.draw(len(ids))]]
}

func (w *world) cancelOne() {
	if a := w.known(); a != nil {
		w.cancel(a)
	}
}

func (w *world) cancel(a *acked) {
	w.trace("cancel %s", a.id)
	w.request(a.tenant, "k-"+a.tenant, "POST", "/jobs/"+url.PathEscape(a.id)+"/cancel", nil, func(status int, answer []byte) {
		var r struct{ State, Reason string }
		if status == 200 && json.Unmarshal(answer, &r) == nil && r.Reason == "" && r.State == "CANCELLED" {
			w.mu.Lock()
			a.cancelled = true
			w.mu.Unlock()
		}
	})
}

// peek asks for a job of the other tenant: it must not exist.
func (w *world) peek() {
	a := w.known()
	if a == nil {
		return
	}
	other := tenants[0]
	if a.tenant == other {
		other = tenants[1]
	}
	w.trace("peek at %s as %s", a.id, other)
	w.request(other, "k-"+other, "GET", "/jobs/"+url.PathEscape(a.id), nil, func(status int, answer []byte) {
		if status != 404 && status < 500 {
			w.violated("tenant %s sees job %s of tenant %s: %s", other, a.id, a.tenant, answer)
		}
	})
}

func (w *world) retryOne() {
	a := w.known()
	if a == nil {
		return
	}
	w.trace("retry %s", a.id)
	w.request(a.tenant, "k-"+a.tenant, "POST", "/dlq/"+url.PathEscape(a.id)+"/retry", nil, func(status int, answer []byte) {
		w.receipt(a.tenant, "", status, answer)
	})
}

// resolveOne approves or rejects a job, up to three times at once: one that waits, now and then another. Where none waits it submits one.
func (w *world) resolveOne() {
	open := w.openApprovals()
	a := w.known()
	switch {
	case len(open) == 0 && (a == nil || w.draw(3) > 0):
		w.submitOf(topicAsk)
		return
	case len(open) > 0 && w.draw(8) > 0:
		a = open[w.draw(len(open))]
	}
	if a == nil {
		return
	}
	for range 1 + w.draw(3) {
		how := []string{job.Approve, job.Approve, job.Reject}[w.draw(3)]
		w.trace("%s %s", how, a.id)
		w.request(a.tenant, "k-"+a.tenant, "POST", "/approvals/"+url.PathEscape(a.id)+"/"+how, nil, func(status int, answer []byte) {
			w.resolved(a, how, status, answer)
		})
		w.wait()
	}
}

// resolved judges the answer to an approval or a rejection. Each wait of a job is resolved once; a job waits again when the policy has changed.
func (w *world) resolved(a *acked, how string, status int, answer []byte) {
	switch {
	case status == 200:
		w.met(how)
		w.mu.Lock()
		a.resolved = append(a.resolved, how)
		w.mu.Unlock()
	case status < 500 && status != 404 && status != 409:
		w.violated("%s answered %d %s", how, status, answer)
	}
}

// Bounds of the peace after a run.
const (
	peace    = 40 * time.Minute
	peaceful = 2 * time.Second
)

// settle leaves the plane in peace: every call passes, workers answer, functions run, until every job that a client knows of is at its end.
func (w *world) settle() {
	w.trace("peace")
	for _, p := range append([]*process{w.api, w.containers[0].proc, w.containers[1].proc}, w.procs()...) {
		p.skew.jump(0)
	}
	w.flow()
	for i, s := range w.workers {
		s.connect(w.containers[i%len(w.containers)])
		w.flow()
	}
	until := time.Now().Add(peace)
	for round := 0; time.Now().Before(until); round++ {
		w.flow()
		if w.finished() && w.runsFinished(round%5 == 0) {
			break
		}
		w.work(round)
		if round%10 == 0 {
			for _, a := range w.openApprovals() {
				w.cancel(a)
				w.flow()
			}
		}
		w.driveAll(round%3 == 0)
		time.Sleep(peaceful)
	}
	for range 5 { // what is on its way to clients
		w.driveAll(true)
		time.Sleep(peaceful)
	}
	w.flow()
	w.sealAll()
}

// work has all workers do what they have to: connect, beat, and finish what they hold.
func (w *world) work(round int) {
	for i, s := range w.workers {
		if s.link == nil || s.link.ctx.Err() != nil {
			s.connect(w.containers[i%len(w.containers)])
			w.flow()
		}
		if round%2 == 0 {
			s.beat()
			w.flow()
		}
		for h, ok := s.take(0); ok; h, ok = s.take(0) {
			s.finish(h, 0)
			w.flow()
		}
	}
	for _, p := range w.pollers {
		p.finish(0, 0, false)
		w.flow()
		if round%4 == 0 {
			p.beat()
			w.flow()
		}
		p.pull()
		w.flow()
	}
}

// driveAll runs the functions on what their queues hold, and those of schedules if it is their turn.
func (w *world) driveAll(andSweep bool) {
	for _, name := range w.functionNames() {
		if w.functions[name].run == nil || andSweep {
			w.drive(w.functions[name])
			w.flow()
		}
	}
}

// flow lets every call pass, one after the other, until everybody waits for something else.
func (w *world) flow() {
	for {
		w.wait()
		parked := w.gate.waiting()
		if len(parked) == 0 {
			return
		}
		if !strings.HasPrefix(parked[0].what, "queue.receive") {
			w.trace("pass %s", parked[0].key())
		}
		w.gate.release(parked[0], pass)
	}
}

func (w *world) procs() []*process {
	var out []*process
	for _, name := range w.functionNames() {
		out = append(out, w.functions[name].proc)
	}
	return out
}

func (w *world) each(do func(a *acked, r *job.Record, err error)) {
	w.mu.Lock()
	var all []*acked
	for _, a := range w.acked {
		all = append(all, a)
	}
	w.mu.Unlock()
	slices.SortFunc(all, func(a, b *acked) int { return strings.Compare(a.id, b.id) })
	for _, a := range all {
		r, err := w.raw.Load(context.Background(), a.tenant, a.id, time.Now())
		do(a, r, err)
	}
}

// among lists the jobs that clients know of whose state, by what was written, is one of those asked for.
func (w *world) among(asked func(job.State) bool) []*acked {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*acked
	for _, id := range keysOfMap(w.acked) {
		if history := w.states[id]; len(history) > 0 && asked(history[len(history)-1]) {
			out = append(out, w.acked[id])
		}
	}
	return out
}

func (w *world) finished() bool {
	return len(w.among(func(s job.State) bool { return !s.Terminal() })) == 0
}

func (w *world) openApprovals() []*acked {
	return w.among(func(s job.State) bool { return s == job.ApprovalRequired })
}

// judge looks at what is left after a run.
func (w *world) judge() {
	w.each(func(a *acked, r *job.Record, err error) {
		if err != nil {
			w.violated("acknowledged job %s is not there: %v", a.id, err)
			return
		}
		w.judgeEnd(a, r)
		w.judgeResult(r)
		w.judgeLetter(a, r)
	})
	for _, t := range tenants {
		if active, queued, err := w.raw.Counts(context.Background(), t); err == nil && (active != 0 || queued != 0) && w.allEnded(t) {
			w.violated("tenant %s has %d active jobs and %d that wait for a place by its counter, and none does", t, active, queued)
		}
	}
	for _, tenant := range keysOfMap(w.heard) {
		w.judgeFrames(tenant, w.heard[tenant])
	}
	w.judgeRuns()
	w.judgeTrail()
}

// judgeEnd looks at how a job ended: once, and as it may.
func (w *world) judgeEnd(a *acked, r *job.Record) {
	w.mu.Lock()
	history := slices.Clone(w.states[a.id])
	w.mu.Unlock()
	switch {
	case !r.State.Terminal():
		w.violated("acknowledged job %s (%s) never ends: %s after %v, due %s", a.id, r.Topic, r.State, history, time.UnixMicro(r.DueAt))
	case a.cancelled && r.State != job.Cancelled:
		w.violated("job %s was acknowledged as cancelled and is %s", a.id, r.State)
	case int64(len(a.resolved)) > r.Asked:
		w.violated("job %s waited %d times and was acknowledged as resolved more often: %v", a.id, r.Asked, a.resolved)
	case slices.Contains(a.resolved, job.Reject) && r.ErrorCode != dlq.ApprovalRejected:
		w.violated("job %s was acknowledged as rejected and is %s (%s)", a.id, r.State, r.ErrorCode)
	case slices.Contains(a.resolved, job.Approve) && r.Grant == nil:
		w.violated("job %s was acknowledged as approved and has no grant", a.id)
	case r.State == job.Denied && r.Grant != nil && r.Decision.Snapshot == r.Grant.Snapshot && !strings.Contains(r.Decision.Reason, "effective config"):
		w.violated("job %s was approved under the policy by which it is denied: %s", a.id, r.Decision.Reason)
	case r.Topic == "job.no" && r.State != job.Denied && r.State != job.Cancelled && (r.State != job.Timeout || r.DeadlineAt == 0):
		w.violated("job %s must be denied and is %s", a.id, r.State)
	}
	ends := 0
	for _, s := range history {
		if s.Terminal() {
			ends++
		}
	}
	if ends > 1 {
		w.violated("job %s ended %d times: %v", a.id, ends, history)
	}
}

// judgeResult looks at whose word ended a job.
func (w *world) judgeResult(r *job.Record) {
	said := ""
	if r.ErrorCode == "by_worker" {
		said = r.ErrorMessage
	} else if len(r.Artifacts) > 0 {
		said = r.Artifacts[0]
	}
	if worker, attempt, _ := strings.Cut(said, " "); said != "" && (worker != r.Worker || (polls(worker) && attempt != fmt.Sprint(r.Attempts))) {
		w.violated("job %s took the result of %q in attempt %d of %s", r.ID, said, r.Attempts, r.Worker)
	}
}

// judgeLetter looks for the dead letter of a job that had no success.
func (w *world) judgeLetter(a *acked, r *job.Record) {
	letters := &dlq.Store{Table: w.platform.Table(), Shards: 1}
	_, err := letters.Get(context.Background(), a.tenant, a.id, time.Now())
	if r.State.Unsuccessful() && r.ErrorCode != "" && err != nil && !w.retried(a.id) {
		w.violated("job %s ended %s without a dead letter", a.id, r.State)
	}
}

// polls says whether a worker names the attempt with its results. On a stream nothing does: there, what the worker said of an earlier attempt
// of its own, and says again because nobody acknowledged it, is the result of its present one.
func polls(worker string) bool { return strings.HasPrefix(worker, "p") }

// retried says whether a retry took the dead letter, whether or not a client heard of it.
func (w *world) retried(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.states {
		if strings.HasPrefix(other, id+"-retry-") {
			return true
		}
	}
	return false
}

func (w *world) allEnded(tenant string) bool {
	w.mu.Lock()
	ids := keysOfMap(w.states)
	w.mu.Unlock()
	for _, id := range ids {
		if r, err := w.raw.Load(context.Background(), job.AnyTenant, id, time.Now()); err == nil && r.Tenant == tenant && !r.State.Terminal() {
			return false
		}
	}
	return true
}

func keysOfMap[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// judgeFrames looks at the order of what a client heard of each job. A batch of events may come again, in its order; what is new then comes
// after what was there, and the last word on a job that ended is its end.
func (w *world) judgeFrames(tenant string, frames []frame) {
	ended, last, heard := map[string]bool{}, map[string]string{}, map[string]bool{}
	for _, f := range frames {
		if f.kind == "jobCancel" {
			continue
		}
		last[f.id] = f.kind
		if heard[f.text] {
			continue
		}
		heard[f.text] = true
		end := f.kind == "jobResult"
		if ended[f.id] && !end {
			w.violated("client of %s heard %s of job %s after its end", tenant, f.kind, f.id)
		}
		ended[f.id] = ended[f.id] || end
	}
	for _, id := range keysOfMap(last) {
		if ended[id] && last[id] != "jobResult" {
			w.violated("the last that the client of %s heard of job %s, which ended, is its %s", tenant, id, last[id])
		}
	}
}
