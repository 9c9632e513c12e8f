package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

const succeeded, failed = agentv1.JobStatus_JOB_STATUS_SUCCEEDED, agentv1.JobStatus_JOB_STATUS_FAILED

// workerCases are about jobs in the hands of workers.
var workerCases = []testCase{
	{"a worker with a stream does a job", needStream, func(s *story) { s.isDone(TopicWork) }},
	{"a worker that reads the queue does a job", needPolling, func(s *story) { s.isDone(TopicPolled) }},
	{"a worker in a Lambda does a job", needLambda, func(s *story) { s.isDone(TopicLambda) }},
	{"a worker with a stream fails a job", needStream, func(s *story) { s.fails(TopicWork) }},
	{"a worker that reads the queue fails a job", needPolling, func(s *story) { s.fails(TopicPolled) }},
	{"a worker in a Lambda fails a job", needLambda, func(s *story) { s.fails(TopicLambda) }},
	{"a large context and a large result pass a stream", needStream, func(s *story) { s.carries(TopicWork) }},
	{"a large context and a large result pass a poller", needPolling, func(s *story) { s.carries(TopicPolled) }},
	{"a large context and a large result pass a Lambda", needLambda, func(s *story) { s.carries(TopicLambda) }},
	{"fifty jobs at once end once each, over a stream", needStream, func(s *story) { s.flood(TopicWork) }},
	{"fifty jobs at once end once each, by polling", needPolling, func(s *story) { s.flood(TopicPolled) }},
	{"constraints of the policy reach the worker", needStream, func(s *story) {
		seen := make(chan *agentv1.PolicyConstraints, 1)
		s.hire(s.here(), func(_ context.Context, j *worker.Job) (any, error) { seen <- j.Constraints; return nil, nil })
		rc := s.submit("topic", TopicBoxed, "labels", s.here())
		j := s.await(rc.JobID, "SUCCEEDED")
		if j.Decision != "ALLOW_WITH_CONSTRAINTS" || j.Rule != "e2e-boxed" || j.Constraints.Budgets.MaxRuntimeMS != 60_000 || j.Constraints.RedactionLevel != "high" {
			s.Errorf("job %+v", j)
		}
		if c := <-seen; c.GetBudgets().GetMaxRuntimeMs() != 60_000 || c.GetBudgets().GetMaxRetries() != 2 || c.GetRedactionLevel() != "high" {
			s.Errorf("the worker sees %v", c)
		}
	}},
	{"a job with a placement label goes to the worker that carries it", needStream, func(s *story) {
		at := func(place string) map[string]string { return map[string]string{placeLabel: s.tag + "-" + place} }
		ids := map[string]string{}
		for _, place := range []string{"left", "right"} {
			ids[place], _ = s.hire(at(place), Handler)
		}
		for range 3 {
			for place, id := range ids {
				j := s.await(s.submit("topic", TopicPlaced, "labels", at(place)).JobID, "SUCCEEDED")
				if j.WorkerID != id || j.Attempts != 1 {
					s.Errorf("a job for the %s went to %s, not to %s: %+v", place, j.WorkerID, id, j)
				}
			}
		}
	}},
	{"progress makes a job running", needStream, func(s *story) {
		p := s.puppet(s.fresh())
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		p.takes(rc.JobID, "1")
		if j := s.job(rc.JobID); j.State != "DISPATCHED" || j.Attempts != 1 || j.WorkerID != p.id {
			s.Errorf("taken: %+v", j)
		}
		p.progress(rc.JobID, 40)
		j := s.await(rc.JobID, "RUNNING")
		if j.Progress == nil || j.Progress.Percent != 40 || j.Progress.Message != onMyWay {
			s.Errorf("running: %+v", j.Progress)
		}
		p.result(rc.JobID, succeeded)
		if j := s.await(rc.JobID, "SUCCEEDED"); j.ExecutionMS != 7 {
			s.Errorf("done: %+v", j)
		}
	}},
	{"the first result counts", needStream, func(s *story) {
		p := s.puppet(s.fresh())
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		p.takes(rc.JobID, "1")
		first := p.result(rc.JobID, succeeded)
		done := s.await(rc.JobID, "SUCCEEDED")
		again, other := p.result(rc.JobID, succeeded), p.result(rc.JobID, failed)
		if first != "" || again != "IGNORED" || other != "IGNORED" {
			s.Errorf("the plane answers %q, %q, %q", first, again, other)
		}
		if j := s.job(rc.JobID); j.State != "SUCCEEDED" || j.UpdatedAt != done.UpdatedAt || j.ErrorCode != "" {
			s.Errorf("job %+v", j)
		}
	}},
	{"a result for a job of somebody else is ignored", needStream, func(s *story) {
		p := s.puppet(s.fresh())
		rc := s.submit("topic", TopicAsked)
		for _, id := range []string{rc.JobID, s.fresh()} {
			if code := p.result(id, succeeded); code != "IGNORED" {
				s.Errorf("the plane answers %q", code)
			}
		}
		if j := s.job(rc.JobID); j.State != "APPROVAL_REQUIRED" {
			s.Errorf("job %+v", j)
		}
	}},
	{"a cancelled job never starts", needStream, func(s *story) {
		cancelled := s.submit("topic", TopicPlaced, "labels", s.here())
		s.cancels(cancelled.JobID)
		s.hire(s.here(), s.runs.handler(Handler))
		s.await(s.submit("topic", TopicPlaced, "labels", s.here()).JobID, "SUCCEEDED")
		runs, _ := s.runs.of(cancelled.JobID)
		if j := s.job(cancelled.JobID); runs != 0 || j.State != "CANCELLED" || j.Attempts != 0 {
			s.Errorf("it ran %d times: %+v", runs, j)
		}
	}},
	{"a worker is told of a cancel at once", needStream, func(s *story) {
		p := s.puppet(s.fresh())
		var took time.Duration
		for range 3 { // a machine that is busy with everything else may take its time once
			rc := s.submit("topic", TopicPlaced, "labels", s.here())
			p.takes(rc.JobID, "1")
			p.progress(rc.JobID, 1)
			s.await(rc.JobID, "RUNNING")
			began := time.Now()
			s.cancels(rc.JobID)
			p.isTold(rc.JobID)
			took = time.Since(began)
			if code := p.result(rc.JobID, succeeded); code != "IGNORED" {
				s.Errorf("its result is answered with %q", code)
			}
			if j := s.job(rc.JobID); j.State != "CANCELLED" || len(j.Result) > 0 && string(j.Result) != "null" {
				s.Errorf("job %+v", j)
			}
			if took <= toldWithin {
				return
			}
		}
		s.Errorf("it took %s, and more than %s every time", took, toldWithin)
	}},
	{"a cancel ends the context of a handler", needStream, func(s *story) {
		started, ended := make(chan struct{}), make(chan error, 1)
		s.hire(s.here(), func(ctx context.Context, _ *worker.Job) (any, error) {
			close(started)
			<-ctx.Done()
			ended <- ctx.Err()
			return "too late", nil
		})
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		<-started
		s.cancels(rc.JobID)
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				s.Error(err)
			}
		case <-time.After(s.patience()):
			s.Error("the handler was never told")
		}
	}},
	{"a worker that reads the queue is told of a cancel with its heartbeat", needPolling, func(s *story) {
		rc := s.submit("topic", TopicPolled, "context", Task{MS: 60_000})
		s.await(rc.JobID, "RUNNING")
		s.cancels(rc.JobID)
		s.eventually(s.patience(), func() (bool, string) {
			runs, stopped := s.runs.of(rc.JobID)
			return runs == 0 || stopped, "its handler still runs" // another run's worker may have it
		})
		if j := s.job(rc.JobID); j.State != "CANCELLED" || j.Attempts != 1 {
			s.Errorf("job %+v", j)
		}
	}},
	{"a deadline ends a job that runs, and its worker and who listens are told", needStream, func(s *story) {
		all := s.watch("/stream", s.admin())
		p := s.puppet(s.fresh())
		rc := s.submit("topic", TopicPlaced, "labels", s.here(), "deadline_ms", 20_000) // a plane takes two seconds to find a new worker, and some more where all its functions start
		p.takes(rc.JobID, "1")
		p.progress(rc.JobID, 1)
		for _, kind := range []string{"jobRequest", "jobProgress", "jobCancel", "jobResult"} {
			all.tells(rc.JobID, kind)
		}
		if j := s.await(rc.JobID, "TIMEOUT"); j.ErrorCode != "deadline_exceeded" || j.Attempts != 1 {
			s.Errorf("job %+v", j)
		}
		p.isTold(rc.JobID)
		if code := p.result(rc.JobID, succeeded); code != "IGNORED" {
			s.Errorf("its result is answered with %q", code)
		}
	}},
	{"a worker that leaves finishes what it has, and takes no more", needStream, func(s *story) {
		started := make(chan struct{}, 1)
		id, stop := s.hire(s.here(), func(ctx context.Context, j *worker.Job) (any, error) {
			started <- struct{}{}
			return Handler(ctx, j)
		})
		rc := s.submit("topic", TopicPlaced, "labels", s.here(), "context", Task{MS: 2000})
		<-started
		stop()
		if j := s.await(rc.JobID, "SUCCEEDED"); j.Attempts != 1 {
			s.Errorf("job %+v", j)
		}
		s.known(id, false)
		late := s.submit("topic", TopicPlaced, "labels", s.here())
		time.Sleep(time.Second)
		if j := s.job(late.JobID); j.State != "SCHEDULED" || j.Attempts != 0 {
			s.Errorf("a later job: %+v", j)
		}
	}},
	{"a bad key of a worker is turned away", needGRPC, func(s *story) {
		cfg := s.config(PoolPlaced, s.fresh())
		cfg.APIKey = "no-such-key-" + s.tag
		w, err := worker.New(cfg)
		if err != nil {
			s.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(s.Context(), s.patience())
		defer cancel()
		if err := w.Run(ctx); err == nil || !strings.Contains(err.Error(), "refuses") {
			s.Errorf("%v", err)
		}
	}},
}

