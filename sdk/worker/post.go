package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

// What a worker without a stream says: heartbeats over REST, words and results through the inbox.

// said and done have the post go out.
func (p *Polling) said(*running) { wake(p.news) }

func (p *Polling) done(*outcome) {
	wake(p.news)
	if p.pace() < p.cfg.Heartbeat {
		wake(p.hurry) // somebody waits until it is confirmed
	}
}

// register sends the first heartbeat, for as long as it takes. What it answers when ctx goes on is why the plane does not let the worker in.
func (p *Polling) register(ctx context.Context) error {
	for try := 0; ; try++ {
		err := p.beat(ctx)
		if err == nil || shut(err) {
			return err
		}
		wait := backoff(try)
		p.log.Warn("the plane cannot be reached", "again_in", wait.String(), "error", err)
		if !pause(ctx, wait) {
			return err
		}
	}
}

// pulse sends heartbeats until ctx ends, or until the plane does not let the worker in any more, and answers why.
func (p *Polling) pulse(ctx context.Context) error {
	failures := 0
	for p.untilBeat(ctx, failures) {
		err := p.beat(ctx)
		switch {
		case err == nil:
			failures = 0
		case shut(err):
			return err
		case ctx.Err() == nil:
			failures++
			p.log.Warn("heartbeat not sent", "failures", failures, "error", err)
		}
	}
	return nil
}

// untilBeat waits until it is time for a heartbeat, and answers whether ctx goes on. After a failure that is soon.
func (p *Polling) untilBeat(ctx context.Context, failures int) bool {
	wait := p.pace()
	if failures > 0 {
		wait = min(wait, p.backoff(failures))
	}
	select {
	case <-p.hurry:
		return pause(ctx, min(soon, wait))
	case <-time.After(wait):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// pace is the time between two heartbeats: shorter while somebody waits for results to be confirmed.
func (p *Polling) pace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if (p.draining && len(p.unacked) > 0) || len(p.unacked) >= crowd {
		return min(soon, p.cfg.Heartbeat)
	}
	return p.cfg.Heartbeat
}

// beat sends one heartbeat. It names the jobs that run, which become RUNNING by that, and those whose results the plane may not have taken yet.
// What the plane calls back of the first must stop; what it calls back of the others is confirmed.
func (p *Polling) beat(ctx context.Context) error {
	h := p.heartbeat()
	jobs, results := p.named()
	ids := make([]string, 0, len(jobs)+len(results))
	for _, now := range jobs {
		ids = append(ids, now.id)
	}
	for _, o := range results {
		ids = append(ids, o.id)
	}
	token, cancels, err := p.rest.beat(ctx, h, ids, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = err != nil
	p.busy = h.GetCpuLoad() >= overload || h.GetGpuUtilization() >= overload
	if err != nil {
		return err
	}
	p.token, p.beatAt = token, time.Now()
	for _, now := range jobs {
		if slices.Contains(cancels, now.id) {
			now.cancel(errCancelled)
		}
	}
	for _, o := range results {
		switch {
		case p.unacked[o.id] != o:
		case slices.Contains(cancels, o.id):
			delete(p.unacked, o.id)
		case time.Since(o.sent) >= confirmAfter:
			o.sent = time.Time{}
			wake(p.news)
		}
	}
	p.changed()
	return nil
}

// maxNamed is how many jobs a heartbeat names.
const maxNamed = 1000

// named lists the running jobs, and the results that were sent and not confirmed, the oldest first, as many as a heartbeat takes.
func (p *Polling) named() (jobs []*running, results []*outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, now := range p.jobs {
		jobs = append(jobs, now)
	}
	for _, o := range p.unacked {
		if !o.sent.IsZero() && p.jobs[o.id] == nil {
			results = append(results, o)
		}
	}
	slices.SortFunc(results, func(a, b *outcome) int { return a.sent.Compare(b.sent) })
	return jobs, results[:min(len(results), maxNamed-len(jobs))]
}

// post brings words and results to the inbox until ctx ends.
func (p *Polling) post(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		letters, next := p.letters(time.Now())
		if len(letters) > 0 {
			if err := p.send(ctx, letters); err == nil {
				failures = 0
				continue
			} else if ctx.Err() == nil {
				next = backoff(failures)
				p.log.Warn("inbox cannot be reached", "letters", len(letters), "again_in", next.String(), "error", err)
				failures++
				pause(ctx, next)
				continue
			}
		}
		select {
		case <-p.news:
		case <-time.After(next):
		case <-ctx.Done():
		}
	}
}

// letter is something for the inbox.
type letter struct {
	body string
	sent func() // what to do once it is stored; called under mu
}

// letters lists what is to be sent now, results first, at most a batch of it, and how long there will be nothing else.
func (p *Polling) letters(at time.Time) (letters []letter, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = p.cfg.Heartbeat
	for _, o := range p.unacked {
		if len(letters) < maxBatch && o.sent.IsZero() {
			letters = append(letters, letter{p.body(o.trace, o.attempt, resultPacket(o.result)), func() { o.sent = time.Now() }})
		}
	}
	for _, now := range p.jobs {
		word := now.word
		if len(letters) == maxBatch || word == nil || now.said {
			continue
		}
		if rest := sayEvery - at.Sub(now.saidAt); rest > 0 {
			next = min(next, rest)
			continue
		}
		letters = append(letters, letter{p.body(now.trace, now.attempt, progressPacket(word)), func() {
			now.said, now.saidAt = now.word == word, time.Now()
		}})
	}
	return letters, next
}

// body is what the inbox takes: {"attempt": n, "packet": {…}}. The caller holds p.mu.
func (p *Polling) body(trace string, attempt int, packet *agentv1.BusPacket) string {
	packet = p.envelope(trace, packet)
	packet.AuthToken = p.token
	if err := sign(packet, p.cfg.SigningKey); err != nil {
		panic("worker: packet: " + err.Error()) // its texts are clean, and the key was looked at
	}
	raw, err := protojson.Marshal(packet)
	if err != nil {
		panic("worker: packet: " + err.Error()) // its texts are clean
	}
	text, err := json.Marshal(struct {
		Attempt int             `json:"attempt"`
		Packet  json.RawMessage `json:"packet"`
	}{attempt, raw})
	if err != nil {
		panic("worker: packet: " + err.Error())
	}
	return string(text)
}

// send sends letters together; where that fails one by one, so that none of them holds up the others.
func (p *Polling) send(ctx context.Context, letters []letter) error {
	bodies := make([]string, len(letters))
	for i, l := range letters {
		bodies[i] = l.body
	}
	err := p.deliver(ctx, bodies...)
	if err == nil {
		p.settle(letters...)
		return nil
	}
	if len(letters) == 1 {
		return err
	}
	sent, failed := 0, 0
	for i, l := range letters {
		if err = p.deliver(ctx, bodies[i]); err == nil {
			p.settle(l)
			sent++
		} else if failed++; failed == 2 && sent == 0 {
			break // it is not the letters
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d sent: %w", sent, len(letters), err)
}

func (p *Polling) deliver(ctx context.Context, bodies ...string) error {
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	return p.cfg.Inbox.Send(ctx, bodies...)
}

func (p *Polling) settle(letters ...letter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range letters {
		l.sent()
	}
	p.changed()
}
