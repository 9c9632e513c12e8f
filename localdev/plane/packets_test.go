package plane_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cordum-serverless/cordum/localdev/plane"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// What travels between the plane and its workers: core.md 10 J.

// packet waits for the next packet of a kind.
func (w *raw) packet(of string, is func(*agentv1.BusPacket) bool) *agentv1.BusPacket {
	w.t.Helper()
	for {
		select {
		case p := <-w.in:
			if is(p) {
				return p
			}
		case err := <-w.end:
			w.t.Fatalf("the stream ended: %v", err)
		case <-time.After(10 * time.Minute):
			w.t.Fatalf("no %s came", of)
		}
	}
}

// What cannot be handled comes again after a while; after five times it is a dead letter, and nothing is lost.
func TestT143_AMessageThatCannotBeHandled(t *testing.T) {
	cfg := config()
	var broken atomic.Pointer[string]
	var tries atomic.Int32
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table = breakable{p.Table, &broken, &tries}
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		p := r.poller("k-worker", "p1", "main")
		done := func(id string) {
			p.say(1, "jobResult", map[string]any{"jobId": id, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
		}
		id := r.submit().JobID
		p.claim(p.ticket())
		broken.Store(&id)
		done(id)
		if n := tries.Load(); n != 1 {
			t.Errorf("%d tries at once", n)
		}
		time.Sleep(2 * time.Second)
		if n := tries.Load(); n != 2 {
			t.Errorf("%d tries after two seconds", n)
		}
		broken.Store(nil)
		time.Sleep(3 * time.Second)
		if j := r.job(id); j["state"] != "SUCCEEDED" || len(r.letters("k-admin", "", 10)) != 0 {
			t.Errorf("what came again was not handled: %v", j["state"])
		}

		id = r.submit().JobID
		p.claim(p.ticket())
		broken.Store(&id)
		done(id)
		time.Sleep(20 * time.Second)
		broken.Store(nil)
		all := r.letters("k-admin", "", 10)
		if len(all) != 1 || all[0]["reason_code"] != "undeliverable" || all[0]["queue"] != "inbox" {
			t.Fatalf("dead letters %v", all)
		}
		if j := r.job(id); j["state"] != "DISPATCHED" {
			t.Fatalf("job %v", j["state"])
		}
		r.retry(all[0]["job_id"].(string)).ok(200)
		time.Sleep(time.Second)
		if j := r.job(id); j["state"] != "SUCCEEDED" || len(r.letters("k-admin", "", 10)) != 0 {
			t.Errorf("after its retry: %v", j["state"])
		}
	})
}

// signed is a packet of a sender, with its signature.
func signed(t *testing.T, name string, key *ecdsa.PrivateKey, p *agentv1.BusPacket) *agentv1.BusPacket {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(packet(name, p))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(raw)
	if p.Signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
		t.Fatal(err)
	}
	return p
}

// signers makes keys, and a plane that expects their signatures.
func signers(t *testing.T, names ...string) (plane.Config, map[string]*ecdsa.PrivateKey) {
	t.Helper()
	keys, public := map[string]*ecdsa.PrivateKey{}, map[string]string{}
	for _, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		keys[name], public[name] = key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	text, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	cfg := having("CORDUM_SENDER_KEYS", string(text))
	return cfg, keys
}

