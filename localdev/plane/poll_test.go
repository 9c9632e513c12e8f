package plane_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// Workers without a stream, in the words of the wire: tickets from the pool's queue, claims and heartbeats over REST, packets into the inbox.

// poller is such a worker.
type poller struct {
	*rig

	key, name, pool string
	token           string
}

func (r *rig) poller(key, name, pool string) *poller {
	r.t.Helper()
	p := &poller{rig: r, key: key, name: name, pool: pool}
	p.beat()
	return p
}

// call is a request without a tenant header: a worker's tenant is its key's.
func (p *poller) call(path string, body any) answer {
	p.t.Helper()
	return p.as(p.key, "POST", "/api/v1/worker/"+path, body, "X-Tenant-ID", "")
}

// beat sends a heartbeat and answers the jobs to stop.
func (p *poller) beat(jobs ...string) []string {
	p.t.Helper()
	var res struct {
		Cancels []struct {
			JobID  string `json:"jobId"`
			Reason string `json:"reason"`
		} `json:"cancels"`
		Token string `json:"session_token"`
	}
	beat := map[string]any{"workerId": p.name, "pool": p.pool, "maxParallelJobs": 4}
	p.call("heartbeat", map[string]any{"heartbeat": beat, "jobs": jobs}).ok(200).json(&res)
	if res.Token == "" || (p.token != "" && res.Token != p.token) {
		p.t.Fatalf("token %q, was %q", res.Token, p.token)
	}
	p.token = res.Token
	var ids []string
	for _, c := range res.Cancels {
		ids = append(ids, c.JobID)
	}
	return ids
}

type ticket struct {
	Job     string `json:"job"`
	Attempt int64  `json:"attempt"`
}

// ticket takes one from the pool's queue.
func (p *poller) ticket() ticket {
	p.t.Helper()
	q := p.plane.Dispatcher.Queues
	msgs, err := q.Receive(p.t.Context(), "pool-"+p.pool, 1, 20*time.Second, 0)
	if err != nil || len(msgs) != 1 {
		p.t.Fatal(len(msgs), err)
	}
	var t ticket
	if err := json.Unmarshal([]byte(msgs[0].Body), &t); err != nil {
		p.t.Fatal(err)
	}
	if err := q.Delete(p.t.Context(), "pool-"+p.pool, msgs[0].Receipt); err != nil {
		p.t.Fatal(err)
	}
	return t
}

// claim answers the outcome, and the request when it is claimed.
func (p *poller) claim(t ticket) (outcome string, request map[string]any, trace string) {
	p.t.Helper()
	return p.claimAs(t, "")
}

// claimAs is claim with a key.
func (p *poller) claimAs(t ticket, key string) (outcome string, request map[string]any, trace string) {
	p.t.Helper()
	var res struct {
		Outcome string `json:"outcome"`
		Packet  struct {
			TraceID string         `json:"traceId"`
			Request map[string]any `json:"jobRequest"`
		} `json:"packet"`
	}
	p.call("claim", p.wish(t, key)).ok(200).json(&res)
	return res.Outcome, res.Packet.Request, res.Packet.TraceID
}

func (p *poller) wish(t ticket, key string) map[string]any {
	return map[string]any{"worker_id": p.name, "job_id": t.Job, "attempt": t.Attempt, "key": key}
}

// say puts a packet into the inbox.
func (p *poller) say(attempt int, member string, body map[string]any, edit ...func(map[string]any)) {
	p.t.Helper()
	packet := map[string]any{"senderId": p.name, "protocolVersion": 1, "authToken": p.token, member: body}
	for _, e := range edit {
		e(packet)
	}
	text, err := json.Marshal(map[string]any{"attempt": attempt, "packet": packet})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.plane.Dispatcher.Queues.Send(p.t.Context(), "inbox", queue.Message{Body: string(text)}); err != nil {
		p.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
}

func TestAWorkerWithoutAStream(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p := r.poller("k-worker-default", "p1", "main")
		rc := r.submit("context", map[string]int{"n": 1})
		tk := p.ticket()
		outcome, request, trace := p.claim(tk)
		if outcome != "claimed" || request["jobId"] != rc.JobID || request["env"].(map[string]any)["CORDUM_ATTEMPT"] != "1" || trace != rc.TraceID {
			t.Fatalf("claim: %s %v", outcome, request)
		}
		if again, _, _ := p.claim(tk); again != "gone" {
			t.Errorf("a second claim: %s", again)
		}
		if j := r.job(rc.JobID); j["state"] != "DISPATCHED" || j["worker_id"] != "p1" {
			t.Errorf("claimed: %v", j["state"])
		}
		var input struct{ Data []byte }
		r.as(p.key, "GET", "/api/v1/worker/jobs/"+url.PathEscape(rc.JobID)+"/context", nil, "X-Tenant-ID", "").ok(200).json(&input)
		var doc struct{ Context map[string]int }
		if err := json.Unmarshal(input.Data, &doc); err != nil || doc.Context["n"] != 1 {
			t.Errorf("input %s %v", input.Data, err)
		}
		p.say(1, "jobProgress", map[string]any{"jobId": rc.JobID, "percent": 30, "message": "on it"})
		if j := r.job(rc.JobID); j["state"] != "RUNNING" || j["progress"].(map[string]any)["percent"] != 30.0 {
			t.Errorf("running: %v %v", j["state"], j["progress"])
		}
		var stored struct {
			Ptr string `json:"result_ptr"`
		}
		p.call("jobs/"+rc.JobID+"/result", map[string]any{"attempt": 1, "data": base64.StdEncoding.EncodeToString([]byte(`{"rows":9}`))}).ok(200).json(&stored)
		p.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_SUCCEEDED", "resultPtr": stored.Ptr, "workerId": "p1", "executionMs": "12"})
		p.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_FAILED", "workerId": "p1"})
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" || j["result"].(map[string]any)["rows"] != 9.0 || j["execution_ms"] != 12.0 {
			t.Errorf("done: %v", j)
		}
	})
}