// toldWithin is how soon a worker hears of a cancel: about a second, and what the way there adds. With its next heartbeat it would hear of it anyhow.
const toldWithin = beatEvery / 2

// isDone plays a job that a worker does, over whatever transport its topic leads to.
func (s *story) isDone(topic string) {
	s.Helper()
	rc := s.submit("topic", topic, "prompt", "hello", "context", Task{Echo: "back", MS: 1500})
	if rc.Status != "scheduled" {
		s.Errorf("receipt %+v", rc)
	}
	j := s.await(rc.JobID, "SUCCEEDED")
	if o := s.outcome(j); o.Echo != "back" || o.Prompt != "hello" || o.Attempt != 1 || o.TraceID != rc.TraceID || o.Tenant != s.target.Tenant {
		s.Errorf("outcome %+v", o)
	}
	if j.Decision != "ALLOW" || j.Rule != "e2e" || j.Attempts != 1 || j.WorkerID == "" || j.ExecutionMS < 1500 || j.TraceID != rc.TraceID || j.ErrorCode != "" ||
		j.Progress == nil || j.Progress.Percent != 50 || j.Progress.Message != halfWay {
		s.Errorf("job %+v", j)
	}
	if m := s.memory("ptr=redis://ctx:" + rc.JobID); j.ContextPtr != m.Pointer || m.Kind != "context" || !strings.Contains(m.Text, `"echo":"back"`) {
		s.Errorf("context %+v", m)
	}
	if m := s.memory("key=res:" + rc.JobID); j.ResultPtr != m.Pointer || m.Kind != "result" || m.Size != len(m.Text) || !strings.Contains(m.Text, `"echo":"back"`) {
		s.Errorf("result %+v", m)
	}
}

