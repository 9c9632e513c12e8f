package plane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
	docs "github.com/cordum-serverless/cordum/shared/core/config"
)

// TestHistories runs workflows of every kind of step to their end and compares what they tell.
func TestHistories(t *testing.T) {
	for name, c := range map[string]struct {
		steps  map[string]any
		input  any
		status string
		// output is that of the steps named, as JSON.
		output map[string]string
		want   string
	}{
		"chain": {
			steps: pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.b", "depends_on", deps("a"), "input", pairs("v", "${steps.a.output.v}"))), status: "succeeded",
			want: `
				step_dispatched a running @1
				run_status running
				step_completed a succeeded @1
				step_dispatched b running @1
				step_completed b succeeded @1
				run_status succeeded`,
		},
		"fan-out, two at a time": {
			steps: pairs("f", stepJob("job.test.b", "for_each", "input.of", "max_parallel", 1)), input: pairs("of", []any{"x", nil}), status: "succeeded",
			want: `
				step_dispatched f[0] running @1
				run_status running
				step_completed f[0] succeeded @1
				step_dispatched f[1] running @1
				step_completed f[1] succeeded @1
				run_status succeeded`,
		},
		"condition, and a step that is skipped": {
			steps: pairs("c", pairs("type", "condition", "condition", "input.n > 3"), "s", stepJob("job.test.a", "depends_on", deps("c"), "condition", "input.n > 9"),
				"e", stepJob("job.test.a", "depends_on", deps("s"))), input: pairs("n", 5), status: "succeeded", output: map[string]string{"c": "true"},
			want: `
				step_condition_evaluated c succeeded
				step_condition_skipped s succeeded
				step_dispatched e running @1
				run_status running
				step_completed e succeeded @1
				run_status succeeded`,
		},
		"switch": {
			steps: pairs("s", pairs("type", "switch", "condition", "input.kind", "input", pairs("cases", pairs("x", "ax", "y", "ay"))),
				"ax", stepJob("job.test.a"), "ay", stepJob("job.test.a")), input: pairs("kind", "y"), status: "succeeded",
			output: map[string]string{"s": `{"matched_case":"y","matched_value":"y","target_step":"ay"}`},
			want: `
				step_switch_evaluated s succeeded
				step_dispatched ay running @1
				run_status running
				step_completed ay succeeded @1
				run_status succeeded`,
		},
		"delay, a notice, a transformation, and what is kept": {
			steps: pairs("d", pairs("type", "delay", "delay_sec", 90), "n", pairs("type", "notify", "depends_on", deps("d"), "input", pairs("message", "hello ${input.who}")),
				"t", pairs("type", "transform", "depends_on", deps("n"), "input", pairs("x", "${input.who}")),
				"w", pairs("type", "storage", "depends_on", deps("t"), "input", pairs("operation", "write", "key", "kept.x", "value", "${steps.t.output.x}")),
				"r", pairs("type", "storage", "depends_on", deps("w"), "input", pairs("operation", "read", "key", "kept.x"))),
			input: pairs("who", "maya"), status: "succeeded", output: map[string]string{"t": `{"x":"maya"}`, "r": `{"key":"kept.x","operation":"read","value":"maya"}`},
			want: `
				step_delay_started d running "delay started"
				run_status running
				step_delay_completed d succeeded "delay completed"
				step_event_emitted n succeeded "hello maya"
				step_transform_completed t succeeded
				step_storage_completed w succeeded
				step_storage_completed r succeeded
				run_status succeeded`,
		},
		"a retry": {
			steps: pairs("a", stepJob("job.test.once-failing", "retry", pairs("max_retries", 1, "initial_backoff_sec", 30))), status: "succeeded",
			want: `
				step_dispatched a running @1
				run_status running
				step_dispatched a running @2
				step_completed a succeeded @2
				run_status succeeded`,
		},
		"an error that is handled": {
			steps: pairs("a", stepJob("job.test.fail", "on_error", "h"), "h", stepJob("job.test.b"), "b", stepJob("job.test.a", "depends_on", deps("a"))), status: "succeeded",
			want: `
				step_dispatched a running @1
				run_status running
				step_completed a failed @1 "not today"
				step_error_redirect a failed "h"
				step_dispatched h running @1
				step_completed h succeeded @1
				step_dispatched b running @1
				step_completed b succeeded @1
				run_status succeeded`,
		},
		"a job that policy denies": {
			steps: pairs("a", stepJob("job.test.wipe", "retry", pairs("max_retries", 3)), "b", stepJob("job.test.a", "depends_on", deps("a"))), status: "denied",
			want: `
				step_dispatched a running @1
				run_status running
				step_completed a denied @1 "nothing may be deleted"
				run_status denied`,
		},
		"a loop": {
			steps: pairs("l", stepJob("job.test.a", "type", "loop", "input", pairs("max_iterations", 2))), status: "succeeded",
			output: map[string]string{"l": `{"iterations":2,"last_output":{"v":1}}`},
			want: `
				step_loop_iteration l running
				step_dispatched l[0] running @1
				run_status running
				step_completed l[0] succeeded @1
				step_loop_iteration l running
				step_dispatched l[1] running @1
				step_completed l[1] succeeded @1
				step_loop_completed l succeeded
				run_status succeeded`,
		},
		"an input that violates the schema of its step": {
			steps: pairs("a", stepJob("job.test.a", "input_schema", pairs("required", deps("x")))), status: "failed",
			want: `
				step_failed a failed "input schema validation failed: '' does not validate with #/required: missing properties: 'x'"
				run_status failed`,
		},
		"a schema that is not registered": {
			steps: pairs("a", stepJob("job.test.a", "input_schema_id", "no/such")), status: "failed",
			want: `
				step_failed a failed "input schema: no/such not found"
				run_status failed`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, config(), func(t *testing.T, r *rig) {
				r.labourers()
				r.saved("w", "steps", c.steps)
				id := r.start("w", c.input)
				run := r.awaitRun(id, c.status)
				r.tells(id, c.want)
				left, _ := run["context"].(map[string]any)
				steps, _ := left["steps"].(map[string]any)
				for s, want := range c.output {
					entry, _ := steps[s].(map[string]any)
					if got, _ := json.Marshal(entry["output"]); string(got) != want {
						t.Errorf("%s left %s, want %s", s, got, want)
					}
				}
			})
		})
	}
}

