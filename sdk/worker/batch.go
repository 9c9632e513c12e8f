package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Batch is messages of the pool's queue that somebody else received, such as the event source of a function.
type Batch struct {
	// Messages are the batch; their ids differ.
	Messages []Message
	// Until is when everything that runs must have ended; zero for never. The contexts of handlers end then: a job that has not ended fails, and a
	// handler that goes on for two more seconds is left behind. Nothing that runs is stopped by the context of RunBatch.
	Until time.Time
	// Least is how much time before Until a job must find to be claimed. A message that finds less comes again.
	Least time.Duration
	// Late is the failure of a job that has not ended by Until; nil is the code "out_of_time".
	Late *Error
}

// RunBatch claims the jobs of a batch, runs as many at one time as the worker may, and returns when all have ended and their results are in the
// inbox; meanwhile it sends heartbeats. What keeps running after it is nothing but handlers that were left behind. A claim that had no answer before
// the time was over is asked again by the next call.
//
// again are the ids of the messages that must come again, nil for none: their jobs were not claimed. Every other message is used up, whatever
// became of its job. err says why the plane, or the inbox, could not be reached, or does not let the worker in.
//
// One batch goes on at a time; the next call waits. Between two batches the worker may sleep: it registers again when it wakes.
func (p *Polling) RunBatch(ctx context.Context, b Batch) (again []string, err error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	claiming, base, end := b.contexts(ctx)
	defer end()
	if err := p.arrive(claiming); err != nil {
		for _, m := range b.Messages {
			again = append(again, m.ID)
		}
		if shut(err) {
			return again, refusedErr(err)
		}
		return again, fmt.Errorf("worker: the plane cannot be reached: %w", err)
	}
	live, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	var serving sync.WaitGroup
	var refused error
	serving.Go(func() { refused = p.pulse(live) })
	serving.Go(func() { p.post(live) })
	for _, m := range p.unanswered() {
		p.tickets.Go(func() { p.runOne(claiming, base, m) })
	}
	spent := make([]bool, len(b.Messages))
	for i, m := range b.Messages {
		p.tickets.Go(func() { spent[i] = p.runOne(claiming, base, m) })
	}
	p.tickets.Wait()
	unsent := p.flush(ctx)
	kill()
	serving.Wait()
	if refused != nil {
		refused = refusedErr(refused)
	} else {
		p.part(ctx)
	}
	for i, m := range b.Messages {
		if !spent[i] {
			again = append(again, m.ID)
		}
	}
	return again, errors.Join(refused, unsent)
}

// contexts answers the one in which jobs are claimed, and the one in which they run.
func (b Batch) contexts(ctx context.Context) (claiming, base context.Context, end func()) {
	base = context.WithoutCancel(ctx)
	if b.Until.IsZero() {
		return ctx, base, func() {}
	}
	late := b.Late
	if late == nil {
		late = &Error{Code: "out_of_time", Message: "the worker's time was over before the job ended"}
	}
	base, over := context.WithDeadlineCause(base, b.Until, late)
	claiming, enough := context.WithDeadline(ctx, b.Until.Add(-b.Least))
	return claiming, base, func() { enough(); over() }
}

// runOne runs the job of a message; spent says whether the message is used up.
func (p *Polling) runOne(claiming, base context.Context, m Message) (spent bool) {
	select {
	case p.room <- struct{}{}:
		defer func() { <-p.room }()
	case <-claiming.Done():
		return false
	}
	packet, fate := p.claim(claiming, m, func() {})
	if fate == taken {
		<-p.take(base, packet.GetTraceId(), packet.GetJobRequest())
	}
	return fate == taken || fate == useless
}

// unanswered are the tickets whose claims earlier batches gave up without an answer: their jobs may be this worker's, and their messages may have
// come to others since, who find them gone.
func (p *Polling) unanswered() (messages []Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, body := range p.unsure.order {
		messages = append(messages, Message{Body: body})
	}
	return messages
}

// fresh says whether the plane heard of the worker not long ago.
func (p *Polling) fresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token != "" && time.Since(p.beatAt) < p.cfg.Heartbeat/2
}

// arrive registers the worker, unless it has just been heard.
func (p *Polling) arrive(ctx context.Context) error {
	if p.fresh() {
		return nil
	}
	p.rest.client.CloseIdleConnections() // they do not outlive a long sleep
	return p.register(ctx)
}

// part has the plane wait for what is in the inbox: a worker that was just heard is not lost for half a minute.
func (p *Polling) part(ctx context.Context) {
	if p.fresh() {
		return
	}
	if err := p.beat(ctx); err != nil {
		p.log.Warn("heartbeat not sent", "error", err)
	}
}

// flush waits until all results are in the inbox, or ctx ends.
func (p *Polling) flush(ctx context.Context) error {
	for {
		unsent := 0
		p.mu.Lock()
		for _, o := range p.unacked {
			if o.sent.IsZero() {
				unsent++
			}
		}
		idle := p.idle
		p.mu.Unlock()
		if unsent == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("worker: %d results are not in the inbox: %w", unsent, context.Cause(ctx))
		}
	}
}
