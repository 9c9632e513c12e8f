package plane_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// The state machine as it is stored, and what time does to jobs: core.md 10 C.

// stored makes a job that stands in a state, without anything around it.
func (r *rig) stored(id string, state job.State) *job.Record {
	r.t.Helper()
	now := time.Now().UnixMicro()
	rec := &job.Record{
		ID: id, State: state, Tenant: "default", Trace: "t", Topic: "job.test.work", Body: "b", CreatedAt: now, UpdatedAt: now, ListedAt: now,
		ExpiresAt: job.NewExpiry(now),
	}
	if rec.Held() {
		rec.Worker, rec.WorkerTenant, rec.Attempts = "w1", "default", 1
	}
	if err := r.plane.Dispatcher.Jobs.Create(r.t.Context(), rec, &job.Body{}, 0); err != nil {
		r.t.Fatal(err)
	}
	return rec
}

// now is the job as it is stored now.
func (r *rig) now(id string) *job.Record {
	r.t.Helper()
	rec, err := r.plane.Dispatcher.Jobs.Load(r.t.Context(), "default", id, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

// TestT029_T030_EveryMoveIsWrittenOrRefused: the table of moves itself is compared with the contract's in shared/core/job. An end is not even
// written to itself: the first result wins (docs/adr/0002-truthful-states.md).
func TestT029_T030_EveryMoveIsWrittenOrRefused(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, from := range job.States {
			for _, to := range job.States {
				id := string(from) + "-" + string(to)
				before := r.stored(id, from)
				time.Sleep(time.Millisecond)
				micros := time.Now().UnixMicro()
				_, err := r.plane.Dispatcher.Jobs.Move(t.Context(), before, to, 0, func(n *job.Record) { n.UpdatedAt = micros })
				after := r.now(id)
				var stale *job.StaleError
				switch legal := job.May(from, to) && !from.Terminal(); {
				case legal && (err != nil || after.State != to || after.UpdatedAt != micros):
					t.Errorf("%s: %v, stored %s", id, err, after.State)
				case !legal && (!errors.As(err, &stale) || after.State != from || after.UpdatedAt != before.UpdatedAt):
					t.Errorf("%s was not refused: %v, stored %s", id, err, after.State)
				}
			}
		}
	})
}

// Somebody who saw the job before it ended must not move it either.
func TestT030_WhoSawAJobBeforeItsEndDoesNotMoveIt(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, end := range []job.State{job.Succeeded, job.Failed, job.Cancelled, job.Timeout} {
			seen := r.stored("ended-"+string(end), job.Running)
			if _, err := r.plane.Dispatcher.Jobs.Move(t.Context(), seen, end, 0, func(*job.Record) {}); err != nil {
				t.Fatal(err)
			}
			for _, to := range job.States {
				_, err := r.plane.Dispatcher.Jobs.Move(t.Context(), seen, to, 0, func(n *job.Record) { n.UpdatedAt++ })
				if _, stale := errors.AsType[*job.StaleError](err); !stale {
					t.Errorf("%s -> %s: %v", end, to, err)
				}
			}
			if after := r.now(seen.ID); after.State != end || after.UpdatedAt != seen.UpdatedAt {
				t.Errorf("%s became %s", end, after.State)
			}
		}
	})
}

func TestT032_ACancelGivesThePlaceBack(t *testing.T) {
	cfg := config()
	cfg.Settings = limits(`{"max_concurrent_jobs":5}`)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		active := func() int64 {
			n, _, err := r.plane.Dispatcher.Jobs.Counts(t.Context(), "default")
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		w := r.connect("k-worker", "w1", "main", 1)
		held := r.submit().JobID
		w.job()
		queued, asking := r.submit().JobID, r.submit("topic", "job.test.ask").JobID
		if n := active(); n != 2 {
			t.Fatalf("%d are active", n)
		}
		for _, c := range []struct {
			id   string
			left int64
		}{{asking, 2}, {queued, 1}, {queued, 1}, {held, 0}, {held, 0}} {
			r.post("/api/v1/jobs/"+c.id+"/cancel", nil).ok(200)
			if n := active(); n != c.left {
				t.Errorf("after a cancel %d are active, want %d", n, c.left)
			}
		}
	})
}