func TestASubworkflowIsARunOfItsOwn(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("inner", "steps", pairs("x", stepJob("job.test.b", "input", pairs("got", "${input.v}"), "output_path", "found")))
		r.saved("outer", "steps", pairs("sub", pairs("type", "subworkflow", "input", pairs("workflow_id", "inner", "input", pairs("v", "${input.n}"), "output_mapping",
			pairs("r", "${ctx.found.got}"))), "last", stepJob("job.test.b", "depends_on", deps("sub"), "input", pairs("seen", "${steps.sub.output.r}"))))
		id := r.start("outer", pairs("n", 42))
		run := r.awaitRun(id, "succeeded")
		child := fmt.Sprint(stepOf(run, "sub")["job_id"])
		if inner := r.run(child); inner["status"] != "succeeded" || fmt.Sprint(inner["metadata"]) != "map[call_stack:outer parent_run_id:"+id+" parent_step_id:sub]" {
			t.Errorf("%v", inner)
		}
		if got := fmt.Sprint(stepOf(run, "last")["input"]); got != "map[seen:42]" {
			t.Errorf("last saw %s", got)
		}
		r.saved("outer", "steps", pairs("sub", pairs("type", "subworkflow", "input", pairs("workflow_id", "none"))))
		bad := r.awaitRun(r.start("outer", nil), "failed")
		if e := fmt.Sprint(stepOf(bad, "sub")["error"]); !strings.Contains(e, "workflow not found") {
			t.Errorf("%s", e)
		}
		r.saved("inner", "steps", pairs("g", pairs("type", "approval")))
		r.saved("outer", "steps", pairs("sub", pairs("type", "subworkflow", "input", pairs("workflow_id", "inner"))))
		id = r.start("outer", nil)
		child = fmt.Sprint(stepOf(r.awaitRun(id, "running"), "sub")["job_id"])
		r.awaitRun(child, "waiting")
		r.post("/api/v1/workflows/outer/runs/"+id+"/cancel", nil).ok(204)
		r.awaitRun(child, "cancelled")
	})
}

