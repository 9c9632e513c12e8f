package stack_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
	"github.com/cordum-serverless/cordum/localdev/demoworker"
	"github.com/cordum-serverless/cordum/localdev/recorder"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

var allPools = []string{demoworker.Pool, demoworker.PoolPolled, demoworker.PoolLambda}

// insist submits jobs as clients should: each under a key of its own, and again when it is not acknowledged. It answers the ids.
func (r *rig) insist(n int) []string {
	r.Helper()
	ids, from := make([]string, n), r.asked
	r.asked += n
	turns := make(chan struct{}, 4) // the emulator is slow
	var submitting sync.WaitGroup
	for i := range n {
		turns <- struct{}{}
		submitting.Go(func() {
			defer func() { <-turns }()
			body := map[string]any{
				"topic": "job.demo.wordcount", "prompt": "one two three", "idempotency_key": "insist-" + strconv.Itoa(from+i),
				"labels": map[string]string{"preferred_pool": allPools[i%len(allPools)]},
			}
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
				rc, err := r.client.Submit(r.Context(), body)
				if err == nil {
					ids[i] = rc.JobID
					return
				}
				if time.Now().After(deadline) {
					r.Errorf("job %d is not taken: %v", i, err)
					return
				}
			}
		})
	}
	submitting.Wait()
	return ids
}

// settled waits until all jobs have succeeded, each with its result.
func (r *rig) settled(ids []string) (attempts int) {
	r.Helper()
	for _, id := range ids {
		j := r.await(id, "SUCCEEDED")
		if !strings.Contains(strings.ReplaceAll(string(j.Result), " ", ""), `"words":3`) {
			r.Errorf("job %s: result %s", id, j.Result)
		}
		attempts += j.Attempts
	}
	return attempts
}

// TestKilled: instances of every function die in the middle of an invocation, before and after what they ask of AWS, and so does the container.
func TestKilled(t *testing.T) {
	r := open(t)
	r.stream()
	r.polled()
	r.settled(r.insist(3))
	victims := []string{"jobs", "inbox", "workers", "scheduler", "sweep", "demo-worker"}
	var strikes []func() int
	for _, name := range victims {
		kill := func() {
			for _, i := range r.Function(name).Instances() {
				if i.Request != "" {
					r.Function(name).Kill(i.ID)
				}
			}
		}
		before, _ := r.Recorder.Inject(recorder.Fault{Caller: name, Every: 7, Times: 2, Before: kill})
		after, _ := r.Recorder.Inject(recorder.Fault{Caller: name, Every: 5, Times: 2, After: kill})
		strikes = append(strikes, before, after)
	}
	ids := r.insist(15)
	r.KillContainer(r.Containers()[0])
	ids = append(ids, r.insist(6)...)
	attempts := r.settled(ids)
	struck := 0
	for _, n := range strikes {
		struck += n()
	}
	crashes := 0
	for _, name := range victims {
		s := r.Function(name).Stats()
		crashes += s.Crashes
		t.Logf("%-12s %3d invocations, %d crashes, %d cold starts", name, s.Invocations, s.Crashes, s.ColdStarts)
	}
	t.Logf("%d strikes, %d crashes; %d jobs in %d attempts", struck, crashes, len(ids), attempts)
	if crashes < 5 || len(r.Containers()) != 1 {
		t.Errorf("%d instances died, %d containers run", crashes, len(r.Containers()))
	}
}

// TestTwice: whatever is sent may arrive twice, since an answer that was lost makes the sender send again. No job runs twice.
func TestTwice(t *testing.T) {
	r := open(t)
	r.stream()
	r.polled()
	lost, _ := r.Recorder.Inject(recorder.Fault{Actions: []string{"sqs:SendMessage"}, Lose: true, Every: 2})
	ids := r.insist(12)
	if attempts := r.settled(ids); attempts != len(ids) {
		t.Errorf("%d jobs in %d attempts", len(ids), attempts)
	}
	// tickets of jobs that have ended, too
	for i, id := range ids {
		err := r.Platform.Queues.Send(t.Context(), resources.Pool(allPools[i%len(allPools)]), queue.Message{Body: fmt.Sprintf(`{"job":%q,"attempt":1}`, id)})
		if err != nil {
			t.Fatal(err)
		}
	}
	r.drained(allPools...)
	if attempts := r.settled(ids); attempts != len(ids) {
		t.Errorf("%d jobs in %d attempts after their tickets came again", len(ids), attempts)
	}
	t.Logf("%d answers were lost", lost())
	if lost() < len(ids) {
		t.Errorf("only %d answers were lost", lost())
	}
}

