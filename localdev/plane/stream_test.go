package plane_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// raw is a worker's stream without the SDK: it says whatever the test wants.
type raw struct {
	t      *testing.T
	name   string
	stream cordumv1.Workers_ConnectClient
	client cordumv1.WorkersClient
	ctx    context.Context
	in     chan *agentv1.BusPacket
	end    chan error
	cancel context.CancelFunc
}

// stream opens a stream without saying anything.
func (r *rig) stream(key, name string) *raw { return r.streamTo(r.dial, key, name) }

func (r *rig) streamTo(dial func(context.Context, string) (net.Conn, error), key, name string) *raw {
	r.t.Helper()
	return r.streamWith(dial, metadata.Pairs("x-api-key", key), name)
}

func (r *rig) streamWith(dial func(context.Context, string) (net.Conn, error), md metadata.MD, name string) *raw {
	r.t.Helper()
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.t.Context(), md))
	client := cordumv1.NewWorkersClient(r.connTo(dial))
	stream, err := client.Connect(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	w := &raw{
		t: r.t, name: name, stream: stream, client: client, ctx: ctx, cancel: cancel,
		in: make(chan *agentv1.BusPacket, 1000), end: make(chan error, 1),
	}
	go func() {
		for {
			p, err := stream.Recv()
			if err != nil {
				w.end <- err
				return
			}
			w.in <- p
		}
	}()
	r.t.Cleanup(cancel)
	return w
}

// connect opens a stream and announces a worker with room for so many jobs; it beats every five seconds.
func (r *rig) connect(key, name, pool string, room int32) *raw {
	r.t.Helper()
	return r.connectTo(r.dial, key, name, pool, room)
}

func (r *rig) connectTo(dial func(context.Context, string) (net.Conn, error), key, name, pool string, room int32) *raw {
	r.t.Helper()
	return r.streamTo(dial, key, name).announce(pool, room)
}

// streamAs is connect with a web token.
func (r *rig) streamAs(token, name, pool string, room int32) *raw {
	r.t.Helper()
	return r.streamWith(r.dial, metadata.Pairs("authorization", "Bearer "+token), name).announce(pool, room)
}

func (w *raw) announce(pool string, room int32) *raw {
	w.t.Helper()
	name := w.name
	beat := &agentv1.Heartbeat{WorkerId: name, Pool: pool, MaxParallelJobs: room}
	w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: beat}})
	go func() {
		for {
			select {
			case <-w.ctx.Done():
				return
			case <-time.After(5 * time.Second):
				_ = w.stream.Send(packet(name, &agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: beat}}))
			}
		}
	}()
	return w
}

func packet(name string, p *agentv1.BusPacket) *agentv1.BusPacket {
	p.SenderId, p.CreatedAt = name, timestamppb.Now()
	if p.GetProtocolVersion() == 0 {
		p.ProtocolVersion = 1
	}
	return p
}

func (w *raw) send(p *agentv1.BusPacket) {
	w.t.Helper()
	if err := w.stream.Send(packet(w.name, p)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *raw) result(id string, st agentv1.JobStatus, code string) {
	w.t.Helper()
	w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{
		JobId: id, Status: st, WorkerId: w.name, ErrorCode: code, ErrorMessage: "from " + w.name,
	}}})
}

// job waits for the next request.
func (w *raw) job() *agentv1.JobRequest {
	w.t.Helper()
	for {
		select {
		case p := <-w.in:
			if r := p.GetJobRequest(); r != nil {
				return r
			}
		case err := <-w.end:
			w.t.Fatalf("the stream ended: %v", err)
		case <-time.After(10 * time.Minute):
			w.t.Fatal("no job came")
		}
	}
}

// cancelled waits for the next cancel and answers its job.
func (w *raw) cancelled() string {
	w.t.Helper()
	for {
		select {
		case p := <-w.in:
			if c := p.GetJobCancel(); c != nil {
				return c.GetJobId()
			}
		case err := <-w.end:
			w.t.Fatalf("the stream ended: %v", err)
		case <-time.After(time.Minute):
			w.t.Fatal("no cancel came")
		}
	}
}

// answer waits for the plane's answer to a result: "" or the error code.
func (w *raw) answer(id string) string {
	w.t.Helper()
	for {
		select {
		case p := <-w.in:
			if r := p.GetJobResult(); r != nil && r.GetJobId() == id {
				return r.GetErrorCode()
			}
		case err := <-w.end:
			w.t.Fatalf("the stream ended: %v", err)
		case <-time.After(time.Minute):
			w.t.Fatal("the result was not answered")
		}
	}
}

const ok = agentv1.JobStatus_JOB_STATUS_SUCCEEDED

