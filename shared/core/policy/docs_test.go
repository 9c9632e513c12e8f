package policy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/corpus"
)

// The examples of docs/policy.md do what the page says.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) != 3 || !strings.HasPrefix(blocks[2][1], "# cases/") {
		t.Fatalf("%d examples, want two policies and a corpus", len(blocks))
	}
	p := compile(t, blocks[0][1])
	prod := map[string]string{"env": "prod"}
	want(t, p.Decide(&policy.Request{Topic: "job.fs.wipe"}), policy.Deny, "no-wipe", "nothing may be deleted")
	want(t, p.Decide(&policy.Request{Topic: "job.a", Labels: prod, RiskTags: []string{"exec"}}), policy.RequireApproval, "prod-needs-a-human",
		"production writes need a human")
	want(t, p.Decide(&policy.Request{Topic: "job.a", PackID: "lab", Requires: []string{"docker"}}), policy.AllowWithConstraints, "lab", "boxed in")
	want(t, p.Decide(&policy.Request{Topic: "job.a", Capability: "report.x", ActorType: "service"}), policy.Throttle, "reports",
		"service accounts wait their turn")
	want(t, p.Decide(&policy.Request{Topic: "job.a", Tenant: "beta"}), policy.Deny, "", "no matching rule")
	foreign := map[string]string{"mcp.server": "files.example.com"}
	want(t, compile(t, blocks[1][1]).Decide(&policy.Request{Topic: "job.a", Labels: foreign}), policy.Deny, "no-foreign-server",
		"this server is not ours")
	suite, err := corpus.Load(fstest.MapFS{"policy.yaml": {Data: []byte(blocks[0][1])}, "cases/guide.yaml": {Data: []byte(blocks[2][1])}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range suite.Run().Results {
		for _, problem := range r.Problems {
			t.Errorf("%s: %s", r.Name, problem)
		}
	}
}
