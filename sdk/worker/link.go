package worker

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// link is one connection's stream.
type link struct {
	client cordumv1.WorkersClient
	stream cordumv1.Workers_ConnectClient

	mu   sync.Mutex // one sender at a time
	left chan struct{}
	once sync.Once
}

func (l *link) send(p *agentv1.BusPacket) error {
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
func (w *Worker) session(ctx context.Context, client cordumv1.WorkersClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Connect(w.credentials(ctx))
	if err != nil {
		return err
	}
	l := &link{client: client, stream: stream, left: make(chan struct{})}
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
		w.packet(l, p)
	}
}

// attach makes a connection the present one and sends the results that nobody has acknowledged.
func (w *Worker) attach(l *link) {
	w.mu.Lock()
	w.link = l
	var again []*outcome
	for _, o := range w.unacked {
		again = append(again, o)
	}
	w.mu.Unlock()
	if l == nil {
		return
	}
	for _, o := range again {
		w.transmit(l, o)
	}
}

// pulse sends heartbeats, and results that were not acknowledged in time.
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
			w.mu.Lock()
			var late []*outcome
			for _, o := range w.unacked {
				if time.Since(o.sent) >= resendAfter {
					late = append(late, o)
				}
			}
			w.mu.Unlock()
			for _, o := range late {
				w.transmit(l, o)
			}
		}
	}
}

// beat is the worker's heartbeat now. One that drains has as much room as it uses.
func (w *Worker) beat() *agentv1.BusPacket {
	w.mu.Lock()
	active, room := len(w.jobs), w.cfg.MaxParallel
	if w.draining {
		room = max(active, 1)
		active = room
	}
	w.mu.Unlock()
	h := &agentv1.Heartbeat{
		WorkerId: w.cfg.ID, Pool: w.cfg.Pool, Region: w.cfg.Region, Type: w.cfg.Type, Capabilities: w.cfg.Capabilities,
		Labels: maps.Clone(w.cfg.Labels), ActiveJobs: int32(active), MaxParallelJobs: int32(room),
	}
	if w.cfg.Load != nil {
		h.CpuLoad, h.GpuUtilization, h.MemoryLoad = w.cfg.Load()
	}
	return w.envelope("", &agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: h}})
}

func (w *Worker) envelope(trace string, p *agentv1.BusPacket) *agentv1.BusPacket {
	p.TraceId, p.SenderId, p.CreatedAt, p.ProtocolVersion = trace, w.cfg.ID, timestamppb.Now(), 1
	return p
}

// packet handles what the plane sends; what this worker does not know is passed over.
func (w *Worker) packet(l *link, p *agentv1.BusPacket) {
	switch payload := p.GetPayload().(type) {
	case *agentv1.BusPacket_JobRequest:
		w.request(l, p.GetTraceId(), payload.JobRequest)
	case *agentv1.BusPacket_JobCancel:
		w.cancel(payload.JobCancel)
	case *agentv1.BusPacket_JobResult:
		w.acknowledged(payload.JobResult)
	case *agentv1.BusPacket_Alert:
		w.log.Warn("the plane says", "code", payload.Alert.GetCode(), "message", payload.Alert.GetMessage())
	}
}