func TestT061_T068_ResultsForJobsThatDoNotExist(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 4)
		for _, id := range []string{"nobody", "", "redis://res:x"} {
			w.result(id, ok, "")
			if code := w.answer(id); code != "IGNORED" {
				t.Errorf("%q: %q", id, code)
			}
		}
	})
}

func TestT062_T066_StatusesThatNoWorkerMayGive(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 4)
		rc := r.submit()
		id := w.job().GetJobId()
		for _, st := range []agentv1.JobStatus{
			agentv1.JobStatus_JOB_STATUS_RUNNING, agentv1.JobStatus_JOB_STATUS_PENDING, agentv1.JobStatus_JOB_STATUS_UNSPECIFIED, 77,
		} {
			w.result(id, st, "")
			if code := w.answer(id); code != "IGNORED" {
				t.Errorf("%s: %q", st, code)
			}
			if j := r.job(rc.JobID); j["state"] != "DISPATCHED" {
				t.Fatalf("after %s: %v", st, j["state"])
			}
		}
		w.send(progressOf(id))
		r.await(id, "RUNNING")
		w.result(id, agentv1.JobStatus_JOB_STATUS_DENIED, "policy_of_the_worker")
		w.answer(id)
		if j := r.job(rc.JobID); j["state"] != "FAILED" || j["error_code"] != "policy_of_the_worker" {
			t.Errorf("after DENIED: %v %v", j["state"], j["error_code"])
		}
		time.Sleep(time.Second)
		if e := r.letter(id); e["status"] != "JOB_STATUS_FAILED" || e["reason_code"] != "policy_of_the_worker" {
			t.Errorf("letter %v", e)
		}
	})
}

func TestT064_TheFirstResultWins(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 4)
		rc := r.submit()
		id := w.job().GetJobId()
		w.result(id, ok, "")
		first := w.answer(id)
		w.result(id, agentv1.JobStatus_JOB_STATUS_FAILED, "late")
		second := w.answer(id)
		if first != "" || second != "IGNORED" {
			t.Errorf("answers %q and %q", first, second)
		}
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" || j["error_code"] != nil {
			t.Errorf("job %v", j)
		}
	})
}

func TestT150_AResultFromAnotherWorkerIsIgnored(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		holder := r.connect("k-worker-default", "w1", "main", 1)
		rc := r.submit()
		id := holder.job().GetJobId()
		for _, liar := range []*raw{
			r.connect("k-worker-default", "w2", "main", 1), // the same credential, another worker
			r.connect("k-worker-other", "w1", "main", 1),   // the same name, another tenant
			r.connect("k-worker-gpu", "w1", "gpu", 1),      // the same name and tenant, a key for another pool
		} {
			liar.result(id, ok, "")
			if code := liar.answer(id); code != "IGNORED" {
				t.Errorf("%s: %q", liar.name, code)
			}
		}
		if j := r.job(rc.JobID); j["state"] != "DISPATCHED" {
			t.Errorf("job is %v", j["state"])
		}
	})
}

func TestALateResultOfAnOlderAttemptIsRefused(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit()
		id := first.job().GetJobId()
		first.cancel() // gone
		second := r.connect("k-worker", "w2", "main", 1)
		if got := second.job(); got.GetJobId() != id || got.GetEnv()["CORDUM_ATTEMPT"] != "2" {
			t.Fatalf("second attempt %v", got)
		}
		back := r.connect("k-worker", "w1", "main", 1)
		back.result(id, ok, "")
		if code := back.answer(id); code != "IGNORED" {
			t.Errorf("late result: %q", code)
		}
		second.result(id, ok, "")
		second.answer(id)
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" || j["worker_id"] != "w2" || j["attempts"] != 2.0 {
			t.Errorf("job %v", j)
		}
	})
}

func TestT148_BrokenPackets(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		alerts := func(p *agentv1.BusPacket, code string) {
			t.Helper()
			w.send(p)
			got := <-w.in
			if got.GetAlert().GetCode() != code {
				t.Errorf("answer %v, want an alert %s", got, code)
			}
		}
		alerts(&agentv1.BusPacket{ProtocolVersion: 2, Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}, "VERSION_MISMATCH")
		alerts(&agentv1.BusPacket{}, "UNKNOWN_PAYLOAD")
		alerts(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: &agentv1.Heartbeat{WorkerId: "w1"}}}, "MALFORMED_PACKET")
		future := &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{JobId: "nobody", Status: ok}}}
		future.ProtoReflect().SetUnknown([]byte{0xfa, 0x01, 0x01, 0x78}) // field 31, which nobody knows
		w.send(future)
		if code := w.answer("nobody"); code != "IGNORED" {
			t.Errorf("a packet with unknown fields: %q", code)
		}
	})
}