func TestT147_PacketsThatAreNotSignedByTheirSenderAreDropped(t *testing.T) {
	cfg, keys := signers(t, "w1", "p1")
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	journal := listenTo(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.stream("k-worker", "w1")
		say := func(p *agentv1.BusPacket) {
			if err := w.stream.Send(p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		beat := func() *agentv1.BusPacket {
			return &agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: &agentv1.Heartbeat{WorkerId: "w1", Pool: "main", MaxParallelJobs: 1}}}
		}
		id := r.submit().JobID
		say(packet("w1", beat())) // unsigned: the worker is not there
		if n := len(w.in); n != 0 || len(w.end) != 0 {
			t.Fatalf("%d packets for a worker that did not sign", n)
		}
		say(signed(t, "w1", keys["w1"], beat()))
		if got := w.job().GetJobId(); got != id {
			t.Fatalf("got %s", got)
		}
		result := func() *agentv1.BusPacket {
			return &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{JobId: id, Status: ok, WorkerId: "w1"}}}
		}
		changed := signed(t, "w1", keys["w1"], result())
		changed.GetJobResult().WorkerId = "w2" // one byte
		bent := signed(t, "w1", keys["w1"], result())
		bent.GetSignature()[len(bent.GetSignature())-1] ^= 1
		for name, p := range map[string]*agentv1.BusPacket{
			"unsigned": packet("w1", result()), "one byte changed": changed, "one byte of the signature changed": bent, "signed by somebody else": signed(t, "w1", stranger, result()),
			"an unknown sender": signed(t, "w9", stranger, result()), "signed as another sender": signed(t, "w1", keys["p1"], result()),
		} {
			say(p)
			if j := r.job(id); j["state"] != "DISPATCHED" || len(w.in) != 0 {
				t.Errorf("%s: %v, %d answers", name, j["state"], len(w.in))
			}
		}
		future := result()
		future.ProtoReflect().SetUnknown([]byte{0xfa, 0x01, 0x01, 0x78}) // is signed like the rest
		say(signed(t, "w1", keys["w1"], future))
		if j := r.job(id); j["state"] != "SUCCEEDED" {
			t.Errorf("signed: %v", j["state"])
		}
		if !journal.said("packet dropped", "sender=w1") || !journal.said("packet dropped", "sender=w9") {
			t.Error("what was dropped is not in the log")
		}
		w.cancel()
		time.Sleep(time.Second)
		p := r.poller("k-worker", "p1", "main")
		id = r.submit().JobID
		if outcome, _, _ := p.claim(ticket{id, 1}); outcome == "claimed" {
			p.say(1, "jobResult", map[string]any{"jobId": id, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
			if j := r.job(id); j["state"] != "DISPATCHED" || !journal.said("packet ignored", "not signed with the key of its sender") {
				t.Errorf("unsigned in the inbox: %v", j["state"])
			}
		} else {
			t.Errorf("claim: %s", outcome)
		}
	})
}

// The SDK signs on every transport.
func TestT147_SignedByTheSDK(t *testing.T) {
	cfg, keys := signers(t, "w1", "p1")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		done := func(key *ecdsa.PrivateKey, state string) {
			t.Helper()
			rc := r.submit()
			stop := r.work(map[string]worker.Handler{"job.test.*": succeed}, func(c *worker.Config) { c.SigningKey = key })
			time.Sleep(20 * time.Second)
			if j := r.job(rc.JobID); j["state"] != state {
				t.Errorf("%v, want %s", j["state"], state)
			}
			stop()
		}
		done(keys["p1"], "SCHEDULED") // not its own key
		done(keys["w1"], "SUCCEEDED")
	})
	virtually(t, cfg, func(t *testing.T, r *rig) {
		h := handling{line: &line{rig: r}, id: "p1", h: succeed}
		polling := h.polling()
		polling.SigningKey = keys["p1"]
		p, err := worker.NewPolling(polling)
		if err != nil {
			t.Fatal(err)
		}
		p.Handle("job.*", succeed)
		h.background(func(ctx context.Context) {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		if j := r.await(r.submit().JobID, "SUCCEEDED"); j["attempts"] != 1.0 {
			t.Errorf("attempts %v", j["attempts"])
		}
	})
}

// A plane that knows no keys asks for no signature, and does not look at one that is there.
func TestT147_WithoutKeysNothingIsChecked(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1) // its heartbeats are unsigned
		id := r.submit().JobID
		w.job()
		w.send(&agentv1.BusPacket{Signature: []byte("rubbish"), Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{JobId: id, Status: ok}}})
		if code := w.answer(id); code != "" {
			t.Errorf("answered %s", code)
		}
	})
}

func TestKeysOfSendersThatAreNotValid(t *testing.T) {
	for _, text := range []string{"x", "[]", `{"w1":"x"}`, `{"w1":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}`} {
		cfg := config()
		cfg.Getenv = func(name string) string { return map[string]string{"CORDUM_SENDER_KEYS": text}[name] }
		if _, err := plane.Open(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), "CORDUM_SENDER_KEYS: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A worker may change its mind: the container lives on.
func TestAStreamThatEndsBeforeItBegan(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, say := range []func(*raw){
			func(*raw) {},
			func(w *raw) { w.send(&agentv1.BusPacket{}) },
			func(w *raw) {
				w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Handshake{Handshake: &agentv1.Handshake{}}})
			},
		} {
			w := r.stream("k-worker", "w1")
			say(w)
			if err := w.stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if err := <-w.end; !errors.Is(err, io.EOF) {
				t.Errorf("the stream ended with %v", err)
			}
		}
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.await(r.submit().JobID, "SUCCEEDED")
	})
}