// The step above says what the step below says that its run has failed for.
func TestAFailedSubworkflowSaysWhy(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		long := strings.Repeat("é", 3<<10)
		r.work(map[string]worker.Handler{
			"job.test.a": answering(1), "job.test.fail": failingJob(1 << 20), "job.test.long": func(context.Context, *worker.Job) (any, error) { return nil, errors.New(long) },
		})
		sub := func(workflow string, more ...any) map[string]any {
			return pairs(append(more, "type", "subworkflow", "input", pairs("workflow_id", workflow))...)
		}
		fail := func(more ...any) map[string]any { return stepJob("job.test.fail", more...) }
		for name, c := range map[string]struct {
			steps        map[string]any
			status, want string
			end          func(id string)
		}{
			"a job":                {steps: pairs("x", fail(), "y", pairs("depends_on", deps("x"))), status: "failed", want: "not today"},
			"a job that is denied": {steps: pairs("x", stepJob("job.test.wipe")), status: "denied", want: "nothing may be deleted"},
			"one that waits":       {steps: pairs("a", pairs("type", "condition", "depends_on", deps("x")), "b", stepJob("job.test.a"), "x", pairs("type", "condition", "condition", "true"), "z", pairs("type", "delay", "delay_sec", 90)), status: "failed", want: "condition expression required"},
			"a handler that fails": {steps: pairs("a", fail(), "b", stepJob("job.test.a", "on_error", "a"), "x", pairs("type", "condition", "on_error", "a")), status: "failed", want: "condition expression required"},
			"what was mended":      {steps: pairs("a", fail(), "h", pairs("type", "transform"), "x", pairs("type", "condition", "on_error", "h")), status: "failed", want: "not today"},
			"a child of a list":    {steps: pairs("x", pairs("type", "condition", "for_each", "input.i")), status: "failed", want: "x[0] failed: condition expression required"},
			"a circle":             {steps: pairs("x", sub("outer")), status: "failed", want: "circular workflow reference detected: outer"},
			"two levels":           {steps: pairs("x", sub("bad")), status: "failed", want: "not today"},
			"a time":               {steps: pairs("x", pairs("type", "approval", "timeout_sec", 9)), status: "timed_out", want: "deadline exceeded"},
			"a gate": {steps: pairs("x", pairs("type", "approval"), "y", pairs("type", "delay", "delay_sec", 900)), status: "failed", want: "too dear", end: func(id string) {
				r.post(approvalPath(id+":x@1", "reject"), pairs("reason", "too dear")).ok(200)
			}},
			"a job that is cancelled": {steps: pairs("a", pairs("type", "approval"), "x", stepJob("job.test.ask")), status: "failed", want: "job cancelled", end: func(id string) {
				r.post("/api/v1/jobs/"+url.PathEscape(id+":x@1")+"/cancel", nil).ok(200)
			}},
			"a run that is cancelled": {steps: pairs("x", pairs("type", "approval")), status: "cancelled", want: "run cancelled", end: func(id string) {
				r.post("/api/v1/workflows/inner/runs/"+id+"/cancel", nil).ok(204)
			}},
			"a long text": {steps: pairs("x", stepJob("job.test.long")), status: "failed", want: long[:4<<10]},
		} {
			r.saved("bad", "steps", pairs("x", fail()))
			r.saved("inner", "steps", c.steps)
			r.saved("outer", "steps", pairs("s", pairs("type", "subworkflow", "input", pairs("workflow_id", "inner", "input", pairs("i", []int{1})))))
			id := r.start("outer", nil)
			child := ""
			for child == "" {
				time.Sleep(time.Millisecond)
				child, _ = stepOf(r.run(id), "s")["job_id"].(string)
			}
			if c.end != nil {
				time.Sleep(time.Second)
				c.end(child)
			}
			want := c.status
			if want == "cancelled" {
				want = "failed"
			}
			s := stepOf(r.awaitRun(id, want), "s")
			e, _ := s["error"].(map[string]any)
			if s["status"] != c.status || e["message"] != c.want || e["child_run_id"] != child || e["child_status"] != c.status {
				t.Errorf("%s: %v %v, want %s", name, s["status"], e, c.want)
			}
		}
	})
}

func approvalPath(jobID, how string) string {
	return "/api/v1/approvals/" + strings.NewReplacer(":", "%3A", "@", "%40", "[", "%5B", "]", "%5D").Replace(jobID) + "/" + how
}

