package plane_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
)

// Documents together, as questions over REST find them.

// bundles puts documents in force: the base, "" for none, and bundles by id.
func (r *rig) bundles(base string, bundles map[string]string) error {
	r.t.Helper()
	_, _, err := r.plane.Dispatcher.Policy.Change(r.t.Context(), func(head.Version) (*head.Change, error) {
		c := &head.Change{Content: head.Content{Bundles: map[string]json.RawMessage{}}}
		if base != "" {
			c.Content.Base = &policy.Source{Content: []byte(base)}
		}
		for id, text := range bundles {
			b := map[string]any{"content": strings.TrimPrefix(text, "#disabled\n"), "enabled": !strings.HasPrefix(text, "#disabled\n")}
			raw, err := json.Marshal(b)
			if err != nil {
				return nil, err
			}
			c.Content.Bundles[id] = raw
		}
		return c, nil
	})
	return err
}

// rule is a document of one rule.
func rule(id, match, decision string) string {
	return "rules:\n  - id: " + id + "\n    match: " + match + "\n    decision: " + decision + "\n    reason: " + id + "\n"
}

func TestT102_T103_T104_P14_P15_DocumentsTogether(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const all = `{topics: ["job.*"]}`
		for _, c := range []struct {
			name, base string
			bundles    map[string]string
			topic      string
			want, rule string
		}{
			{"the first of a file", rule("a", all, "allow") + "  - {id: b, decision: deny}\n", nil, "job.x", "ALLOW", "a"},
			{"base before bundles", rule("base", all, "deny"), map[string]string{"a/a": rule("bundle", all, "allow")}, "job.x", "DENY", "base"},
			{"bundles by id", "", map[string]string{"secops/a": rule("mine", all, "deny"), "github/z": rule("pack", all, "allow")}, "job.x", "ALLOW", "pack"},
			{"not those that are disabled", "", map[string]string{"secops/a": rule("mine", all, "deny"), "github/z": "#disabled\n" + rule("pack", all, "allow")}, "job.x", "DENY", "mine"},
			{"deny_topics after rules", rule("a", all, "allow"), map[string]string{"secops/t": "tenants: {default: {deny_topics: [job.bad]}}"}, "job.bad", "DENY", "legacy:default:deny:1"},
			{"deny_topics alone", "", map[string]string{"secops/t": "tenants: {default: {deny_topics: [job.bad]}}"}, "job.bad", "DENY", "legacy:default:deny:1"},
			{"only what allow_topics has", "default_decision: allow\n", map[string]string{"t": "tenants: {default: {allow_topics: [job.good]}}"}, "job.bad", "DENY", ""},
			{"what allow_topics has", "", map[string]string{"t": "tenants: {default: {allow_topics: [job.good]}}"}, "job.good", "ALLOW", "legacy:default:allow:1"},
		} {
			if err := r.bundles(c.base, c.bundles); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got := r.evaluate(map[string]any{"topic": c.topic}); got["decision"] != "DECISION_TYPE_"+c.want || got["ruleId"] != c.rule {
				t.Errorf("%s: %v", c.name, got)
			}
		}
	})
}

