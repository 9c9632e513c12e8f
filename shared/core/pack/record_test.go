package pack_test

import (
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/pack"
)

func TestRecordIsSpelledAsTheContractSays(t *testing.T) {
	p := parse(t, edited(t, edit{"pack.yaml", "  image: https://img.example/harbour.svg\n", ""}, edit{"pack.yaml", "    - id: harbour/Weight\n      path: schemas/Weight.yaml\n", ""},
		edit{"pack.yaml", "    - id: harbour.weigh\n      path: ./workflows/weigh.json\n", ""}))
	want := `{"id":"harbour","version":"1.10","status":"ACTIVE","installed_at":"2026-02-12T09:00:00Z","installed_by":"maya",` +
		`"manifest":{"metadata":{"id":"harbour","version":"1.10","title":"Harbour","description":"Ships are weighed, and unloaded once somebody has said so."},` +
		`"compatibility":{"protocolVersion":1,"minCoreVersion":"0.6.0","maxCoreVersion":""},` +
		`"topics":[{"name":"job.harbour.weigh","requires":[],"riskTags":["read"],"capability":"harbour.weigh"},` +
		`{"name":"job.harbour.unload","requires":["crane:big"],"riskTags":["write"],"capability":"harbour.unload"}]},` +
		`"resources":{"schemas":{"harbour/Ship":"` + p.Schemas[0].Digest + `"},"workflows":{"harbour.unload":"` + p.Workflows[0].Digest + `"}},` +
		`"overlays":{"config":[{"name":"timeouts","scope":"system","scope_id":"default","key":"timeouts","patch":{"topics":{"job.harbour.weigh":{"max_retries":2,"timeout_seconds":60}},` +
		`"workflows":{"harbour.unload":{"total_timeout_seconds":900},"harbour.weigh":{"child_timeout_seconds":30}}}}],` +
		`"policy":[{"name":"safety","fragment_id":"harbour/safety"},{"name":"default","fragment_id":"harbour/default"}]},` +
		`"tests":{"policySimulations":[{"name":"weighing_is_free","request":{"tenantId":"default","topic":"job.harbour.weigh","capability":"","riskTags":["read"],"requires":null,` +
		`"packId":"harbour","actorId":"","actorType":""},"expectDecision":"ALLOW"},` +
		`{"name":"unloading_waits","request":{"tenantId":"","topic":"job.harbour.unload","capability":"harbour.unload","riskTags":["write"],"requires":[],` +
		`"packId":"","actorId":"maya","actorType":"human"},"expectDecision":"REQUIRE_APPROVAL"}]}}`
	if got := encode(p.Record(pack.Active, "2026-02-12T09:00:00Z", "maya", p.Config[1:])); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestRecordOfAPackThatBringsNothing(t *testing.T) {
	p := parse(t, edited(t, edit{"pack.yaml", "", "metadata: {id: a, version: 1, image: x}\ncompatibility: {protocolVersion: 1}\ntopics: [{name: job.a.b}]"}))
	want := `{"id":"a","version":"1","status":"DISABLED","manifest":{"metadata":{"id":"a","version":"1","title":"","description":"","image":"x"},` +
		`"compatibility":{"protocolVersion":1,"minCoreVersion":"","maxCoreVersion":""},"topics":[{"name":"job.a.b","requires":null,"riskTags":null,"capability":""}]},` +
		`"resources":{},"overlays":{},"tests":{"policySimulations":null}}`
	if got := encode(p.Record(pack.Disabled, "", "", nil)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// The original's cordumctl writes what it has under the names of its own fields.
func TestRecordsOfOthersAreRead(t *testing.T) {
	r, err := pack.ReadRecord([]byte(`{"id":"etl","version":"0.2.0","status":"ACTIVE","Installed_At":"2026-02-12T09:00:00Z","extra":{"a":1},
		"manifest":{"Metadata":{"ID":"etl","Version":"0.2.0","Title":"ETL","Description":"d","Image":"i"},"Compatibility":{"ProtocolVersion":1,"MinCoreVersion":"0.6.0"},
		"topics":[{"Name":"job.etl.load","RiskTags":["read"]}]},"resources":{"schemas":{"etl/File":"a9"}},
		"tests":{"policySimulations":[{"Name":"n","Request":{"TenantID":"default","PackID":"etl"},"ExpectDecision":"ALLOW"}]}}`))
	m := r.Manifest
	if err != nil || r.InstalledAt == "" || m.Metadata != (pack.Metadata{ID: "etl", Version: "0.2.0", Title: "ETL", Description: "d", Image: "i"}) ||
		m.Compatibility != (pack.Compatibility{ProtocolVersion: 1, MinCoreVersion: "0.6.0"}) || m.Topics[0].RiskTags[0] != "read" ||
		r.Tests.PolicySimulations[0].Request.PackID != "etl" || r.Tests.PolicySimulations[0].ExpectDecision != "ALLOW" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{`[]`, `{"id":7}`, `{`, ``} {
		if _, err := pack.ReadRecord([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestK20_ResultsOfSimulations(t *testing.T) {
	tests := []struct{ name, topic, expect, got, want string }{
		{"as expected", "job.a.b", "ALLOW", "DECISION_TYPE_ALLOW", `{"name":"n","expected":"ALLOW","got":"ALLOW","reason":"r","ok":true}`},
		{"spelled otherwise", "job.a.b", " require-approval", "DECISION_TYPE_REQUIRE_HUMAN", `{"name":"n","expected":"REQUIRE_APPROVAL","got":"REQUIRE_APPROVAL","reason":"r","ok":true}`},
		{"another decision", "job.a.b", "ALLOW", "deny", `{"name":"n","expected":"ALLOW","got":"DENY","reason":"r","ok":false}`},
		{"nothing expected", "job.a.b", "", "ALLOW", `{"name":"n","expected":"","got":"ALLOW","reason":"r","ok":false}`},
		{"nothing expected, nothing got", "job.a.b", "", "", `{"name":"n","expected":"","got":"","reason":"r","ok":false}`},
		{"no topic", "", "DENY", "DENY", `{"name":"n","expected":"DENY","got":"ERROR","reason":"r","ok":false}`},
		{"an error that is expected", "job.a.b", "error", "ERROR", `{"name":"n","expected":"ERROR","got":"ERROR","reason":"r","ok":false}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := pack.Simulation{Name: "n", ExpectDecision: tt.expect, Request: pack.SimulationRequest{Topic: tt.topic}}
			if got := encode(s.Judge(tt.got, "r")); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	if r := (pack.Simulation{}).Judge("", ""); r.Reason != "missing topic" {
		t.Errorf("reason %q", r.Reason)
	}
}