func TestA01_A02_A03_AGateThroughBothDoors(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "name", "Pay", "steps", pairs("g", pairs("name", "Pay?", "type", "approval", "input", pairs("amount", "${input.n}", "currency", "EUR")),
			"a", stepJob("job.test.a", "depends_on", deps("g"))))
		stepDoor := func(id string, body any) answer {
			return r.as("k-ada", "POST", "/api/v1/workflows/w/runs/"+id+"/steps/g/approve", body)
		}
		id := r.start("w", pairs("n", 5))
		if run := r.run(id); run["status"] != "waiting" || stepOf(run, "g")["job_id"] != id+":g@1" {
			t.Fatalf("%v", run)
		}
		item := r.get("/api/v1/approvals").ok(200).object()["items"].([]any)[0].(map[string]any)
		for name, want := range map[string]any{
			"job_id": id + ":g@1", "workflow_id": "w", "workflow_run_id": id, "workflow_step_id": "g", "step_name": "Pay?", "gate_type": "workflow_approval",
			"approval_status": "pending", "approval_actionability": "actionable",
		} {
			if item[name] != want {
				t.Errorf("%s is %v, want %v", name, item[name], want)
			}
		}
		if s := item["decision_summary"].(map[string]any); s["title"] != "Pay?" || s["amount"] != "5" || s["currency"] != "EUR" || s["completeness"] != "full" {
			t.Errorf("summary %v", s)
		}
		r.publish(strings.Replace(testPolicy, "tests may", "tests may indeed", 1)) // a gate does not hang on the policy
		stepDoor(id, pairs("approved", true)).ok(204)
		run := r.awaitRun(id, "succeeded")
		if j := r.job(id + ":g@1"); j["state"] != "SUCCEEDED" || stepOf(run, "g")["status"] != "succeeded" {
			t.Errorf("%v", j)
		}
		r.tells(id, `
			step_waiting g waiting @1 "approval requested"
			run_status waiting
			step_approved g succeeded @1
			step_dispatched a running @1
			run_status running
			step_completed a succeeded @1
			run_status succeeded`)
		stepDoor(id, pairs("approved", true)).refused(400, "run terminal")

		id = r.start("w", pairs("n", 6))
		r.as("k-ada", "POST", approvalPath(id+":g@1", "approve"), pairs("reason", "fine")).ok(200)
		r.awaitRun(id, "succeeded")
		r.post(approvalPath(id+":g@1", "reject"), nil).refused(409, "job not awaiting approval")

		id = r.start("w", pairs("n", 7))
		stepDoor(id, pairs()).ok(204)
		if run := r.awaitRun(id, "failed"); stepOf(run, "g")["status"] != "failed" {
			t.Errorf("%v", run)
		}
		r.await(id+":g@1", "DENIED")

		id = r.start("w", pairs("n", 8))
		r.post(approvalPath(id+":g@1", "reject"), pairs("reason", "too much")).ok(200)
		r.awaitRun(id, "failed")
		if h := r.history(id); !slices.Contains(h, `step_rejected g failed @1 "too much"`) {
			t.Errorf("%s", strings.Join(h, "\n"))
		}

		id = r.start("w", pairs("n", 9))
		r.as("k-ada", "POST", "/api/v1/workflows/w/runs/"+id+"/steps/none/approve", pairs("approved", true)).refused(400, "step not found")
		r.as("k-ada", "POST", "/api/v1/workflows/w/runs/"+id+"/steps/a/approve", pairs("approved", true)).refused(400, "step not waiting")
		r.as("k-ada", "POST", "/api/v1/workflows/w/runs/"+id+"/steps/g/approve", nil).refused(400, "invalid body")
		r.as("k-ada", "POST", "/api/v1/workflows/other/runs/"+id+"/steps/g/approve", pairs("approved", true)).refused(404, "run not found")
	})
}

func TestA13_NobodyApprovesForARunThatHasEnded(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("g", pairs("type", "approval"), "a", stepJob("job.test.ask")))
		id := r.start("w", nil)
		r.await(id+":a@1", "APPROVAL_REQUIRED")
		r.post("/api/v1/workflows/w/runs/"+id+"/cancel", nil).ok(204)
		for _, j := range []string{"g", "a"} {
			for _, how := range []string{"approve", "reject"} {
				got := r.as("k-ada", "POST", approvalPath(id+":"+j+"@1", how), nil).ok(409).object()
				if got["code"] != "approval_terminal_run" || got["retryable"] != false {
					t.Errorf("%s %s: %v", how, j, got)
				}
			}
		}
	})
}