func TestT033_AQueueOutOfReachUsesNoAttempt(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.queues.Store(true)
		rc := r.submit("topic", "job.test.once")                                     // two attempts
		time.Sleep(10 * time.Minute)                                                 // many more tries to send it
		if j := r.awaitFor(rc.JobID, "PENDING", time.Second); j["attempts"] != 0.0 { // perhaps it is being tried right now
			t.Errorf("attempts %v", j["attempts"])
		}
		s.queues.Store(false)
		w := r.connect("k-worker", "w1", "main", 1)
		if got := w.job(); got.GetEnv()["CORDUM_ATTEMPT"] != "1" {
			t.Errorf("attempt %v", got.GetEnv()["CORDUM_ATTEMPT"])
		}
	})
}

// A worker that is there but says nothing of the job: the next attempt, and in the end a timeout.
func TestT036_NoWordFromTheWorker(t *testing.T) {
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1) // it beats, and is not lost
		rc := r.submit("topic", "job.test.once")    // two attempts
		w.job()
		time.Sleep(4 * time.Minute)
		if j := r.job(rc.JobID); j["state"] != "DISPATCHED" || j["attempts"] != 1.0 {
			t.Fatalf("within the dispatch timeout: %v, attempts %v", j["state"], j["attempts"])
		}
		time.Sleep(62 * time.Second)
		if id := w.cancelled(); id != rc.JobID {
			t.Errorf("told to stop %s", id)
		}
		if again := w.job(); again.GetJobId() != rc.JobID || again.GetEnv()["CORDUM_ATTEMPT"] != "2" {
			t.Errorf("the next attempt: %v", again)
		}
		time.Sleep(6 * time.Minute)
		j := r.job(rc.JobID)
		if j["state"] != "TIMEOUT" || j["attempts"] != 2.0 || j["error_code"] != "timeout" {
			t.Errorf("without an attempt left: %v, attempts %v, code %v", j["state"], j["attempts"], j["error_code"])
		}
		if id := w.cancelled(); id != rc.JobID {
			t.Errorf("told to stop %s", id)
		}
	})
}

// What is not valid is refused before anything is stored. What an operator or a client of packs writes later is passed over, an entry alone where it is one
// that is wrong; a bare number is the total of a workflow.
func TestT042_T043_TimeoutsThatAreNotValid(t *testing.T) {
	const others = `"reconciler":{"running_timeout_seconds":60}`
	for name, c := range map[string]struct {
		text, logged string
		opens        bool
		ends         time.Duration
	}{
		"T042 a bare number":         {`{"workflows":{"a":180},` + others + `}`, "", true, time.Minute},
		"T043 a negative timeout":    {`{"reconciler":{"running_timeout_seconds":-1}}`, "section refused", false, 15 * time.Minute},
		"T043 one of a topic":        {`{"topics":{"job.other":{"timeout_seconds":-1}},` + others + `}`, "entry passed over", false, time.Minute},
		"a topic that is no object":  {`{"topics":{"job.other":60},` + others + `}`, "entry passed over", false, time.Minute},
		"a workflow with other keys": {`{"workflows":{"a":{"total":1}},` + others + `}`, "entry passed over", false, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Timeouts = []byte(c.text)
			p, err := plane.Open(t.Context(), cfg)
			if c.opens != (err == nil) {
				t.Errorf("a plane opened with it: %v", err)
			}
			if err == nil {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
			said := listenTo(&cfg)
			cfg.Timeouts = []byte("{}")
			virtually(t, cfg, func(t *testing.T, r *rig) {
				r.configure(map[string]string{"timeouts": c.text})
				w := r.connect("k-worker", "w1", "main", 1)
				rc := r.submit()
				w.send(progressOf(w.job().GetJobId()))
				r.within(rc.JobID, "TIMEOUT", c.ends-5*time.Second, c.ends+5*time.Second)
				if c.logged != "" && !said.said(c.logged, "timeouts") || c.logged == "" && (said.said("section refused") || said.said("entry passed over")) {
					t.Errorf("logged, or not: %q", c.logged)
				}
			})
		})
	}
}
