package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	docs "github.com/cordum-serverless/cordum/shared/core/config"
)

// What policy and configuration do to jobs while they are under way.

// instead is the tests' policy with another end of its last rule, which all jobs of job.test.work fall under.
func instead(rule string) string {
	return strings.Replace(testPolicy, "decision: allow\n    reason: tests may", rule, 1)
}

const (
	ruleDenies    = "decision: deny\n    reason: not any more"
	ruleAsks      = "decision: require_approval\n    reason: a human first"
	ruleThrottles = "decision: throttle\n    reason: slowly"
	ruleBoxes     = "decision: allow\n    reason: in a box now\n    constraints: { budgets: { max_runtime_ms: 90000, max_retries: 1 }, redaction_level: high }"
	ruleAllows    = "decision: allow\n    reason: tests still may"
)

func (r *rig) decisions(id string) []map[string]any {
	r.t.Helper()
	var all []map[string]any
	r.get("/api/v1/jobs/" + id + "/decisions").ok(200).json(&all)
	return all
}

// claiming are the ways in which a worker comes to a job that waits. Each has at most one job, and answers its request, or nil.
var claiming = map[string]func(r *rig) func() *agentv1.JobRequest{
	"stream":                      func(r *rig) func() *agentv1.JobRequest { return streamed(r, 0) },
	"stream of another container": func(r *rig) func() *agentv1.JobRequest { return streamed(r, 1) },
	"rest": func(r *rig) func() *agentv1.JobRequest {
		p := r.poller("k-worker-default", "p1", "main")
		tk := p.ticket()
		return func() *agentv1.JobRequest {
			outcome, request, _ := p.claim(tk)
			if (outcome == "claimed") != (request != nil) {
				r.t.Errorf("outcome %s, request %v", outcome, request)
			}
			if request == nil {
				return nil
			}
			env := map[string]string{}
			for name, v := range request["env"].(map[string]any) {
				env[name] = v.(string)
			}
			return &agentv1.JobRequest{JobId: request["jobId"].(string), Env: env}
		}
	},
}

func streamed(r *rig, container int) func() *agentv1.JobRequest {
	return func() *agentv1.JobRequest {
		w := r.connectTo(r.dialer(container), "k-worker", "w1", "main", 1)
		r.t.Cleanup(w.cancel)
		select {
		case p := <-next(w):
			return p
		case <-time.After(20 * time.Second):
			w.cancel()
			return nil
		}
	}
}

func next(w *raw) <-chan *agentv1.JobRequest {
	out := make(chan *agentv1.JobRequest, 1)
	go func() {
		for {
			select {
			case p := <-w.in:
				if j := p.GetJobRequest(); j != nil {
					out <- j
					return
				}
			case <-w.ctx.Done():
				return
			}
		}
	}()
	return out
}