func TestConnectionsThatAreRefused(t *testing.T) {
	cases := []struct {
		name, key string
		first     *agentv1.Heartbeat
		code      codes.Code
	}{
		{"no key", "", &agentv1.Heartbeat{WorkerId: "w", Pool: "main"}, codes.Unauthenticated},
		{"a user's key", "k-user", &agentv1.Heartbeat{WorkerId: "w", Pool: "main"}, codes.PermissionDenied},
		{"a pool that the key does not name", "k-worker-gpu", &agentv1.Heartbeat{WorkerId: "w", Pool: "main"}, codes.PermissionDenied},
		{"no worker id", "k-worker", &agentv1.Heartbeat{Pool: "main"}, codes.InvalidArgument},
		{"no pool", "k-worker", &agentv1.Heartbeat{WorkerId: "w"}, codes.InvalidArgument},
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, c := range cases {
			r.step(c.name, func() {
				w := r.stream(c.key, "w")
				_ = w.stream.Send(packet("w", &agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: c.first}}))
				if err := <-w.end; status.Code(err) != c.code {
					t.Errorf("%v, want %s", err, c.code)
				}
			})
		}
		r.step("a result before a heartbeat", func() {
			w := r.stream("k-worker", "w")
			w.result("x", ok, "")
			if err := <-w.end; status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%v", err)
			}
		})
	})
}

func TestAWorkerReadsOnlyWhatItHolds(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker-default", "w1", "main", 1)
		held := r.submit("context", map[string]string{"a": "b"})
		w.job()
		waiting := r.submit()
		res, err := w.client.ReadContext(w.ctx, &cordumv1.ReadContextRequest{JobId: held.JobID})
		if err != nil || len(res.GetData()) == 0 {
			t.Errorf("its own: %v, %v", res, err)
		}
		for _, req := range []*cordumv1.ReadContextRequest{
			{JobId: waiting.JobID}, {JobId: "nobody"}, {Pointer: "redis://res:" + held.JobID}, {JobId: held.JobID, Pointer: "redis://ctx:" + waiting.JobID},
		} {
			if _, err := w.client.ReadContext(w.ctx, req); status.Code(err) != codes.NotFound {
				t.Errorf("%v: %v", req, err)
			}
		}
		if _, err := w.client.WriteResult(w.ctx, &cordumv1.WriteResultRequest{JobId: waiting.JobID, Data: []byte("{}")}); status.Code(err) != codes.NotFound {
			t.Errorf("a foreign job's result: %v", err)
		}
		other := r.connect("k-worker-other", "w9", "main", 1)
		if _, err := other.client.ReadContext(other.ctx, &cordumv1.ReadContextRequest{JobId: held.JobID}); status.Code(err) != codes.NotFound {
			t.Errorf("another tenant's worker: %v", err)
		}
		api := cordumv1.NewCordumApiClient(r.conn())
		if _, err := api.GetJobStatus(w.ctx, &cordumv1.GetJobStatusRequest{JobId: held.JobID}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a worker asks for a job's status: %v", err)
		}
	})
}

func TestAWorkerOfAnotherTenantGetsNoJob(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		other := r.connect("k-worker-other", "w1", "main", 4)
		rc := r.submit()
		time.Sleep(2 * time.Minute)
		if j := r.job(rc.JobID); j["state"] != "SCHEDULED" || j["attempts"] != 0.0 {
			t.Errorf("job %v", j["state"])
		}
		if len(other.in) != 0 {
			t.Errorf("it got %v", <-other.in)
		}
		own := r.connect("k-worker-default", "w1", "main", 4)
		if got := own.job(); got.GetJobId() != rc.JobID {
			t.Errorf("got %v", got)
		}
	})
}

func TestProgressMakesAJobRunning(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit()
		id := w.job().GetJobId()
		for i, percent := range []int32{40, 20, 250, -5} {
			w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{
				JobId: id, Percent: percent, Message: fmt.Sprint("step ", i),
			}}})
			time.Sleep(2 * time.Second)
			want := []float64{40, 40, 100, 100}[i]
			j := r.job(rc.JobID)
			p, _ := j["progress"].(map[string]any)
			if j["state"] != "RUNNING" || p["percent"] != want || p["message"] != fmt.Sprint("step ", i) {
				t.Errorf("after %d: %v %v", percent, j["state"], p)
			}
		}
	})
}

func writeResult(t *testing.T, w *raw, id, text string) {
	t.Helper()
	res, err := w.client.WriteResult(w.ctx, &cordumv1.WriteResultRequest{JobId: id, Attempt: 1, Data: []byte(text), ContentType: "application/json"})
	if err != nil || res.GetResultPtr() != "redis://res:"+id {
		t.Fatalf("write result: %v, %v", res, err)
	}
}

const failed = agentv1.JobStatus_JOB_STATUS_FAILED

func progressOf(id string) *agentv1.BusPacket {
	return &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{JobId: id, Percent: 1}}}
}