// drained waits until nothing is in the queues of these pools.
func (r *rig) drained(pools ...string) {
	r.Helper()
	for _, p := range pools {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			n, err := r.Platform.Queues.Depth(r.Context(), resources.Pool(p))
			if err != nil {
				r.Fatal(err)
			}
			if n == 0 {
				break
			}
			if time.Now().After(deadline) {
				r.Fatalf("%d messages stay in the queue of pool %s", n, p)
			}
		}
	}
}

// letter is a dead letter as the API shows it.
type letter struct {
	JobID      string `json:"job_id"`
	ReasonCode string `json:"reason_code"`
	Reason     string `json:"reason"`
}

func (r *rig) letters() []letter {
	r.Helper()
	var list struct{ Items []letter }
	if err := r.client.Do(r.Context(), "GET", "/dlq/page?limit=100", nil, &list); err != nil {
		r.Fatal(err)
	}
	return list.Items
}

// TestPoison: a packet that the inbox can never handle ends as a dead letter that says why, and takes nothing with it. What it said is not lost
// either: the worker says it again until it is heard.
func TestPoison(t *testing.T) {
	r := open(t)
	r.polled()
	poisoned := r.submit(demoworker.PoolPolled, "job.demo.sleep", map[string]any{"ms": 1500, "steps": 1})
	struck, lift := r.Recorder.Inject(recorder.Fault{Caller: "inbox", Contains: poisoned, Fail: true})
	var healthy []string
	for range 4 {
		healthy = append(healthy, r.submit(demoworker.PoolPolled, "job.demo.wordcount", nil))
	}
	r.settled(healthy)
	var found letter
	for deadline := time.Now().Add(2 * time.Minute); found.JobID == ""; time.Sleep(500 * time.Millisecond) {
		for _, l := range r.letters() {
			if l.ReasonCode == "undeliverable" {
				found = l
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no dead letter after %d failures: %+v", struck(), r.letters())
		}
	}
	if found.Reason != "a message could not be handled and was received too often" {
		t.Errorf("%+v", found)
	}
	if j, err := r.client.Get(t.Context(), poisoned); err != nil || j.Ended() {
		t.Errorf("the job ended without its result: %+v, %v", j, err)
	}
	lift()
	r.await(poisoned, "SUCCEEDED")
}

// TestThrottled: for a while the table refuses everybody. What was acknowledged before and meanwhile succeeds.
func TestThrottled(t *testing.T) {
	r := open(t)
	r.stream()
	r.polled()
	ids := r.insist(6)
	table := recorder.Fault{Actions: []string{"dynamodb:*"}, Throttle: true}
	struck, lift := r.Recorder.Inject(table)
	refused := 0
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); refused++ {
		_, err := r.client.Submit(t.Context(), map[string]any{"topic": "job.demo.wordcount", "prompt": "one two three"})
		if said, ok := errors.AsType[*client.Error](err); !ok || said.Status != http.StatusServiceUnavailable {
			t.Errorf("a job that cannot be stored is answered %v", err)
		}
	}
	lift()
	// and then for a while only now and then
	_, calm := r.Recorder.Inject(recorder.Fault{Actions: []string{"dynamodb:*"}, Throttle: true, Every: 4})
	more := r.insist(9)
	r.settled(append(ids, more[6:]...))
	calm()
	r.settled(more)
	t.Logf("%d requests were throttled, %d submissions refused", struck(), refused)
}
