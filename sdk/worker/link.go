package worker

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// link is one connection's stream.
type link struct {
	client cordumv1.WorkersClient
	engine cordumv1.ContextEngineClient
	stream cordumv1.Workers_ConnectClient
	key    *ecdsa.PrivateKey

	mu   sync.Mutex // one sender at a time
	left chan struct{}
	once sync.Once
}

func (l *link) send(p *agentv1.BusPacket) error {
	if err := sign(p, l.key); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream.Send(p)
}

// leave closes our side and waits a moment for the plane's.
func (l *link) leave() {
	l.mu.Lock()
	_ = l.stream.CloseSend() // a broken stream is closed already
	l.mu.Unlock()
	select {
	case <-l.left:
	case <-time.After(time.Second):
	}
}

func (l *link) end() { l.once.Do(func() { close(l.left) }) }

// session is the life of one connection. It returns when the stream ends.
func (w *Worker) session(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := cordumv1.NewWorkersClient(conn)
	stream, err := client.Connect(w.credentials(ctx))
	if err != nil {
		return err
	}
	l := &link{client: client, engine: cordumv1.NewContextEngineClient(conn), stream: stream, key: w.cfg.SigningKey, left: make(chan struct{})}
	defer l.end()
	if err := l.send(w.beat()); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv tells why
		return err
	}
	w.attach(l)
	defer w.attach(nil)
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel()
	beating.Go(func() { w.pulse(ctx, l) })
	for {
		p, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errStopped
			}
			return err
		}
		w.packet(p)
	}
}

// present is the connection that there is now, nil for none.
func (w *Worker) present() *link {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link
}

// attach makes a connection the present one and sends the results that nobody has acknowledged. What was said on the one before may be lost: it
// is said again.
func (w *Worker) attach(l *link) {
	w.mu.Lock()
	w.link = l
	var again []*outcome
	for _, o := range w.unacked {
		again = append(again, o)
	}
	for _, now := range w.jobs {
		now.said = false
	}
	w.mu.Unlock()
	if l == nil {
		return
	}
	for _, o := range again {
		w.transmit(l, o)
	}
}

// pulse sends heartbeats, results that were not acknowledged in time, and words on jobs that the plane has not heard.
func (w *Worker) pulse(ctx context.Context, l *link) {
	beat, resend := time.NewTicker(w.cfg.Heartbeat), time.NewTicker(resendAfter)
	defer beat.Stop()
	defer resend.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if err := l.send(w.beat()); err != nil {
				return // Recv ends too, and tells why
			}
		case <-resend.C:
			late, unsaid := w.overdue()
			for _, o := range late {
				w.transmit(l, o)
			}
			for _, now := range unsaid {
				w.speak(l, now)
			}
		}
	}
}

// overdue lists the results that were not acknowledged in time, and the jobs whose word must be said. One that has run for a while without a
// word gets one: its first makes a job RUNNING, and one that never is the plane takes for stuck.
func (w *Worker) overdue() (late []*outcome, unsaid []*running) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.unacked {
		if time.Since(o.sent) >= resendAfter {
			late = append(late, o)
		}
	}
	for _, now := range w.jobs {
		if now.word == nil && !now.began.IsZero() && time.Since(now.began) >= silence {
			now.word = progressOf(now.id, 0, "")
		}
		if now.word != nil && !now.said {
			unsaid = append(unsaid, now)
		}
	}
	return late, unsaid
}

// beat is the worker's heartbeat as a packet.
func (w *Worker) beat() *agentv1.BusPacket {
	return w.envelope("", &agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: w.heartbeat()}})
}

// packet handles what the plane sends; what this worker does not know is passed over.
func (w *Worker) packet(p *agentv1.BusPacket) {
	switch payload := p.GetPayload().(type) {
	case *agentv1.BusPacket_JobRequest:
		w.take(context.Background(), p.GetTraceId(), payload.JobRequest)
	case *agentv1.BusPacket_JobCancel:
		w.revoke(payload.JobCancel.GetJobId())
	case *agentv1.BusPacket_JobResult:
		w.acknowledged(payload.JobResult)
	case *agentv1.BusPacket_Alert:
		w.log.Warn("the plane says", "code", payload.Alert.GetCode(), "message", payload.Alert.GetMessage())
	}
}

// done sends a result.
func (w *Worker) done(o *outcome) {
	if l := w.present(); l != nil {
		w.transmit(l, o)
	}
}

func (w *Worker) transmit(l *link, o *outcome) {
	w.mu.Lock()
	o.sent = time.Now()
	w.mu.Unlock()
	if err := l.send(w.envelope(o.trace, resultPacket(o.result))); err != nil {
		w.log.Debug("result not sent; it goes with the next connection", "job", o.id, "error", err)
	}
}

// acknowledged forgets that a result must be sent. The plane names the job alone, so an answer to an older attempt counts too: it will never
// take that one.
func (w *Worker) acknowledged(res *agentv1.JobResult) {
	if code := res.GetErrorCode(); code != "" {
		w.log.Info("result had no effect", "job", res.GetJobId(), "code", code)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.unacked, res.GetJobId())
	w.changed()
}

// said sends a job's word.
func (w *Worker) said(now *running) {
	if l := w.present(); l != nil {
		w.speak(l, now)
	}
}

func (w *Worker) speak(l *link, now *running) {
	w.mu.Lock()
	word := now.word
	w.mu.Unlock()
	if err := l.send(w.envelope(now.trace, progressPacket(word))); err == nil {
		w.told(now, word)
	}
}

// input reads a job's input from the plane.
func (w *Worker) input(ctx context.Context, r *agentv1.JobRequest) ([]byte, error) {
	res, err := ask(ctx, w, func(l *link) (*cordumv1.ReadContextResponse, error) {
		return l.client.ReadContext(w.credentials(ctx), &cordumv1.ReadContextRequest{JobId: r.GetJobId(), Pointer: r.GetContextPtr()})
	})
	return res.GetData(), err
}

// output brings a payload to the plane.
func (w *Worker) output(ctx context.Context, j *Job, data []byte) (string, error) {
	res, err := ask(ctx, w, func(l *link) (*cordumv1.WriteResultResponse, error) {
		return l.client.WriteResult(w.credentials(ctx), &cordumv1.WriteResultRequest{
			JobId: j.ID, Attempt: int32(j.Attempt), Data: data, ContentType: "application/json",
		})
	})
	if err != nil {
		return "", fmt.Errorf("store result: %w", err)
	}
	return res.GetResultPtr(), nil
}

// ask asks the plane for as long as it takes: through reconnects, until it answers or ctx ends.
func ask[T any](ctx context.Context, w *Worker, call func(*link) (T, error)) (T, error) {
	for try := 0; ; try++ {
		if l := w.present(); l != nil {
			res, err := call(l)
			switch status.Code(err) {
			case codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.Aborted: // later
			default:
				return res, err
			}
		}
		if !pause(ctx, backoff(min(try, 4))) {
			var none T
			return none, context.Cause(ctx)
		}
	}
}
