package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
)

// arrival is a frame and when it came.
type arrival struct {
	client.Frame

	at time.Time
}

// events measures how long it takes from a submission until a client that listens has the frame that tells of it.
func (b *bench) events(ctx context.Context) error {
	_, done, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	stream, err := b.client.Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	frames, ended := make(chan arrival, 1000), make(chan error, 1)
	go func() {
		for {
			f, err := stream.Next(ctx)
			if err != nil {
				ended <- err
				return
			}
			frames <- arrival{f, time.Now()}
		}
	}()
	const warm = 20
	var took []time.Duration
	for first := time.Now(); (time.Since(first) < b.cmd.Duration || len(took) <= warm) && ctx.Err() == nil; {
		began := time.Now()
		r, err := b.client.Submit(ctx, benchBody)
		if err != nil {
			return err
		}
		at, err := frameOf(r.JobID, frames, ended)
		if err != nil {
			return err
		}
		took = append(took, at.Sub(began))
	}
	if ctx.Err() == nil {
		b.spread("event_latency", took[warm:])
	}
	return ctx.Err()
}

// frameOf answers when the frame of a job came.
func frameOf(job string, frames <-chan arrival, ended <-chan error) (time.Time, error) {
	missing := time.NewTimer(silence)
	defer missing.Stop()
	for {
		select {
		case f := <-frames:
			if f.JobID == job {
				return f.at, nil
			}
		case err := <-ended:
			return time.Time{}, fmt.Errorf("the stream ended: %w", err)
		case <-missing.C:
			return time.Time{}, fmt.Errorf("the frame of job %s is missing", job)
		}
	}
}

// silence is how long no frame at all comes before those that did not come are missing.
const silence = 15 * time.Second

// life is what a client hears of a job of benchBody, in this order.
var life = []string{"jobRequest", "jobResult"}

// sockets has many clients listen to many jobs, crowd very many to some.
func (b *bench) sockets(ctx context.Context) error {
	return b.live(ctx, "socket", b.cmd.Sockets, b.cmd.Events)
}
func (b *bench) crowd(ctx context.Context) error {
	return b.live(ctx, "crowd", b.cmd.Crowd, max(b.cmd.Events/5, 1))
}

// live counts what clients hear: every frame must reach every client once, in the order of its job.
func (b *bench) live(ctx context.Context, name string, clients, events int) error {
	p, done, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	worker, err := child(ctx, nil, "work", "--target", p.grpc, "--parallel", "64")
	if err != nil {
		return err
	}
	defer worker.stop()
	if err := workersReady(ctx, b.client); err != nil {
		return err
	}
	a := &audience{heard: make([]tally, clients)}
	defer a.leave()
	if err := a.gather(ctx, b.client); err != nil {
		return err
	}
	began := time.Now()
	jobs, err := b.submitMany(ctx, (events+len(life)-1)/len(life))
	if err != nil {
		return err
	}
	all := int64(len(jobs) * len(life) * len(a.heard))
	a.wait(ctx, all)
	a.leave()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.line(name+"_frames_rate", float64(a.frames.Load())/time.UnixMicro(a.last.Load()).Sub(began).Seconds(), "per_s")
	missing, wrong := a.judge(jobs)
	again := 0
	for i := range a.heard {
		again += a.heard[i].again
	}
	b.line(name+"_frames_again", float64(again), "frames")
	b.line(name+"_frames_missing", float64(len(missing)), "frames")
	b.line(name+"_frames_wrong", float64(len(wrong)), "frames")
	if faults := slices.Concat(missing, wrong); len(faults) > 0 {
		return fmt.Errorf("of %d frames for %d clients %d are missing, %d came twice or out of order: %w",
			all, len(a.heard), len(missing), len(wrong), errors.Join(faults[:min(len(faults), 5)]...))
	}
	return nil
}

// submitMany submits n jobs over 16 connections.
func (b *bench) submitMany(ctx context.Context, n int) ([]string, error) {
	jobs, errs := make([]string, n), make([]error, n)
	var next atomic.Int64
	var submitting sync.WaitGroup
	for range 16 {
		submitting.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				var r client.Receipt
				r, errs[i] = b.client.Submit(ctx, benchBody)
				jobs[i] = r.JobID
			}
		})
	}
	submitting.Wait()
	return jobs, errors.Join(errs...)
}

// audience are clients that listen.
type audience struct {
	heard   []tally // by client
	streams []*client.Stream
	reading sync.WaitGroup
	leaving atomic.Bool
	frames  atomic.Int64
	last    atomic.Int64 // the microsecond of the last frame
}

// gather has all clients listen.
func (a *audience) gather(ctx context.Context, c *client.Client) error {
	for i := range a.heard {
		s, err := c.Stream(ctx)
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		a.streams = append(a.streams, s)
		a.reading.Go(func() { a.listen(ctx, s, &a.heard[i]) })
	}
	return nil
}

func (a *audience) listen(ctx context.Context, s *client.Stream, t *tally) {
	for {
		f, err := s.Next(ctx)
		if err != nil {
			if !a.leaving.Load() {
				t.wrong = append(t.wrong, fmt.Errorf("its stream ended: %w", err))
			}
			return
		}
		if t.add(f) {
			a.frames.Add(1)
			a.last.Store(time.Now().UnixMicro())
		}
	}
}

// wait waits until all frames have come, or none comes any more.
func (a *audience) wait(ctx context.Context, all int64) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	seen, since := int64(-1), time.Now()
	for a.frames.Load() < all && time.Since(since) < silence && ctx.Err() == nil {
		if n := a.frames.Load(); n != seen {
			seen, since = n, time.Now()
		}
		<-look.C
	}
}

// leave closes all streams and waits for the clients.
func (a *audience) leave() {
	a.leaving.Store(true)
	var closing sync.WaitGroup
	for _, s := range a.streams {
		closing.Go(s.Close)
	}
	closing.Wait()
	a.reading.Wait()
}

// judge names what did not reach a client, and what did that should not.
func (a *audience) judge(jobs []string) (missing, wrong []error) {
	for i := range a.heard {
		m, w := a.heard[i].judge(jobs)
		for _, err := range m {
			missing = append(missing, fmt.Errorf("client %d: %w", i, err))
		}
		for _, err := range w {
			wrong = append(wrong, fmt.Errorf("client %d: %w", i, err))
		}
	}
	return missing, wrong
}

// tally is what one client has heard: how far it is in the life of each job.
type tally struct {
	heard map[string]int
	wrong []error
	last  map[string]string // the id of the last event of each job
	again int               // what came again, as it may: under the id that it had
}

// add counts a frame; false for one that is not about a job, or comes when it should not.
func (t *tally) add(f client.Frame) bool {
	if f.JobID == "" {
		return false
	}
	if t.heard == nil {
		t.heard, t.last = map[string]int{}, map[string]string{}
	}
	if f.EventID != "" && t.last[f.JobID] >= f.EventID {
		t.again++
		return false
	}
	t.last[f.JobID] = f.EventID
	if n := t.heard[f.JobID]; n == len(life) || life[n] != f.Kind {
		t.wrong = append(t.wrong, fmt.Errorf("job %s: %s comes after %d frames", f.JobID, f.Kind, n))
		return false
	}
	t.heard[f.JobID]++
	return true
}

func (t *tally) judge(jobs []string) (missing, wrong []error) {
	for _, job := range jobs {
		for _, kind := range life[t.heard[job]:] {
			missing = append(missing, fmt.Errorf("job %s: %s is missing", job, kind))
		}
	}
	return missing, t.wrong
}