func TestManyDecideOneGate(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("g", pairs("type", "approval"), "a", stepJob("job.test.a", "depends_on", deps("g"))))
		id := r.start("w", nil)
		var mu sync.Mutex
		won := map[string]int{}
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				approved := i%3 == 0
				path, body := "/api/v1/workflows/w/runs/"+id+"/steps/g/approve", any(pairs("approved", approved))
				if i%2 == 0 {
					path, body = approvalPath(id+":g@1", map[bool]string{true: "approve", false: "reject"}[approved]), nil
				}
				got := r.as("k-ada", "POST", path, body).Status
				mu.Lock()
				defer mu.Unlock()
				if got == 200 || got == 204 {
					won[fmt.Sprint(approved)]++
				} else if got != 400 && got != 409 {
					t.Errorf("HTTP %d", got)
				}
			})
		}
		all.Wait()
		if len(won) != 1 || won["true"]+won["false"] != 1 {
			t.Fatalf("won: %v", won)
		}
		r.awaitRun(id, map[bool]string{true: "succeeded", false: "failed"}[won["true"] == 1])
	})
}

func TestO20_ResultsThatComeTogetherAllCount(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		steps := pairs("join", stepJob("job.test.a", "depends_on", []string{}))
		var all []string
		for i := range 30 {
			id := fmt.Sprintf("s%02d", i)
			steps[id] = stepJob("job.test.a")
			all = append(all, id)
		}
		steps["join"] = stepJob("job.test.b", "depends_on", all)
		r.saved("w", "steps", steps)
		id := r.start("w", nil)
		r.awaitRun(id, "succeeded")
		ended := 0
		for _, line := range r.history(id) {
			if strings.HasPrefix(line, "step_completed") {
				ended++
			}
		}
		if ended != 31 {
			t.Errorf("%d ends", ended)
		}
	})
}

func TestT045_EveryTryIsAJobOfItsOwn(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("a", stepJob("job.test.fail", "retry", pairs("max_retries", 2, "initial_backoff_sec", 2, "multiplier", 1.5, "max_backoff_sec", 8))))
		id := r.start("w", nil)
		if s := stepOf(r.awaitRun(id, "failed"), "a"); s["attempts"] != 3.0 || s["job_id"] != id+":a@3" {
			t.Errorf("%v", s)
		}
		for i := range 3 {
			r.await(fmt.Sprintf("%s:a@%d", id, i+1), "FAILED")
		}
	})
}

func TestARunWhoseTimeIsOver(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "timeout_sec", 100, "steps", pairs("a", stepJob("job.test.a"), "g", pairs("type", "approval")))
		id := r.start("w", nil)
		time.Sleep(99 * time.Second)
		if s := r.run(id)["status"]; s != "waiting" {
			t.Errorf("too soon: %v", s)
		}
		time.Sleep(3 * time.Second)
		run := r.run(id)
		if fmt.Sprint(run["status"], run["error"], stepOf(run, "a")["status"]) != "timed_outmap[message:workflow run timed out]timed_out" {
			t.Errorf("%v", run)
		}
		r.await(id+":a@1", "CANCELLED")
		r.await(id+":g@1", "CANCELLED")
	})
}

func TestAStepWhoseJobTakesTooLong(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a", "timeout_sec", 20)))
		id := r.start("w", nil)
		r.awaitRun(id, "timed_out")
	})
}

