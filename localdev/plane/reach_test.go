package plane_test

import (
	"strings"
	"testing"
)

// Fragments of packs are judged before what operators have published, in the order of their ids: so none is about anybody else's jobs.
func TestAPackGovernsItsOwnTopicsOnly(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p, before := parcels(t), r.picture()
		for fragment, says := range map[string]string{
			"rules: [{ id: all, match: { topics: ['job.*'] }, decision: allow }]":                  `rule "all": topic "job.*" must be namespaced under job.parcels.*`,
			"rules: [{ id: mine, match: { pack_ids: [parcels] }, decision: allow }]":               `rule "mine" must name topics: without any it would be for everybody's jobs`,
			"rules: [{ match: { topics: [job.parcels.weigh, job.test.ask] }, decision: deny }]":    `rule "#1": topic "job.test.ask" must be namespaced under job.parcels.*`,
			"tenants: { default: { allow_topics: [job.parcels.weigh] } }":                          "tenants: they would reach beyond the pack; a fragment has rules for job.parcels.* only",
			"tenants: { default: { max_concurrent_jobs: 1 } }":                                     "tenants: they would reach beyond the pack; a fragment has rules for job.parcels.* only",
			"approvals: { self_approval: forbid }":                                                 "approvals: they would reach beyond the pack; a fragment has rules for job.parcels.* only",
			"rules: [{ id: a, match: { topics: ['job.parcels.*', 'job.?*'] }, decision: permit }]": `rule "a": topic "job.?*" must be namespaced under job.parcels.*`,
		} {
			r.install(p.with("overlays/safety.yaml", fragment).tgz()).refused(400, "overlays/safety.yaml: "+says)
		}
		r.same("refused", before)
		open := "default_tenant: other\ndefault_decision: allow\nrules: [{ id: own, match: { topics: ['job.parcels.*'] }, decision: allow }]\n"
		r.install(p.with("overlays/safety.yaml", open).tgz()).ok(200)
		for topic, want := range map[string]string{"job.parcels.weigh": "DECISION_TYPE_ALLOW", "job.nobody.knows": "DECISION_TYPE_DENY"} {
			if got := r.post("/api/v1/policy/evaluate", pairs("topic", topic)).ok(200).object()["decision"]; got != want {
				t.Errorf("%s: %v, want %s", topic, got, want)
			}
		}
	})
}

// A pack whose id begins as another's does not take that one's pools.
func TestAPackDoesNotRemoveThePoolsOfOthers(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		long := files{
			"pack.yaml":  "metadata: { id: git-hub, version: 1 }\ncompatibility: { protocolVersion: 1 }\noverlays: { config: [{ key: pools, path: pools.yaml }] }\n",
			"pools.yaml": "topics: { job.git-hub.a: git-hub }\npools: { git-hub: {}, git-hub-fast: {} }\n",
		}
		r.install(long.tgz()).ok(200)
		before := r.picture()
		short := files{
			"pack.yaml":  strings.ReplaceAll(long["pack.yaml"], "git-hub", "git"),
			"pools.yaml": "topics: { job.git.a: git }\npools: { git: {}, git-hub-fast: null }\n",
		}
		r.install(short.tgz()).refused(400, `pool "git-hub-fast" is not the pack's, and it must not remove it`)
		r.same("refused", before)
	})
}

// A record that nobody could read would be in the way of every pack.
func TestARecordThatCannotBeReadIsNotStored(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.install(parcels(t).tgz()).ok(200)
		before := r.picture()
		for _, record := range []any{pairs("version", 1), pairs("manifest", "none"), pairs("overlays", pairs("config", pairs("a", 1))), pairs("tests", []any{})} {
			a := r.post("/api/v1/config", pairs("scope", "system", "scope_id", "packs", "data", pairs("installed", pairs("etl", record))))
			if says, _ := a.ok(400).object()["error"].(string); !strings.HasPrefix(says, "pack etl: pack record: json: ") {
				t.Errorf("it says %q", says)
			}
		}
		r.same("refused", before)
		r.install(parcels(t).say("pack.yaml", "1.0.0", "1.0.1").tgz(), "upgrade", "on").ok(200)
	})
}

func TestABundleComesInOneWay(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.install(parcels(t).tgz(), "bundle_ptr", "redis://art:00000000-0000-4000-8000-000000000000").refused(400, "bundle or bundle_ptr, not both")
	})
}