func TestAClaimGoesByThePolicyInForce(t *testing.T) {
	cases := []struct {
		name, rule             string
		state, verdict, reason string
		decisions              int
	}{
		{"denied", ruleDenies, "DENIED", "DENY", "not any more", 2},
		{"asks", ruleAsks, "APPROVAL_REQUIRED", "REQUIRE_APPROVAL", "a human first", 2},
		{"throttled", ruleThrottles, "PENDING", "THROTTLE", "slowly", 2},
		{"boxed", ruleBoxes, "DISPATCHED", "ALLOW_WITH_CONSTRAINTS", "in a box now", 2},
		{"allowed", ruleAllows, "DISPATCHED", "ALLOW", "tests still may", 2},
		{"the same", "", "DISPATCHED", "ALLOW", "tests may", 1},
	}
	for door, come := range claiming {
		for _, c := range cases {
			t.Run(c.name+" by "+door, func(t *testing.T) {
				virtually(t, twoContainers(), func(t *testing.T, r *rig) {
					rc := r.submit()
					if rc.Status != "scheduled" {
						t.Fatalf("%+v", rc)
					}
					claim := come(r)
					if c.rule == "" {
						r.document(docs.OrgScope, "default", `{"budget":{"daily_limit_usd":1.50}}`)
					} else {
						r.publish(instead(c.rule))
					}
					got := claim()
					j := r.job(rc.JobID)
					if c.state != j["state"] && (got == nil || j["state"] != "RUNNING") {
						t.Errorf("state %v", j["state"])
					}
					if (got != nil) != (c.state == "DISPATCHED") {
						t.Fatalf("the worker got %v", got)
					}
					all := r.decisions(rc.JobID)
					if len(all) < c.decisions || len(all) > c.decisions && c.verdict != "THROTTLE" || all[0]["decision"] != c.verdict ||
						all[0]["reason"] != c.reason || all[len(all)-1]["decision"] != "ALLOW" {
						t.Errorf("decisions %v", all)
					}
					if c.verdict == "DENY" {
						if l := r.letter(rc.JobID); l["reason_code"] != "safety_denied" || l["reason"] != "not any more" {
							t.Errorf("letter %v", l)
						}
					} else if l := r.letter(rc.JobID); l != nil {
						t.Errorf("letter %v", l)
					}
					if c.verdict == "REQUIRE_APPROVAL" && (j["approval_required"] != true || j["safety_job_hash"] == "") {
						t.Errorf("job %v", j)
					}
					if got == nil {
						return
					}
					env := got.GetEnv()
					if boxed := c.name == "boxed"; (env["CORDUM_MAX_RETRIES"] == "1") != boxed || (env["CORDUM_REDACTION_LEVEL"] == "high") != boxed ||
						(j["deadline_unix"] != nil) != boxed {
						t.Errorf("env %v, deadline %v", env, j["deadline_unix"])
					}
					if c.rule == "" && env["CORDUM_EFFECTIVE_CONFIG"] != `{"budget":{"daily_limit_usd":1.50}}` {
						t.Errorf("effective config %q", env["CORDUM_EFFECTIVE_CONFIG"])
					}
				})
			})
		}
	}
}

func TestANextAttemptGoesByThePolicyInForce(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit()
		w := r.connect("k-worker", "w1", "main", 1)
		if got := w.job().GetJobId(); got != rc.JobID {
			t.Fatal(got)
		}
		r.publish(instead(ruleDenies))
		w.cancel() // it is gone for good
		r.connect("k-worker", "w2", "main", 1)
		if j := r.await(rc.JobID, "DENIED"); j["attempts"] != 1.0 || j["safety_reason"] != "not any more" {
			t.Errorf("%v", j)
		}
	})
}

func TestAJobThatIsHeldRunsToItsEnd(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit()
		w.job()
		r.publish(instead(ruleDenies))
		w.result(rc.JobID, ok, "")
		r.await(rc.JobID, "SUCCEEDED")
	})
}

func TestAThrottledJobRunsWhenThePolicyLetsIt(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.publish(instead(ruleThrottles + "\n    throttle_duration: 50s"))
		rc := r.submit()
		if rc.Status != "pending" || rc.Reason != "slowly" {
			t.Fatalf("%+v", rc)
		}
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		for i, after := range []time.Duration{0, 48 * time.Second, 5 * time.Second, 44 * time.Second} { // a pause is never shorter than the rule's
			time.Sleep(after)
			want := []int{1, 1, 2, 2}[i]
			if n := len(r.decisions(rc.JobID)); n != want {
				t.Errorf("%d decisions in step %d, want %d", n, i, want)
			}
		}
		r.publish(testPolicy)
		r.await(rc.JobID, "SUCCEEDED")
	})
}

