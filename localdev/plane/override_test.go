package plane_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy/override"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// The rules that a workflow has beside the policy: workflows.md 1.1, policy_override.

const restrictive = `rules:
  - id: not-here
    match: { topics: ["job.test.drop"] }
    decision: deny
    reason: this workflow drops nothing
  - id: with-care
    match: { topics: ["job.test.boxed", "job.test.slow"] }
    decision: require_approval
    reason: somebody must look
  - id: later
    match: { topics: ["job.test.late"] }
    decision: throttle
    reason: not now
  - id: opener
    match: { topics: ["job.*"] }
    decision: allow
    reason: all of it
`

// judges answers what policy says about a job of a workflow: "DENY not-here".
func (r *rig) judges(key, workflow, topic string) string {
	r.t.Helper()
	d := r.as(key, "POST", "/api/v1/policy/evaluate", pairs("topic", topic, "workflow_id", workflow)).ok(200).object()
	return fmt.Sprintf("%s %s", strings.TrimPrefix(fmt.Sprint(d["decision"]), "DECISION_TYPE_"), d["ruleId"])
}

func (r *rig) judgesAs(workflow, topic, want string) {
	r.t.Helper()
	if got := r.judges("k-admin", workflow, topic); got != want {
		r.t.Errorf("a job of %s in %q is %s, want %s", topic, workflow, got, want)
	}
}

func TestTheRulesOfAWorkflowRestrictItsJobsOnly(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "policy_override", restrictive)
		r.saved("v")
		r.as("k-other", "POST", "/api/v1/workflows", pairs("id", "w", "policy_override", "rules: [{id: theirs, match: {topics: [job.test.a]}, decision: deny}]")).ok(201)

		for _, row := range [][2]string{
			{"job.test.drop", "DENY not-here"}, {"job.test.boxed", "REQUIRE_HUMAN with-care"}, {"job.test.late", "THROTTLE later"}, {"job.test.a", "ALLOW rest"},
			// What the policy says already, the workflow cannot take back.
			{"job.test.wipe", "DENY no-wipe"}, {"job.test.ask", "REQUIRE_HUMAN ask"}, {"job.foreign", "DENY "}, {"job.test.slow", "THROTTLE slow"},
		} {
			r.judgesAs("w", row[0], row[1])
		}
		for _, workflow := range []string{"v", "", "W", "unknown"} {
			r.judgesAs(workflow, "job.test.drop", "ALLOW rest")
		}
		if got := r.judges("k-other", "w", "job.test.drop") + ", " + r.judges("k-other", "w", "job.test.a"); got != "ALLOW rest, DENY theirs" {
			t.Errorf("the other tenant's workflow: %s", got)
		}
		labelled := r.evaluate(pairs("topic", "job.test.drop", "labels", pairs("workflow_id", "w", "_source", "workflow")))
		if labelled["decision"] != "DECISION_TYPE_ALLOW" {
			t.Errorf("a label is not what makes a job one of a workflow: %v", labelled)
		}
		r.decides("job.test.drop", "scheduled: tests may", "labels", pairs("workflow_id", "w"))

		own := r.evaluate(pairs("topic", "job.test.drop", "workflow_id", "w", "effective_config", pairs()))
		if own["decision"] != "DECISION_TYPE_DENY" || own["reason"] != "this workflow drops nothing" {
			t.Errorf("a configuration that the asker gives is no way around: %v", own)
		}
		if boxed := r.evaluate(pairs("topic", "job.test.boxed", "workflow_id", "w", "job_id", "j")); boxed["constraints"] == nil || boxed["approvalRef"] != "j" {
			t.Errorf("the constraints of the policy stay: %v", boxed)
		}
	})
}

func TestTheRulesOfAWorkflowShowToItsTenantOnly(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		seen := func(key string) string {
			var all []string
			for _, path := range []string{"/api/v1/policy/rules?include_disabled=1", bundlesPath, "/api/v1/policy/snapshots", "/api/v1/workflows"} {
				all = append(all, r.as(key, "GET", path, nil).ok(200).Body)
			}
			return strings.Join(append(all, r.as(key, "POST", "/api/v1/policy/explain", pairs("topic", "job.test.a", "workflow_id", "w")).ok(200).Body), "\n")
		}
		before := seen("k-other")
		r.saved("w", "policy_override", restrictive)
		if after := seen("k-other"); after != before {
			t.Errorf("the other tenant saw\n%s\nand now\n%s", before, after)
		}
		explained := r.post("/api/v1/policy/explain", pairs("topic", "job.test.late", "workflow_id", "w")).ok(200).object()
		var trace []string
		for _, s := range explained["trace"].([]any) {
			m, _ := s.(map[string]any)
			trace = append(trace, fmt.Sprint(m["ruleId"], " ", m["matched"], " ", m["firstFailedField"]))
		}
		want := []string{"not-here false topics", "with-care false topics", "later true ", "opener true "}
		if len(trace) < 4 || !slices.Equal(trace[len(trace)-4:], want) || explained["ruleId"] != "later" {
			t.Errorf("explained: %v", explained)
		}
	})
}