// The time of a gate bounds how long it waits, as that of any step bounds its job. Of it and the end that policy sets for approvals the first one counts.
func TestAGateThatNobodyDecidesInTime(t *testing.T) {
	cfg := config()
	cfg.Sweep = time.Minute
	cfg.Policy = []byte(testPolicy + "approvals: { expire_after: 40s }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.labourers()
		gate := func(seconds int, more ...any) map[string]any {
			return pairs(append(more, "type", "approval", "timeout_sec", seconds)...)
		}
		r.saved("w", "steps", pairs("g", gate(20), "a", stepJob("job.test.a", "depends_on", deps("g"))))
		id := r.start("w", nil)
		if j := r.job(id + ":g@1"); j["state"] != "APPROVAL_REQUIRED" || fmt.Sprint(j["deadline_unix"]) != fmt.Sprint(float64(time.Now().Add(20*time.Second).Unix())) {
			t.Errorf("deadline %v at %d: %v", j["deadline_unix"], time.Now().Unix(), j)
		}
		r.within(id+":g@1", "TIMEOUT", 19*time.Second, 21*time.Second)
		run := r.awaitRun(id, "timed_out")
		if g, a := stepOf(run, "g"), stepOf(run, "a"); g["status"] != "timed_out" || fmt.Sprint(g["error"]) != "map[message:deadline exceeded]" || a["status"] != "skipped" {
			t.Errorf("%v %v", g, a)
		}
		r.post(approvalPath(id+":g@1", "approve"), nil).ok(409)
		r.as("k-ada", "POST", "/api/v1/workflows/w/runs/"+id+"/steps/g/approve", pairs("approved", true)).refused(400, "run terminal")

		// A handler mends it, and a decision in time is all that counts; a longer time than that of policy changes nothing.
		r.saved("w", "steps", pairs("g", gate(20, "on_error", "h"), "h", stepJob("job.test.a")))
		run = r.awaitRun(r.start("w", nil), "succeeded")
		if g, h := stepOf(run, "g"), stepOf(run, "h"); g["status"] != "timed_out" || h["status"] != "succeeded" {
			t.Errorf("%v %v", g, h)
		}
		id = r.start("w", nil)
		time.Sleep(18 * time.Second)
		r.post(approvalPath(id+":g@1", "approve"), nil).ok(200)
		time.Sleep(time.Minute)
		if run := r.run(id); run["status"] != "succeeded" || stepOf(run, "h") != nil {
			t.Errorf("%v", run)
		}
		r.saved("w", "steps", pairs("g", gate(60)))
		id = r.start("w", nil)
		r.within(id+":g@1", "DENIED", 39*time.Second, 41*time.Second)
		r.awaitRun(id, "failed")
	})
}

// The gates of a loop and of a fan-out have the same time each.
func TestTheTimeOfGatesThatAreChildren(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("fan", "steps", pairs("g", pairs("type", "approval", "for_each", "input.i", "timeout_sec", 20)))
		r.saved("loop", "steps", pairs("l", pairs("type", "loop", "input", pairs("body", "g", "max_iterations", 2)), "g", pairs("type", "approval", "timeout_sec", 20)))
		for workflow, child := range map[string]string{"fan": "g[1]", "loop": "l[1]"} {
			id := r.start(workflow, pairs("i", []int{1, 2}))
			first := strings.Replace(child, "1", "0", 1)
			r.post(approvalPath(id+":"+first+"@1", "approve"), nil).ok(200)
			r.awaitRun(id, "failed")
			r.await(id+":"+child+"@1", "TIMEOUT")
		}
	})
}

// Delays from a second to a year.
func TestADelayOfAYear(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("d", pairs("type", "delay", "delay_sec", 365*24*3600)))
		id := r.start("w", nil)
		timers := r.run(id)["timers"].([]any)
		if len(timers) != 1 || timers[0].(map[string]any)["remaining_ms"] != 365*24*3600*1000.0 {
			t.Errorf("%v", timers)
		}
		r.hibernate(cfg, 364*24*time.Hour)
		if s := r.run(id)["status"]; s != "running" {
			t.Errorf("run is %v", s)
		}
		r.hibernate(cfg, 24*time.Hour)
		r.awaitRun(id, "succeeded")
	})
}

func TestOutputsOfEverySize(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": func(ctx context.Context, j *worker.Job) (any, error) {
			var in struct{ N int }
			if err := j.DecodeContext(ctx, &in); err != nil {
				return nil, err
			}
			return map[string]any{"text": strings.Repeat("x", in.N)}, nil
		}})
		r.saved("w", "steps", pairs("a", stepJob("job.test.big", "output_path", "out"),
			"b", pairs("type", "transform", "depends_on", deps("a"), "input", pairs("length", "${length(steps.a.output.text)}"))))
		for _, n := range []int{10, 5_000, 100_000, 300_000} {
			id := r.start("w", pairs("N", n))
			run := r.awaitRun(id, "succeeded")
			left := run["context"].(map[string]any)
			entry := left["steps"].(map[string]any)["a"].(map[string]any)
			inline, _ := entry["output"].(map[string]any)
			text, _ := inline["text"].(string)
			switch {
			case entry["result_ptr"] != "redis://res:"+id+":a@1":
				t.Errorf("%v", entry["result_ptr"])
			case n <= 256<<10 && len(text) != n:
				t.Errorf("%d bytes: %d are shown", n, len(text))
			case n > 256<<10 && (entry["output"] != nil || left["out"] != entry["result_ptr"]):
				t.Errorf("%d bytes: output %.40v, path %.40v", n, entry["output"], left["out"])
			}
		}
		r.post("/api/v1/workflows/w/runs", pairs("x", strings.Repeat("x", 3<<20))).ok(413)
	})
}