func TestJobsRunThroughManyPublishes(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		var ran atomic.Int32
		count := func(context.Context, *worker.Job) (any, error) { ran.Add(1); return nil, nil }
		for n := range 2 {
			r.work(map[string]worker.Handler{"job.test.*": count}, func(c *worker.Config) {
				c.ID, c.MaxParallel = fmt.Sprintf("w%d", n), 2
				c.DialOptions = []grpc.DialOption{grpc.WithContextDialer(r.dialer(n))}
			})
		}
		var ids []string
		for n := range 60 {
			ids = append(ids, r.submit().JobID)
			switch n % 3 {
			case 0:
				r.publish(fmt.Sprintf("%s# %d\n", testPolicy, n))
			case 1:
				r.document(docs.OrgScope, "default", fmt.Sprintf(`{"n":%d}`, n))
			}
		}
		for _, id := range ids {
			r.await(id, "SUCCEEDED")
		}
		if n := ran.Load(); n != 60 {
			t.Errorf("%d runs of 60 jobs", n)
		}
	})
}

func TestF09_T112_T113_EffectiveConfigurationAtEveryDoor(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const denied = "topic 'job.test.work' denied by effective config"
		verdict := func(key string, q map[string]any) any {
			t.Helper()
			q["topic"] = "job.test.work"
			got := r.as(key, "POST", "/api/v1/policy/evaluate", q).ok(200).object()
			if got["decision"] == "DECISION_TYPE_DENY" {
				return got["reason"]
			}
			return got["decision"]
		}
		const allow = "DECISION_TYPE_ALLOW"
		type q = map[string]any
		r.step("of an organisation", func() {
			r.document(docs.OrgScope, "default", `{"safety":{"denied_topics":["job.test.w*"]}}`)
			if got := verdict("k-admin", q{}); got != denied {
				t.Errorf("%v", got)
			}
			if got := verdict("k-other", q{}); got != allow {
				t.Errorf("the other tenant: %v", got)
			}
			if rc := r.submit(); rc.Status != "denied" || rc.Reason != denied {
				t.Errorf("%+v", rc)
			}
			if rc := r.submitAs("k-other"); rc.Status != "scheduled" {
				t.Errorf("the other tenant: %+v", rc)
			}
			ctx, kernel := r.kernel("k-admin")
			for name, c := range map[string]*agentv1.PolicyCheckRequest{denied: {Topic: "job.test.work"}, "tests may": {Topic: "job.test.work", EffectiveConfig: []byte("{}")}} {
				if got, err := kernel.Check(ctx, c); err != nil || got.GetReason() != name {
					t.Errorf("check: %v %v", got, err)
				}
			}
			if got := verdict("k-admin", q{"effective_config": q{}}); got != allow {
				t.Errorf("a given configuration is not taken as it is: %v", got)
			}
			if got := r.post("/api/v1/policy/explain", q{"topic": "job.test.work"}).ok(200).object()["trace"].([]any); got[len(got)-1].(q)["ruleId"] != "effective_config" ||
				got[len(got)-1].(q)["firstFailedField"] != "denied_topics" {
				t.Errorf("%v", got)
			}
		})
		r.step("T-113 the whole section of a later scope counts", func() {
			r.document(docs.SystemScope, docs.DefaultID, system(r, `{"denied_topics":["job.test.work"],"allowed_topics":["job.never"]}`))
			r.document(docs.OrgScope, "default", `{"safety":{"mcp":{"deny_tools":["rm"]}}}`)
			if got := verdict("k-admin", q{}); got != allow {
				t.Errorf("%v", got)
			}
			if got := verdict("k-admin", q{"labels": q{"mcp.tool": "RM"}}); got != `mcp tool "RM" denied` {
				t.Errorf("%v", got)
			}
			if got := verdict("k-other", q{}); got != denied {
				t.Errorf("the other tenant has the system's: %v", got)
			}
			r.document(docs.SystemScope, docs.DefaultID, system(r, "{}"))
			r.document(docs.OrgScope, "default", `{}`)
		})
		r.step("of a team, a workflow, a step", func() {
			for scope, member := range map[string]string{docs.TeamScope: "team_id", docs.WorkflowScope: "workflow_id", docs.StepScope: "step_id"} {
				r.document(scope, docs.ID(scope, "default", "x"), `{"safety":{"denied_topics":["job.test.*"]}}`)
				for name, c := range map[string]struct {
					key  string
					ask  q
					want any
				}{
					"it": {"k-admin", q{member: "x"}, denied}, "another": {"k-admin", q{member: "y"}, allow}, "none": {"k-admin", q{}, allow},
					"of the other tenant": {"k-other", q{member: "x"}, allow},
				} {
					if got := verdict(c.key, c.ask); got != c.want {
						t.Errorf("%s, %s: %v", scope, name, got)
					}
				}
			}
			if rc := r.submit("team_id", "x"); rc.Reason != denied {
				t.Errorf("%+v", rc)
			}
			if rc := r.submit("team_id", "y"); rc.Status != "scheduled" {
				t.Errorf("%+v", rc)
			}
			r.document(docs.StepScope, docs.ID(docs.StepScope, "default", "x"), `{"safety":{}}`)
			if got := verdict("k-admin", q{"team_id": "x", "step_id": "x"}); got != allow {
				t.Errorf("the step's section replaces the team's: %v", got)
			}
		})
		r.step("T-112 what cannot be understood denies", func() {
			for _, text := range []string{`{"safety":"none"}`, `{"safety":{"denied_topics":"job.x"}}`, `{"safety":{"mcp":{"deny_tool":["x"]}}}`, `{"safety":{"denied_topics":["["]}}`} {
				r.document(docs.OrgScope, "default", text)
				if got := verdict("k-admin", q{}); got != "effective config is not valid" {
					t.Errorf("%s: %v", text, got)
				}
				if rc := r.submit(); rc.Status != "denied" || rc.Reason != "effective config is not valid" {
					t.Errorf("%s: %+v", text, rc)
				}
			}
			for _, text := range []string{`{"safety":null}`, `{"safety":{"unknown":1}}`, `{"data":{"safety":{}}}`} {
				r.document(docs.OrgScope, "default", text)
				if got := verdict("k-admin", q{}); got != allow {
					t.Errorf("%s: %v", text, got)
				}
			}
			r.document(docs.OrgScope, "default", `{"safety":null,"data":{"safety":{"allowed_topics":["job.x"]}}}`)
			if got := verdict("k-admin", q{}); got != "topic 'job.test.work' not allowed by effective config" {
				t.Errorf("%v", got)
			}
		})
	})
}