func (s *story) fails(topic string) {
	s.Helper()
	code := s.fresh()
	rc := s.submit("topic", topic, "context", Task{Do: "fail", Code: code, Echo: "no paper"})
	j := s.await(rc.JobID, "FAILED")
	if j.ErrorCode != code || j.ErrorMessage != "asked to fail: no paper" || j.ErrorStatus != "JOB_STATUS_FAILED" || j.Attempts != 1 {
		s.Errorf("job %+v", j)
	}
	if l := s.letter(rc.JobID, "reason_code="+code); l.Topic != topic || l.Reason != j.ErrorMessage || l.Attempts != 1 || l.LastWorker != j.WorkerID {
		s.Errorf("letter %+v, worker %s", l, j.WorkerID)
	}
}

// carries sends 100 KB there and back: more than an item holds, so both go by the bucket.
func (s *story) carries(topic string) {
	s.Helper()
	const size = 100 << 10
	rc := s.submit("topic", topic, "context", Task{Echo: strings.Repeat("é", size/2), Bytes: size})
	j := s.await(rc.JobID, "SUCCEEDED")
	if o := s.outcome(j); o.Echo != strings.Repeat("é", size/2) || o.Pad != strings.Repeat("x", size) {
		s.Errorf("%d bytes of echo and %d of padding came back", len(o.Echo), len(o.Pad))
	}
	if m := s.memory("key=res:" + rc.JobID); m.Size < 2*size || len(m.Text) != m.Size {
		s.Errorf("%d bytes behind the pointer", m.Size)
	}
}