func TestTheRulesOfAWorkflowComeAndGoWithIt(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		override := func() any { return r.workflow("w")["policy_override"] }
		now := func() string {
			h, err := r.plane.Dispatcher.Policy.Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(h.Policy.Snapshot(), " at ", h.Revision)
		}
		moves := func(want bool, do func()) {
			t.Helper()
			before, snapshot := now(), r.evaluate(pairs("topic", "job.test.a"))["policySnapshot"]
			if do(); (now() != before) != want {
				t.Errorf("moved from %s to %s", before, now())
			}
			if after := r.evaluate(pairs("topic", "job.test.a"))["policySnapshot"]; after != snapshot {
				t.Errorf("the policy of everybody is another: %v, was %v", after, snapshot)
			}
		}
		moves(false, func() { r.saved("w", "name", "n") })
		moves(true, func() { r.saved("w", "policy_override", restrictive) })
		r.judgesAs("w", "job.test.drop", "DENY not-here")
		if override() != restrictive {
			t.Errorf("shown as %v", override())
		}
		moves(false, func() { r.saved("w", "name", "m") }) // kept when it is absent
		moves(false, func() { r.saved("w", "policy_override", "") })
		r.judgesAs("w", "job.test.drop", "DENY not-here")

		for _, bad := range []string{"nonsense", "rules: [{decision: perhaps}]", "default_decision: allow", "rules: [{decision: allow, constraints: {budgets: {max_retries: 1}}}]"} {
			moves(false, func() {
				got := r.save("id", "w", "name", "bad", "policy_override", bad, "steps", pairs("a", pairs("depends_on", []string{"b"}))).ok(400).object()
				problems, _ := got["problems"].([]any)
				if len(problems) != 2 || problems[0].(map[string]any)["field"] != "policy_override" {
					t.Errorf("%s: %v", bad, got)
				}
			})
		}
		if r.workflow("w")["name"] != "m" || override() != restrictive {
			t.Errorf("what was refused has changed it: %v", r.workflow("w"))
		}

		moves(true, func() {
			r.saved("w", "policy_override", "rules: [{id: other, match: {topics: [job.test.a]}, decision: deny}]")
		})
		r.judgesAs("w", "job.test.drop", "ALLOW rest")
		r.judgesAs("w", "job.test.a", "DENY other")
		moves(true, func() { r.saved("w", "policy_override", " ") })
		if _, shown := r.workflow("w")["policy_override"]; shown {
			t.Errorf("taken away, and shown: %v", override())
		}
		r.judgesAs("w", "job.test.a", "ALLOW rest")

		r.saved("w", "policy_override", restrictive)
		moves(true, func() { r.as("k-admin", "DELETE", "/api/v1/workflows/w", nil).ok(204) })
		r.judgesAs("w", "job.test.drop", "ALLOW rest")
		moves(false, func() { r.saved("w") })
		r.judgesAs("w", "job.test.drop", "ALLOW rest")
		moves(false, func() { r.as("k-admin", "DELETE", "/api/v1/workflows/w", nil).ok(204) })
	})
}

// A publish and a rollback of bundles are about the policy of everybody, and leave the rules of workflows alone.
func TestTheRulesOfAWorkflowStayWhateverBundlesDo(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "policy_override", restrictive)
		r.draft("secops/open", "rules: [{id: open, match: {topics: [job.elsewhere]}, decision: allow}]")
		first := r.publishBundles(pairs())
		r.judgesAs("w", "job.elsewhere", "ALLOW open")
		r.judgesAs("w", "job.test.drop", "DENY not-here")
		r.rollback(first.Before)
		r.judgesAs("w", "job.elsewhere", "DENY ")
		r.judgesAs("w", "job.test.drop", "DENY not-here")
		v := r.simulate("secops/x", "rules: [{id: x, match: {topics: [job.test.drop]}, decision: allow}]", pairs("topic", "job.test.drop", "workflow_id", "w"))
		if v.Decision != "DECISION_TYPE_DENY" || v.RuleID != "not-here" {
			t.Errorf("simulated: %+v", v)
		}
	})
}

func TestOfTwoSavesAtOnceTheOneThatIsShownIsInForce(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for range 5 {
			var saving sync.WaitGroup
			for i := range 6 {
				saving.Go(func() {
					r.save("id", "w", "policy_override", fmt.Sprintf("rules: [{id: r%d, match: {topics: [job.test.a]}, decision: deny}]", i)).ok(201)
				})
			}
			saving.Wait()
			_, shown, _ := strings.Cut(fmt.Sprint(r.workflow("w")["policy_override"]), "id: ")
			shown, _, _ = strings.Cut(shown, ",")
			r.judgesAs("w", "job.test.a", "DENY "+shown)
		}
	})
}

// Rules that cannot be read may deny: nothing is decided about jobs of the workflow, and everything about others.
func TestWithoutTheRulesOfAWorkflowNothingOfItIsDecided(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "policy_override", restrictive)
		broken := store.Put(store.Item{Key: override.Key("default", "w"), Attrs: store.Attrs{"rules": "rules: ["}})
		if err := r.plane.Dispatcher.Jobs.Table.Write(t.Context(), broken); err != nil {
			t.Fatal(err)
		}
		r.post("/api/v1/policy/evaluate", pairs("topic", "job.test.a", "workflow_id", "w")).refused(503, "safety kernel unavailable")
		r.judgesAs("v", "job.test.a", "ALLOW rest")
		r.saved("w", "policy_override", " ")
		r.judgesAs("w", "job.test.a", "ALLOW rest")
	})
}