// system is the document system/default as it is, with another safety section.
func system(r *rig, safety string) string {
	r.t.Helper()
	d, err := (&docs.Store{Table: r.plane.Dispatcher.Jobs.Table}).Get(r.t.Context(), docs.SystemScope, docs.DefaultID)
	if err != nil {
		r.t.Fatal(err)
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(d.Data, &members); err != nil {
		r.t.Fatal(err)
	}
	members["safety"] = json.RawMessage(safety)
	text, err := json.Marshal(members)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func TestAConfigurationOutOfReachLetsAJobWait(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.config.Store(true)
		rc := r.submit("team_id", "new")
		if rc.Status != "pending" || rc.Reason != "safety kernel unavailable" || r.decisions(rc.JobID)[0]["decision"] != "UNAVAILABLE" {
			t.Errorf("%+v", rc)
		}
		time.Sleep(10 * time.Second)
		r.job(rc.JobID)
		s.config.Store(false)
		r.await(rc.JobID, "SCHEDULED")
		s.policy.Store(true) // and nobody gets it while the policy cannot be asked
		w := r.connect("k-worker", "w1", "main", 1)
		got := next(w)
		select {
		case j := <-got:
			t.Errorf("handed over: %v", j)
		case <-time.After(20 * time.Second):
		}
		s.policy.Store(false)
		if j := <-got; j.GetJobId() != rc.JobID {
			t.Errorf("%v", j)
		}
	})
}