func TestAStreamTellsOfRuns(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		mine, other := r.watch("k-admin", "/api/v1/stream"), r.watch("k-other", "/api/v1/stream")
		time.Sleep(2 * time.Second)
		id := r.start("w", nil)
		r.awaitRun(id, "succeeded")
		time.Sleep(2 * time.Second) // what is said has an order of its own
		r.post(runPath(id)+"/chat", pairs("content", "well done")).ok(200)
		time.Sleep(2 * time.Second)
		var told []string
		for len(mine.frames) > 0 {
			m := <-mine.frames
			for _, member := range []string{"workflowEvent", "chatMessage"} {
				if e, ok := m[member].(map[string]any); ok {
					if m["payload"].(map[string]any)[member] == nil {
						t.Errorf("%v", m)
					}
					told = append(told, strings.TrimSpace(fmt.Sprint(e["type"], " ", e["status"], " ", e["content"])))
				}
			}
		}
		want(t, "the stream tells", told, "step_dispatched running <nil>", "run_status running <nil>", "step_completed succeeded <nil>", "run_status succeeded <nil>",
			"<nil> <nil> well done")
		for len(other.frames) > 0 {
			if m := <-other.frames; m["workflowEvent"] != nil || m["chatMessage"] != nil {
				t.Errorf("another tenant hears %v", m)
			}
		}
	})
}

func TestH01_H02_H03_Chat(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("g", pairs("type", "approval")))
		id := r.start("w", nil)
		say := func(key string, fields ...any) map[string]any {
			time.Sleep(time.Second)
			return r.as(key, "POST", runPath(id)+"/chat", pairs(fields...)).ok(200).object()
		}
		if m := say("k-operator", "content", " hello ", "role", "agent"); m["role"] != "user" || m["content"] != "hello" || m["run_id"] != id || m["id"] == "" {
			t.Errorf("%v", m)
		}
		if m := say("k-admin", "content", "x", "role", "assistant", "agent_name", "Loader", "metadata", pairs("rows", 9)); m["role"] != "agent" || fmt.Sprint(m["metadata"]) != "map[rows:9]" {
			t.Errorf("%v", m)
		}
		if m := say("k-admin", "content", "y"); m["role"] != "user" || m["step_id"] != nil {
			t.Errorf("%v", m)
		}
		r.post(runPath(id)+"/chat", pairs("content", "x", "role", "robot")).ok(400)
		r.post(runPath(id)+"/chat", pairs("content", "  ")).refused(400, "content required")
		r.post(runPath(id)+"/chat", pairs("content", strings.Repeat("x", 33<<10))).ok(400)
		r.as("k-viewer", "POST", runPath(id)+"/chat", pairs("content", "x")).ok(403)
		foreign := r.as("k-other", "GET", runPath(id)+"/chat", nil)
		if unknown := r.get(runPath("none") + "/chat"); foreign.Status != 404 || foreign.Body != unknown.Body {
			t.Errorf("%s, %s", foreign.Body, unknown.Body)
		}
		first := r.get(runPath(id) + "/chat?limit=2").ok(200).object()
		items := first["items"].([]any)
		if len(items) != 2 || items[0].(map[string]any)["content"] != "y" || first["next_cursor"] == nil {
			t.Errorf("%v", first)
		}
		second := r.get(runPath(id) + "/chat?limit=2&cursor=" + fmt.Sprint(first["next_cursor"])).ok(200)
		if o := second.object(); len(o["items"].([]any)) != 1 || strings.Contains(second.Body, "next_cursor") {
			t.Errorf("%s", second.Body)
		}
		for i := range 30 {
			say("k-admin", "content", fmt.Sprint(i))
		}
		all := r.get(runPath(id) + "/chat").ok(200).object()["items"].([]any)
		if len(all) != 20 || all[0].(map[string]any)["content"] != "29" || all[19].(map[string]any)["content"] != "10" {
			t.Errorf("%d: %v", len(all), all[0])
		}
	})
}