func TestAClaimThatIsAskedAgainIsAnsweredAsBefore(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		p := r.poller("k-worker-default", "p1", "main")
		p2 := r.poller("k-worker-default", "p2", "main")
		other := r.poller("k-worker-other", "p1", "main") // the same name, in another tenant
		rc := r.submit("context", map[string]string{"long": strings.Repeat("x", 40000)})
		tk := p.ticket()
		s.unread.Store(true) // the claim is written, then its input cannot be read
		p.call("claim", p.wish(tk, "k1")).refused(503, "service unavailable")
		s.unread.Store(false)
		if j := r.job(rc.JobID); j["state"] != "DISPATCHED" || j["worker_id"] != "p1" {
			t.Fatalf("the claim took no effect: %v", j["state"])
		}
		for name, refused := range map[string]func() (string, map[string]any, string){
			"a copy of the ticket":           func() (string, map[string]any, string) { return p.claimAs(tk, "k2") },
			"a copy without a key":           func() (string, map[string]any, string) { return p.claimAs(tk, "") },
			"another worker":                 func() (string, map[string]any, string) { return p2.claimAs(tk, "k1") },
			"the ticket of the next attempt": func() (string, map[string]any, string) { return p.claimAs(ticket{tk.Job, 2}, "k1") },
		} {
			if outcome, _, _ := refused(); outcome != "gone" {
				t.Errorf("%s: %s", name, outcome)
			}
		}
		if outcome, _, _ := other.claimAs(tk, "k1"); outcome != "elsewhere" {
			t.Errorf("another tenant's worker: %s", outcome)
		}
		s.updates.Store(true) // nor while the table does not say whether the claim was written
		p.call("claim", p.wish(tk, "k2")).refused(503, "service unavailable")
		if outcome, _, _ := p.claimAs(tk, "k1"); outcome != "claimed" {
			t.Errorf("asked again while nothing can be written: %s", outcome)
		}
		s.updates.Store(false)
		for range 2 {
			outcome, request, trace := p.claimAs(tk, "k1")
			if outcome != "claimed" || request["jobId"] != rc.JobID || request["env"].(map[string]any)["CORDUM_ATTEMPT"] != "1" || trace != rc.TraceID {
				t.Errorf("asked again: %s %v", outcome, request)
			}
		}
		if j := r.job(rc.JobID); j["attempts"] != 1.0 {
			t.Errorf("attempts %v", j["attempts"])
		}
		p.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
		if outcome, _, _ := p.claimAs(tk, "k1"); outcome != "gone" || r.job(rc.JobID)["state"] != "SUCCEEDED" {
			t.Errorf("asked again after its end: %s", outcome)
		}
		p.call("claim", p.wish(tk, strings.Repeat("k", 65))).refused(400, "key has 65 bytes; it must have at most 64")
	})
}