func TestWorkersGetTheEffectiveConfiguration(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		jobs := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		run := func(fields ...any) string {
			t.Helper()
			rc := r.submit(fields...)
			j := <-jobs
			if j.ID != rc.JobID {
				t.Fatalf("%s is not %s", j.ID, rc.JobID)
			}
			return j.Request.GetEnv()["CORDUM_EFFECTIVE_CONFIG"]
		}
		if got := run(); got != "" {
			t.Errorf("pools and timeouts are not for workers: %s", got)
		}
		r.document(docs.OrgScope, "default", `{"models":{"b":1,"a":2.0},"safety":{}}`)
		r.document(docs.TeamScope, docs.ID(docs.TeamScope, "default", "core"), `{"budget":null,"models":{"default_model":"m"}}`)
		if got := run(); got != `{"models":{"a":2.0,"b":1},"safety":{}}` {
			t.Errorf("%s", got)
		}
		if got := run("team_id", "core"); got != `{"budget":null,"models":{"default_model":"m"},"safety":{}}` {
			t.Errorf("%s", got)
		}
	})
}

func TestAConfigurationBetweenSubmitAndClaim(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		a, b := r.submit(), r.submit("topic", "job.test.brief")
		r.configure(map[string]string{"timeouts": `{"topics":{"job.test.brief":{"timeout_seconds":30}}}`, "pools": `{"topics":{"job.test.*":"elsewhere"}}`})
		jobs := make(chan *worker.Job, 2)
		stop := r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		for _, id := range []string{a.JobID, b.JobID} {
			r.await(id, "SUCCEEDED")
			if n := len(r.decisions(id)); n != 1 {
				t.Errorf("%d decisions: pools and timeouts decide nothing", n)
			}
		}
		stop()
		r.configure(map[string]string{"pools": `{"topics":{"job.test.*":"main"}}`})
		c := r.submit()
		r.document(docs.OrgScope, "default", `{"safety":{"allowed_topics":["job.other"]}}`)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		if j := r.await(c.JobID, "DENIED"); j["safety_reason"] != "topic 'job.test.work' not allowed by effective config" || j["attempts"] != nil && j["attempts"] != 0.0 {
			t.Errorf("%v", j)
		}
	})
}

// fast is a policy that throttles whoever is faster than three a minute.
func fast(key, more string) string {
	return `
default_decision: allow
rules:
  - id: fast
    match: { topics: ["job.test.*"] }
    velocity: { max_requests: 3, window_seconds: 60, key: "` + key + `" }
    decision: ` + more + "\n"
}

