package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// benchFlows are the workflows whose runs are measured: how many run at one time, and how many steps each has.
var benchFlows = []struct {
	name     string
	atOnce   int
	steps    int
	workflow map[string]any
	input    map[string]any
}{
	{"chain3", 8, 3, map[string]any{"id": "bench.chain3", "steps": chainOf(3)}, map[string]any{"text": "abc"}},
	{"chain10", 8, 10, map[string]any{"id": "bench.chain10", "steps": chainOf(10)}, map[string]any{"text": "abc"}},
	{"fan100", 2, 100, map[string]any{"id": "bench.fan100", "steps": map[string]any{
		"each": map[string]any{"topic": "job.demo.hash", "for_each": "input.of", "input": map[string]any{"text": "${item}"}},
	}}, map[string]any{"of": slices.Repeat([]string{"abc"}, 100)}},
}

// chainOf is a chain of jobs.
func chainOf(n int) map[string]any {
	steps := map[string]any{}
	for i := range n {
		s := map[string]any{"topic": "job.demo.hash"}
		if i > 0 {
			s["depends_on"] = []string{fmt.Sprintf("s%02d", i-1)}
		}
		steps[fmt.Sprintf("s%02d", i)] = s
	}
	return steps
}

// sampled is how many runs the time between two steps is taken of.
const sampled = 100

// workflows measures runs, on a plane and a worker that are processes of their own.
func (b *bench) workflows(ctx context.Context) error {
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
	for _, f := range benchFlows {
		if err := b.client.SaveWorkflow(ctx, f.workflow); err != nil {
			return err
		}
		id, _ := f.workflow["id"].(string)
		var usual atomic.Int64
		err := b.measure(ctx, "run_"+f.name, f.atOnce, func(ctx context.Context) error {
			_, err := b.toEnd(ctx, id, f.input, &usual)
			return err
		})
		if err != nil {
			return err
		}
	}
	return b.overhead(ctx)
}

// toEnd takes a run to its end, which is learned by reading it.
func (b *bench) toEnd(ctx context.Context, workflow string, input any, usual *atomic.Int64) (string, error) {
	began := time.Now()
	id, err := b.client.Start(ctx, workflow, input)
	if err != nil {
		return "", err
	}
	time.Sleep(time.Duration(usual.Load())*3/4 - time.Since(began))
	for {
		r, err := b.client.Run(ctx, id)
		switch {
		case err != nil:
			return "", err
		case r.Status == "succeeded":
			usual.Store((usual.Load()*15 + int64(time.Since(began))) / 16)
			return id, nil
		case r.Ended():
			return "", fmt.Errorf("run %s ended %s", id, r.Status)
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// overhead measures what the engine takes for a step: from the end of a step's job to the submission of the next one's.
func (b *bench) overhead(ctx context.Context) error {
	var took []time.Duration
	var usual atomic.Int64
	for range sampled {
		run, err := b.toEnd(ctx, "bench.chain3", benchFlows[0].input, &usual)
		if err != nil {
			return err
		}
		for i := range 2 {
			var ended struct {
				At int64 `json:"updated_at"`
			}
			var next []struct {
				At int64 `json:"checked_at"`
			}
			before, after := url.PathEscape(fmt.Sprintf("%s:s%02d@1", run, i)), url.PathEscape(fmt.Sprintf("%s:s%02d@1", run, i+1))
			if err := b.client.Do(ctx, http.MethodGet, "/jobs/"+before, nil, &ended); err != nil {
				return err
			}
			if err := b.client.Do(ctx, http.MethodGet, "/jobs/"+after+"/decisions", nil, &next); err != nil {
				return err
			}
			if len(next) == 0 {
				return fmt.Errorf("job %s has no decision", after)
			}
			took = append(took, time.Duration(next[len(next)-1].At-ended.At)*time.Microsecond)
		}
	}
	b.spread("step_overhead", took)
	return ctx.Err()
}