func TestA08_AStepWhoseJobNeedsAHuman(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("a", stepJob("job.test.ask", "retry", pairs("max_retries", 2)), "b", stepJob("job.test.a", "depends_on", deps("a"))))
		id := r.start("w", nil)
		r.await(id+":a@1", "APPROVAL_REQUIRED")
		if s := r.run(id)["status"]; s != "running" {
			t.Errorf("run is %v: a step that policy looks at is no gate", s)
		}
		r.as("k-ada", "POST", approvalPath(id+":a@1", "approve"), nil).ok(200)
		r.awaitRun(id, "succeeded")
		id = r.start("w", nil)
		r.await(id+":a@1", "APPROVAL_REQUIRED")
		r.post(approvalPath(id+":a@1", "reject"), pairs("reason", "no")).ok(200)
		if run := r.awaitRun(id, "denied"); stepOf(run, "a")["status"] != "denied" || stepOf(run, "a")["attempts"] != 1.0 || stepOf(run, "b")["status"] != "skipped" {
			t.Errorf("%v", run)
		}
		if l := r.get("/api/v1/dlq").ok(200).Body; !strings.Contains(l, id+":a@1") {
			t.Errorf("%s", l)
		}
	})
}

// A cancel meets a result at any moment: the run ends once, and everything of it.
func TestACancelRacesAResult(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": func(context.Context, *worker.Job) (any, error) {
			time.Sleep(10 * time.Millisecond)
			return "done", nil
		}}, func(c *worker.Config) { c.MaxParallel = 64 })
		r.saved("w", "steps", pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.b", "depends_on", deps("a"))))
		ended := map[string]int{}
		for i := range 60 {
			id := r.start("w", nil)
			time.Sleep(time.Duration(i) * 500 * time.Microsecond)
			r.post("/api/v1/workflows/w/runs/"+id+"/cancel", nil).ok(204)
			time.Sleep(time.Second)
			run := r.run(id)
			status := fmt.Sprint(run["status"])
			ended[status]++
			for s, v := range run["steps"].(map[string]any) {
				got := fmt.Sprint(v.(map[string]any)["status"])
				if got != "succeeded" && got != "cancelled" || status == "succeeded" && got != "succeeded" {
					t.Errorf("run %s, step %s %s", status, s, got)
				}
			}
			h := r.history(id)
			if n := len(h) - 1; h[n] != "run_status "+status && h[n] != "run_status "+status+` "run cancelled"` {
				t.Errorf("history ends with %q", h[n])
			}
		}
		if ended["cancelled"] < 10 || ended["succeeded"] < 10 {
			t.Errorf("%v", ended)
		}
	})
}

// Jobs that belong to no run that there is are nobody's business.
func TestResultsForRunsThatAreGone(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		id := r.start("w", nil)
		w := r.connect("k-worker-default", "w1", "main", 1)
		w.job()
		r.as("k-admin", "DELETE", runPath(id), nil).ok(204)
		w.result(id+":a@1", ok, "")
		time.Sleep(5 * time.Minute)
		if left := r.leftOf("R#" + id); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestTheRulesOfAWorkflowHoldForItsRuns(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		steps := pairs("a", stepJob("job.test.a"))
		r.saved("free", "steps", steps)
		r.saved("strict", "steps", steps, "policy_override", "rules: [{id: mine, match: {topics: [job.test.a]}, decision: deny, reason: not in this one}]")
		r.awaitRun(r.start("free", nil), "succeeded")
		run := r.awaitRun(r.start("strict", nil), "denied")
		if e := fmt.Sprint(stepOf(run, "a")["error"]); e != "map[message:not in this one]" {
			t.Errorf("%s", e)
		}
	})
}

// The configuration of a step holds for each of its children, a job that is too large fails its step, and nobody else uses the topics of gates.
func TestWhatHoldsForJobsOfSteps(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.document("step", docs.ID("step", "default", "f"), `{"safety":{"denied_topics":["job.test.b"]}}`)
		r.saved("w", "steps", pairs("f", stepJob("job.test.b", "for_each", "input.of")))
		r.awaitRun(r.start("w", pairs("of", []int{1})), "denied")
		r.saved("large", "steps", pairs("g", stepJob("job.test.a", "for_each", "input.of")))
		if run := r.awaitRun(r.start("large", pairs("of", []string{strings.Repeat("x", 450_000)})), "failed"); !strings.Contains(fmt.Sprint(stepOf(run, "g[0]")["error"]), "too large") {
			t.Errorf("%.300v", stepOf(run, "g[0]"))
		}
		r.post("/api/v1/jobs", pairs("prompt", "x", "topic", "job.cordum.workflow.approval")).refused(400, "topics job.cordum.* are reserved")
	})
}