// flood submits fifty jobs at once.
func (s *story) flood(topic string) {
	s.Helper()
	answers := crowd(50, func(i int) answer {
		a, err := s.send(call{method: http.MethodPost, path: "/api/v1/jobs", body: s.text(s.body("topic", topic, "context", Task{Echo: fmt.Sprint(i)}))})
		if err != nil {
			s.Errorf("submit %d: %v", i, err)
		}
		return a
	})
	first := map[string]job{}
	for i, a := range answers {
		j := s.await(s.receipt(a).JobID, "SUCCEEDED")
		runs, _ := s.runs.of(j.ID)
		if o := s.outcome(j); j.Attempts != 1 || o.Echo != fmt.Sprint(i) || runs > 1 {
			s.Errorf("job %d ran %d times here: %+v", i, runs, j)
		}
		first[j.ID] = j
	}
	if len(first) != len(answers) {
		s.Errorf("%d jobs of %d submits", len(first), len(answers))
	}
	s.eventually(s.patience(), func() (bool, string) {
		n := len(s.list("state=SUCCEEDED&team=" + s.tag))
		return n == len(first), fmt.Sprintf("%d jobs are listed as done", n)
	})
	for _, j := range s.list("team=" + s.tag) {
		if was := first[j.ID]; j.State != was.State || j.UpdatedAt != was.UpdatedAt {
			s.Errorf("job %s changed after its end", j.ID)
		}
	}
}

// slowCases take as long as it takes to believe that a worker is gone. They come first, so that the others pass meanwhile.
var slowCases = []testCase{
	{"a job of a worker that vanishes goes to another", needStream, func(s *story) {
		first := s.puppet(s.fresh())
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		first.takes(rc.JobID, "1")
		first.progress(rc.JobID, 10)
		s.await(rc.JobID, "RUNNING")
		first.vanish()
		gone := time.Now()
		second := s.puppet(s.fresh())
		second.takes(rc.JobID, "2")
		if took := time.Since(gone); took < lostAfter-2*beatEvery {
			s.Errorf("it was given away after %s already", took)
		}
		back := s.puppet(first.id)
		if code := back.result(rc.JobID, succeeded); code != "IGNORED" {
			s.Errorf("a late result is answered with %q", code)
		}
		if j := s.job(rc.JobID); j.over() || j.Attempts != 2 || j.WorkerID != second.id {
			s.Errorf("after a late result: %+v", j)
		}
		if code := second.result(rc.JobID, succeeded); code != "" {
			s.Errorf("the result of the second attempt is answered with %q", code)
		}
		if j := s.await(rc.JobID, "SUCCEEDED"); j.Attempts != 2 || j.WorkerID != second.id {
			s.Errorf("job %+v", j)
		}
	}},
	{"a job that its pool has again goes to another worker of the pool", needStream, func(s *story) {
		lost := func(c *worker.Config) { c.Pool, c.DrainTimeout = PoolLost, -1 } // it does not say good-bye
		first, vanish := s.hire(nil, Handler, lost)
		time.Sleep(seenAfter)
		rc := s.submit("topic", TopicLost, "context", Task{Do: "linger", MS: 120_000}, "labels", map[string]string{"preferred_worker_id": first})
		if j := s.await(rc.JobID, "RUNNING"); j.WorkerID != first {
			s.Errorf("job %+v", j)
		}
		vanish()
		s.hire(nil, Handler, lost)
		j := s.awaitFor(rc.JobID, "SUCCEEDED", lostAfter+s.patience())
		if o := s.outcome(j); j.Attempts < 2 || o.Attempt != j.Attempts || j.WorkerID == first { // other runs' workers vanish from this pool too
			s.Errorf("job %+v", j)
		}
	}},
	{"a job whose attempts are used up fails with its worker", needStream, func(s *story) {
		p := s.puppet(s.fresh())
		rc := s.submit("topic", TopicFrail, "labels", s.here())
		p.takes(rc.JobID, "1")
		p.vanish()
		j := s.awaitFor(rc.JobID, "FAILED", lostAfter+s.patience())
		if j.ErrorCode != "worker_lost" || j.Attempts != 1 {
			s.Errorf("job %+v", j)
		}
		if l := s.letter(rc.JobID, "reason_code=worker_lost&topic="+TopicFrail); l.LastWorker != p.id || l.Attempts != 1 {
			s.Errorf("letter %+v", l)
		}
	}},
	{"a job outlives a short cut of its worker's line", needStream, func(s *story) {
		p := s.puppet(s.fresh())
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		p.takes(rc.JobID, "1")
		p.vanish()
		time.Sleep(lostAfter / 3)
		back := s.puppet(p.id)
		back.takes(rc.JobID, "1") // the plane asks whether it still has it
		if code := back.result(rc.JobID, succeeded); code != "" {
			s.Errorf("the result is answered with %q", code)
		}
		if j := s.await(rc.JobID, "SUCCEEDED"); j.Attempts != 1 {
			s.Errorf("job %+v", j)
		}
	}},
}