// A heartbeat never claims more than the worker has slots.
func TestT146_HeartbeatsSayHowManyRun(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		started, release := make(chan *worker.Job, 8), make(chan struct{})
		r.work(map[string]worker.Handler{"job.test.*": block(started, release)}, func(c *worker.Config) { c.MaxParallel = 2 })
		var ids []string
		for range 3 {
			ids = append(ids, r.submit().JobID)
		}
		<-started
		<-started
		time.Sleep(30 * time.Second)
		if len(started) != 0 {
			t.Error("three ran at once")
		}
		close(release)
		for _, id := range ids {
			r.await(id, "SUCCEEDED")
		}
		most := 0.0
		for len(clients.frames) > 0 {
			if b, ok := (<-clients.frames)["heartbeat"].(map[string]any); ok && b["activeJobs"] != nil {
				most = max(most, b["activeJobs"].(float64))
			}
		}
		if most != 2 {
			t.Errorf("heartbeats said up to %v active jobs, want 2", most)
		}
	})
}

// The log says who tried; the audit trail does too, once (audit_test.go).
func TestT150_AResultFromAnotherWorkerIsLogged(t *testing.T) {
	cfg := config()
	said := listenTo(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		holder := r.connect("k-worker-default", "w1", "main", 1)
		id := r.submit().JobID
		holder.job()
		liar := r.connect("k-worker-other", "w2", "main", 1)
		liar.result(id, ok, "")
		liar.answer(id)
		if !said.said("result ignored", "worker=w2", id, `not held by worker \"w2\" of tenant other`) {
			t.Error("it was not logged")
		}
		queued := r.poller("k-worker-other", "p9", "main")
		queued.say(1, "jobResult", map[string]any{"jobId": id, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p9"})
		if !said.said("packet ignored", "sender=p9", id) {
			t.Error("it was not logged of the inbox")
		}
		if j := r.job(id); j["state"] != "DISPATCHED" {
			t.Errorf("job %v", j["state"])
		}
	})
}

// A child is of its parent's trace and workflow in every packet about it, whoever sends it. Workflows will make such parents.
func TestT151_AChildCarriesItsParentsTraceAndWorkflow(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		now := time.Now().UnixMicro()
		parent := &job.Record{
			ID: "run:step@1", State: job.ApprovalRequired, Tenant: "default", Trace: "the-trace", Topic: "job.test.ask", Body: "b", CreatedAt: now, UpdatedAt: now,
			ListedAt: now, ExpiresAt: job.NewExpiry(now),
		}
		body := &job.Body{Request: &agentv1.JobRequest{JobId: parent.ID, Topic: parent.Topic, WorkflowId: "nightly"}}
		if err := r.plane.Dispatcher.Jobs.Create(t.Context(), parent, body, 0); err != nil {
			t.Fatal(err)
		}
		w := r.connect("k-worker", "w1", "main", 2)
		for _, end := range []string{"fails", "is cancelled"} {
			child := r.submit("parent_job_id", parent.ID)
			p := w.packet("job", func(p *agentv1.BusPacket) bool { return p.GetJobRequest() != nil })
			if q := p.GetJobRequest(); p.GetTraceId() != parent.Trace || q.GetWorkflowId() != "nightly" || q.GetParentJobId() != parent.ID {
				t.Errorf("the worker got %v", p)
			}
			if end == "fails" {
				w.result(child.JobID, failed, "X") // its packet names no trace
				w.answer(child.JobID)
				continue
			}
			r.post("/api/v1/jobs/"+child.JobID+"/cancel", nil).ok(200)
			if p := w.packet("cancel", func(p *agentv1.BusPacket) bool { return p.GetJobCancel() != nil }); p.GetTraceId() != parent.Trace {
				t.Errorf("the worker got %v", p)
			}
		}
		time.Sleep(2 * time.Second)
		kinds := map[string]int{}
		for len(clients.frames) > 0 {
			m := <-clients.frames
			if m["heartbeat"] != nil || len(m) == 0 {
				continue
			}
			if m["traceId"] != parent.Trace {
				t.Errorf("frame %v", m)
			}
			for _, kind := range []string{"jobRequest", "jobResult", "jobCancel"} {
				if b, there := m[kind].(map[string]any); there {
					kinds[kind]++
					if kind == "jobRequest" && (b["workflowId"] != "nightly" || b["parentJobId"] != parent.ID) {
						t.Errorf("request %v", b)
					}
				}
			}
		}
		if fmt.Sprint(kinds) != "map[jobCancel:1 jobRequest:2 jobResult:3]" { // a result, its dead letter, and the end of the cancelled one
			t.Errorf("frames %v", kinds)
		}
		var jobs []map[string]any
		r.get("/api/v1/traces/" + parent.Trace).ok(200).json(&jobs)
		if len(jobs) != 3 {
			t.Errorf("the trace has %d jobs", len(jobs))
		}
		for _, j := range jobs {
			if id := j["id"].(string); r.job(id)["workflow_id"] != "nightly" {
				t.Errorf("job %v", r.job(id))
			}
		}
	})
}