func TestPacketsOfStrangersAreIgnored(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p := r.poller("k-worker-default", "p1", "main")
		other := r.poller("k-worker-other", "p1", "main")
		rc := r.submit()
		p.claim(p.ticket())
		res := map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"}
		for name, edit := range map[string]func(map[string]any){
			"no token":         func(m map[string]any) { delete(m, "authToken") },
			"another's token":  func(m map[string]any) { m["authToken"] = other.token },
			"a made-up token":  func(m map[string]any) { m["authToken"] = p.token[:len(p.token)-2] + "zz" },
			"another's name":   func(m map[string]any) { m["senderId"] = "p2" },
			"another version":  func(m map[string]any) { m["protocolVersion"] = 2 },
			"no payload":       func(m map[string]any) { delete(m, "jobResult") },
			"an unknown token": func(m map[string]any) { m["authToken"] = "wt1.eA.eA.x" },
		} {
			p.say(1, "jobResult", res, edit)
			if j := r.job(rc.JobID); j["state"] != "DISPATCHED" {
				t.Errorf("%s: %v", name, j["state"])
			}
		}
		p.say(2, "jobResult", res)
		if j := r.job(rc.JobID); j["state"] != "DISPATCHED" {
			t.Errorf("another attempt: %v", j["state"])
		}
		for _, of := range []string{rc.JobID, "nobodys"} { // which nobody can tell apart from one that waits
			if outcome, _, _ := other.claim(ticket{of, 1}); outcome != "elsewhere" {
				t.Errorf("another tenant's claim of a held job, or of none: %s", outcome)
			}
		}
		free := r.submit().JobID
		if outcome, _, _ := other.claim(ticket{free, 1}); outcome != "elsewhere" {
			t.Errorf("another tenant's claim: %s", outcome)
		}
		r.as("k-worker-gpu", "POST", "/api/v1/worker/heartbeat", map[string]any{"heartbeat": map[string]any{"workerId": "x", "pool": "main"}}).refused(403, `this credential may not serve pool "main"`)
		r.as("k-user", "POST", "/api/v1/worker/claim", map[string]any{"worker_id": "x", "job_id": free, "attempt": 1}).refused(403, "access denied")
		r.as("k-admin", "POST", "/api/v1/worker/claim", map[string]any{"worker_id": "x", "job_id": free, "attempt": 1}).refused(403, "this credential may serve no pool")
		p.call("claim", map[string]any{"worker_id": "p1"}).refused(400, "job_id and attempt are required, as the ticket says")
		p.call("heartbeat", map[string]any{}).refused(400, "worker_id is required")
		r.as(other.key, "GET", "/api/v1/worker/jobs/"+rc.JobID+"/context", nil, "X-Tenant-ID", "").refused(404, "job not found")
		p.say(1, "jobResult", res)
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" {
			t.Errorf("its own: %v", j["state"])
		}
	})
}

func TestCancelsComeWithTheHeartbeat(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p := r.poller("k-worker", "p1", "main")
		a, b := r.submit(), r.submit()
		p.claim(p.ticket())
		p.claim(p.ticket())
		if ids := p.beat(a.JobID, b.JobID); len(ids) != 0 {
			t.Errorf("cancels %v", ids)
		}
		if j := r.job(a.JobID); j["state"] != "RUNNING" {
			t.Errorf("a heartbeat that names the job: %v", j["state"])
		}
		r.post("/api/v1/jobs/"+a.JobID+"/cancel", nil).ok(200)
		if ids := p.beat(a.JobID, b.JobID, "nobody"); fmt.Sprint(ids) != fmt.Sprint([]string{a.JobID, "nobody"}) {
			t.Errorf("cancels %v", ids)
		}
	})
}

func TestASilentWorkerWithoutAStreamIsLost(t *testing.T) {
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		p := r.poller("k-worker", "p1", "main")
		rc := r.submit("topic", "job.test.once")
		p.claim(p.ticket())
		r.within(rc.JobID, "SCHEDULED", 25*time.Second, 35*time.Second)
		p.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
		if j := r.job(rc.JobID); j["state"] != "SCHEDULED" {
			t.Errorf("a late result was taken: %v", j["state"])
		}
		q := &poller{rig: r, key: "k-worker", name: "p1", pool: "main"} // it comes back under its name
		q.beat()
		if outcome, request, _ := q.claim(q.ticket()); outcome != "claimed" || request["env"].(map[string]any)["CORDUM_ATTEMPT"] != "2" {
			t.Fatalf("the next attempt: %s %v", outcome, request)
		}
		q.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_FAILED", "workerId": "p1"})
		if j := r.job(rc.JobID); j["state"] != "DISPATCHED" {
			t.Errorf("a result of the first attempt was taken: %v", j["state"])
		}
		q.say(2, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" || j["attempts"] != 2.0 {
			t.Errorf("done: %v", j)
		}
	})
}

func TestAWorkerThatLeavesMayStillHaveResultsOnTheirWay(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p := r.poller("k-worker", "p1", "main")
		rc := r.submit()
		p.claim(p.ticket())
		leave := map[string]any{"heartbeat": map[string]any{"workerId": "p1", "pool": "main"}, "leaving": true}
		p.call("heartbeat", leave).ok(200)
		p.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" {
			t.Errorf("%v", j["state"])
		}
		p.call("heartbeat", leave).ok(200)
		var workers []map[string]any
		r.get("/api/v1/workers").ok(200).json(&workers)
		if len(workers) != 0 {
			t.Errorf("workers %v", workers)
		}
	})
}
