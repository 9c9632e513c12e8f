package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
)

// demoWorkflow counts the words of some texts, two at a time, asks a human, and hashes what came of it.
const demoWorkflow = `{"id":"demo.review","name":"Count, look, hash","steps":{
 "count":{"topic":"job.demo.wordcount","for_each":"input.texts","max_parallel":2,"input":{"prompt":"${item}"}},
 "look":{"type":"approval","name":"Publish it?","depends_on":["count"],"input":{"title":"Publish ${length(input.texts)} texts?"}},
 "hash":{"topic":"job.demo.hash","depends_on":["look"],"input":{"prompt":"hash","context":{"text":"${steps.count[0].output.words} words"}}}}}`

var demoTexts = map[string]any{"texts": []string{"the quick brown fox", "jumps over", "the lazy dog"}}

// playWorkflow runs a workflow to its end, and shows what its timeline tells.
func playWorkflow(ctx context.Context, c *client.Client) error {
	if err := c.SaveWorkflow(ctx, json.RawMessage(demoWorkflow)); err != nil {
		return fmt.Errorf("save the workflow: %w", err)
	}
	began := time.Now()
	run, err := c.Start(ctx, "demo.review", demoTexts)
	if err != nil {
		return fmt.Errorf("start a run: %w", err)
	}
	say("→", "POST /workflows/demo.review/runs %s", grey(string(must(json.Marshal(demoTexts)))))
	if _, err := runReaches(ctx, c, run, "waiting"); err != nil {
		return err
	}
	say("→", "POST /workflows/demo.review/runs/%s/steps/look/approve", run)
	if err := c.ApproveStep(ctx, "demo.review", run, "look", true); err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	r, err := runReaches(ctx, c, run, "succeeded")
	if err != nil {
		return err
	}
	events, err := c.Timeline(ctx, run)
	if err != nil {
		return err
	}
	for _, e := range events {
		say("⇠", "%-16s %-9s %s%s", e.Type, e.StepID, e.Status, grey(because(e.Message)))
	}
	say(mark("SUCCEEDED"), "run %s is %s after %s", run, bold(r.Status), time.Since(began).Round(time.Millisecond))
	j, err := c.Get(ctx, r.Steps["hash"].JobID)
	if err != nil {
		return err
	}
	say(" ", "result of hash: %s", grey(short(string(j.Result))))
	const digest = "60d29269c4a45d1d" // the SHA-256 of "4 words" begins so
	if !strings.Contains(string(j.Result), digest) {
		return fmt.Errorf("the result lacks %s", digest)
	}
	return nil
}

// runReaches waits until a run has a status.
func runReaches(ctx context.Context, c *client.Client, run, status string) (client.Run, error) {
	for {
		r, err := c.Run(ctx, run)
		switch {
		case err != nil:
			return r, err
		case r.Status == status:
			return r, nil
		case r.Ended():
			return r, fmt.Errorf("run %s ended %s, not %s", run, r.Status, status)
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("run %s is %s, not %s: %w", run, r.Status, status, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