func TestT108_T109_T110_T111_P16_P17_WhatRulesMatch(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		type q = map[string]any
		for _, c := range []struct {
			name, document string
			ask            q
			want, reason   string
		}{
			{"mcp alone, no mcp", rule("a", "{mcp: {allow_servers: [github]}}", "deny"), q{}, "DENY", "no matching rule"},
			{"mcp alone, mcp", rule("a", "{mcp: {allow_servers: [github]}}", "allow"), q{"labels": q{"mcp.server": "github"}}, "ALLOW", "a"},
			{"a tool without a server", rule("a", "{}", "allow") + "tenants: {default: {mcp: {allow_servers: [github]}}}", q{"labels": q{"mcp.tool": "x"}}, "DENY", `mcp server "" not allowed`},
			{"constraints make it so", rule("a", "{}", "allow") + "    constraints: {diff: {max_files: 1}}", q{}, "ALLOW_WITH_CONSTRAINTS", "a"},
			{"so it was said", rule("a", "{}", "allow_with_constraints"), q{}, "ALLOW_WITH_CONSTRAINTS", "a"},
			{"approval, denied", rule("a", "{}", "require_approval"), q{"effective_config": q{"safety": q{"denied_topics": []string{"job.x"}}}}, "DENY", "topic 'job.x' denied by effective config"},
			{"any of the risks", rule("a", "{risk_tags: [a, b]}", "allow"), q{"meta": q{"risk_tags": []string{"B"}}}, "ALLOW", "a"},
			{"all that is required", rule("a", "{requires: [a, b]}", "allow"), q{"meta": q{"requires": []string{"a"}}}, "DENY", "no matching rule"},
			{"all that is required, there", rule("a", "{requires: [a, b]}", "allow"), q{"meta": q{"requires": []string{"c", "b", "a"}}}, "ALLOW", "a"},
			{"no capability", rule("a", "{capabilities: [a]}", "allow"), q{}, "DENY", "no matching rule"},
			{"a star over dots", rule("a", `{topics: ["job.*"]}`, "allow"), q{"topic": "job.a.b"}, "ALLOW", "a"},
		} {
			r.publish(c.document)
			if c.ask["topic"] == nil {
				c.ask["topic"] = "job.x"
			}
			got := r.evaluate(c.ask)
			if got["decision"] != "DECISION_TYPE_"+c.want || got["reason"] != c.reason || got["approvalRequired"] != false {
				t.Errorf("%s: %v", c.name, got)
			}
			if c.want == "ALLOW_WITH_CONSTRAINTS" && (got["constraints"] == nil) != (c.name == "so it was said") {
				t.Errorf("%s: constraints %v", c.name, got["constraints"])
			}
		}
	})
}

func TestT105_T106_T107_T118_ADocumentThatIsNotValidChangesNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		before := r.evaluate(map[string]any{"topic": "job.test.work"})
		for name, text := range map[string]string{
			"a pattern": rule("a", `{topics: ["job.["]}`, "deny"), "a misspelt top": "rulez: []", "a misspelt member": rule("a", "{topic: [x]}", "deny"),
			"no decision": "rules: [{id: a}]", "no decision that we know": rule("a", "{}", "DENY"),
		} {
			var wrong *policy.Error
			if err := r.bundles(testPolicy, map[string]string{"secops/a": text}); !errors.As(err, &wrong) || wrong.Source != "secops/a" {
				t.Errorf("%s: %v", name, err)
			}
			if got := r.evaluate(map[string]any{"topic": "job.test.work"}); !equalJSON(got, before) {
				t.Errorf("%s: %v", name, got)
			}
		}
		if rc := r.submit(); rc.Status != "scheduled" {
			t.Errorf("%+v", rc)
		}
	})
}

func TestT116_P18_Snapshots(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		of := func(base string, bundles map[string]string) string {
			t.Helper()
			if err := r.bundles(base, bundles); err != nil {
				t.Fatal(err)
			}
			return r.evaluate(map[string]any{"topic": "job.x"})["policySnapshot"].(string)
		}
		const base, text = "version: v1\n", "rules: [{id: a, decision: deny}]\n"
		plain := of(base, nil)
		if !strings.HasPrefix(plain, "v1:") || len(plain) != len("v1:")+64 {
			t.Errorf("base: %s", plain)
		}
		both := of(base, map[string]string{"secops/a": text})
		if !strings.HasPrefix(both, plain+"|cfg:") {
			t.Errorf("both: %s", both)
		}
		if got := of(base, map[string]string{"secops/a": text, "secops/b": "#disabled\n" + text}); got != both {
			t.Errorf("a disabled bundle: %s", got)
		}
		if got := of(base, map[string]string{"secops/a": text + "# a comment\nversion: x\n"}); got == both {
			t.Error("a comment makes no other snapshot")
		}
		if got := of("", map[string]string{"secops/a": text}); !strings.HasPrefix(got, "cfg:") || !strings.HasSuffix(both, got) {
			t.Errorf("bundles alone: %s", got)
		}
	})
}
