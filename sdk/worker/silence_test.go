package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// What the stream worker says by itself, and what it must not say.

func words(s *stream) (all []*agentv1.JobProgress) {
	for len(s.in) > 0 {
		if w := (<-s.in).GetJobProgress(); w != nil {
			all = append(all, w)
		}
	}
	return all
}

func TestAJobThatSaysNothingIsSaidToBeRunning(t *testing.T) {
	run(t, untilDone(5*time.Minute), func(t *testing.T, p *plane, s *stream, _ func()) {
		s.job("j")
		began := time.Now()
		word, packet := next(t, s, (*agentv1.BusPacket).GetJobProgress)
		if d := time.Since(began); d < 10*time.Second || d > 15*time.Second {
			t.Errorf("after %s", d)
		}
		if word.GetJobId() != "j" || word.GetPercent() != 0 || word.GetStatus() != agentv1.JobStatus_JOB_STATUS_RUNNING || packet.GetTraceId() != "trace-j" {
			t.Errorf("packet %v", packet)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if again := words(s); len(again) != 0 {
			t.Errorf("and again %v", again)
		}
		s.end <- status.Error(codes.Unavailable, "shutting down") // it may not have arrived
		s = <-p.streams
		next(t, s, (*agentv1.BusPacket).GetJobProgress)
		s.result(t)
		s.acknowledge("j")
	})
}

func TestAJobThatSaidSomethingIsLeftAlone(t *testing.T) {
	h := func(_ context.Context, j *worker.Job) (any, error) {
		j.Progress(40, "at work")
		time.Sleep(time.Minute)
		return nil, nil
	}
	run(t, h, func(t *testing.T, p *plane, s *stream, _ func()) {
		s.job("j")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if said := words(s); len(said) != 1 || said[0].GetPercent() != 40 {
			t.Errorf("said %v", said)
		}
		s.end <- status.Error(codes.Unavailable, "shutting down")
		s = <-p.streams
		word, _ := next(t, s, (*agentv1.BusPacket).GetJobProgress)
		if word.GetPercent() != 40 || word.GetMessage() != "at work" {
			t.Errorf("after the reconnect %v", word)
		}
		s.result(t)
		s.acknowledge("j")
	})
}

func TestTheResultOfAnAttemptThatWasReplacedIsNotSent(t *testing.T) {
	h := func(ctx context.Context, j *worker.Job) (any, error) {
		if j.Attempt == 1 {
			<-ctx.Done()
			return nil, ctx.Err() // the plane would take this for the second attempt's
		}
		time.Sleep(3 * time.Second)
		return nil, nil
	}
	run(t, h, func(t *testing.T, _ *plane, s *stream, _ func()) {
		s.job("j")
		synctest.Wait()
		s.job("j", "CORDUM_ATTEMPT", "2")
		if r := s.result(t); r.GetStatus() != agentv1.JobStatus_JOB_STATUS_SUCCEEDED {
			t.Errorf("result %v", r)
		}
		s.acknowledge("j")
	})
}