func TestVelocities(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		now := func(fields ...any) string { t.Helper(); return r.submit(fields...).Status }
		r.step("a window slides", func() {
			r.publish(fast("tenant", "deny\n    reason: too fast"))
			for n := range 6 { // more than three are there already from the fifth on
				want := "scheduled"
				if n > 3 {
					want = "denied"
				}
				for range 10 { // looking does not count
					got := r.evaluate(map[string]any{"topic": "job.test.work"})["decision"]
					if (got == "DECISION_TYPE_DENY") != (want == "denied") {
						t.Errorf("evaluate before %d: %v", n, got)
					}
				}
				if got := now(); got != want {
					t.Errorf("%d: %s", n, got)
				}
				time.Sleep(time.Second)
			}
			time.Sleep(40 * time.Second)
			if got := now(); got != "denied" {
				t.Errorf("within the window: %s", got)
			}
			time.Sleep(61 * time.Second) // 60 and a slice: only the last is left
			if got := now(); got != "scheduled" {
				t.Errorf("after it: %s", got)
			}
		})
		r.step("by what is in the key", func() {
			r.publish(fast("actor_id:labels.repo", "deny\n    reason: too fast"))
			for _, who := range []string{"ann", "bob"} {
				for _, repo := range []string{"a", "b"} {
					for n := range 5 {
						if got := now("actor_id", who, "labels", map[string]string{"repo": repo}); (got == "denied") != (n > 3) {
							t.Errorf("%s %s %d: %s", who, repo, n, got)
						}
					}
				}
			}
		})
		r.step("Check counts, the others do not", func() {
			r.publish(fast("capability", "deny\n    reason: too fast"))
			ctx, kernel := r.kernel("k-admin")
			q := &agentv1.PolicyCheckRequest{Topic: "job.test.work", Meta: &agentv1.JobMetadata{Capability: "checked"}}
			for range 9 {
				for _, call := range []func() (*agentv1.PolicyCheckResponse, error){
					func() (*agentv1.PolicyCheckResponse, error) { return kernel.Evaluate(ctx, q) },
					func() (*agentv1.PolicyCheckResponse, error) { return kernel.Simulate(ctx, q) },
				} {
					if got, err := call(); err != nil || got.GetRuleId() != "" {
						t.Errorf("%v %v", got, err)
					}
				}
				if got, err := kernel.Explain(ctx, q); err != nil || got.GetRuleId() != "" {
					t.Errorf("%v %v", got, err)
				}
			}
			for n := range 5 {
				got, err := kernel.Check(ctx, q)
				if err != nil || (got.GetRuleId() == "fast") != (n > 3) {
					t.Errorf("%d: %v %v", n, got, err)
				}
			}
			if got := r.evaluate(map[string]any{"topic": "job.test.work", "meta": map[string]any{"capability": "Checked"}}); got["ruleId"] != "fast" {
				t.Errorf("REST sees another count: %v", got)
			}
		})
	})
}

func TestThrottledJobsDoNotCountThemselves(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.publish(fast("topic", "throttle\n    reason: slowly\n    throttle_duration: 7s"))
		var ids []string
		for n := range 5 {
			rc := r.submit()
			if (rc.Status == "pending") != (n > 3) {
				t.Errorf("%d: %+v", n, rc)
			}
			ids = append(ids, rc.JobID)
		}
		// the fifth waits until the window has slid over the others, however often it is judged meanwhile; it was there with them
		j := r.within(ids[4], "SCHEDULED", 55*time.Second, 2*time.Minute)
		if n := len(r.decisions(ids[4])); n < 3 || j["safety_decision"] != "ALLOW" {
			t.Errorf("%d decisions, the last %v", n, j["safety_decision"])
		}
		// its judgements did not count: it was one request, which has left the window with the others
		for n := range 4 {
			if rc := r.submit(); rc.Status != "scheduled" {
				t.Errorf("%d: %+v", n, rc)
			}
		}
		if rc := r.submit(); rc.Status != "pending" {
			t.Errorf("%+v", rc)
		}
	})
}

func TestAJobThatWaitedForThePolicyIsCountedOnce(t *testing.T) {
	cfg, s := faulty()
	cfg.Policy = []byte(fast("topic", "deny\n    reason: too fast"))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.policy.Store(true)
		first := r.submit()
		time.Sleep(5 * time.Second)
		s.policy.Store(false)
		r.await(first.JobID, "SCHEDULED")
		for n := range 4 {
			if rc := r.submit(); (rc.Status == "denied") != (n > 2) {
				t.Errorf("%d: %+v", n, rc)
			}
		}
	})
}

func TestManyTicketsMakeOneDecision(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		rc := r.submit()
		for range 8 {
			r.deliver(rc.JobID, 1)
		}
		r.publish(instead(ruleAsks))
		for n := range 2 {
			r.connectTo(r.dialer(n), "k-worker", fmt.Sprintf("w%d", n), "main", 4)
		}
		r.await(rc.JobID, "APPROVAL_REQUIRED")
		time.Sleep(time.Minute)
		if all := r.decisions(rc.JobID); len(all) != 2 {
			t.Errorf("decisions %v", all)
		}
	})
}
