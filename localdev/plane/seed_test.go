package plane_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/cfn"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// stack is CloudFormation, as far as the seed function meets it.
type stack struct {
	*rig

	server  *httptest.Server
	answers []cfn.Response
}

func newStack(t *testing.T, cfg plane.Config) *stack {
	t.Helper()
	s := &stack{rig: open(t, cfg)}
	s.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var a cfn.Response
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(text, &a)
		}
		if err != nil {
			t.Error(err)
		}
		s.answers = append(s.answers, a)
	}))
	t.Cleanup(s.server.Close)
	return s
}

// deploy runs the function with these files, and answers what CloudFormation hears.
func (s *stack) deploy(t *testing.T, kind cfn.RequestType, policyFile, poolsFile string) cfn.Response {
	t.Helper()
	for key, text := range map[string]string{"p.yaml": policyFile, "o.yaml": poolsFile, "t.yaml": "topics: {}"} {
		if err := s.plane.Dispatcher.Jobs.Blobs.Put(t.Context(), key, []byte(text), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	event, err := json.Marshal(cfn.Event{
		RequestType: kind, RequestID: "r", ResponseURL: s.server.URL, LogicalResourceID: "Seed", StackID: "s",
		ResourceProperties: map[string]any{"Bucket": "assets", "Policy": "p.yaml", "Pools": "o.yaml", "Timeouts": "t.yaml"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.plane.Functions {
		if f.Setup {
			if _, err := f.Invoke(t.Context(), event); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(s.answers) == 0 {
		t.Fatal("CloudFormation was not answered: it would wait for an hour")
	}
	return s.answers[len(s.answers)-1]
}

func (s *stack) snapshot(t *testing.T) *policy.Policy {
	t.Helper()
	p, err := s.plane.Dispatcher.Policy.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p.Policy
}

const otherPools = "topics: { job.test.*: elsewhere }"

func TestADeploymentSeedsOnce(t *testing.T) {
	s := newStack(t, config())
	before := s.snapshot(t).Snapshot()
	if a := s.deploy(t, cfn.RequestUpdate, "default_decision: deny\nrules: []", otherPools); a.Status != cfn.StatusSuccess {
		t.Fatalf("%+v", a)
	}
	after := s.snapshot(t).Snapshot()
	if after == before {
		t.Error("a policy file that has changed takes no effect")
	}
	if rc := s.submit(); rc.Status != "denied" {
		t.Errorf("the new policy denies everything; the job is %s", rc.Status)
	}
	if a := s.deploy(t, cfn.RequestCreate, testPolicy, otherPools); a.Status != cfn.StatusSuccess {
		t.Fatalf("%+v", a)
	}
	rc := s.submit()
	if j := s.job(rc.JobID); j["pool"] == "elsewhere" {
		t.Error("pools that are stored already were replaced")
	}
	again := s.snapshot(t).Snapshot()
	if a := s.deploy(t, cfn.RequestDelete, "", ""); a.Status != cfn.StatusSuccess || s.snapshot(t).Snapshot() != again {
		t.Errorf("deleting the resource: %+v", a)
	}
}

func TestAFileThatIsNotValidFailsTheDeployment(t *testing.T) {
	s := newStack(t, config())
	before := s.snapshot(t).Snapshot()
	for name, files := range map[string][2]string{
		"a policy with an unknown decision": {"default_decision: perhaps", otherPools},
		"pools that are no YAML":            {testPolicy, "topics: ["},
	} {
		a := s.deploy(t, cfn.RequestUpdate, files[0], files[1])
		if a.Status != cfn.StatusFailed || strings.TrimSpace(a.Reason) == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if s.snapshot(t).Snapshot() != before {
		t.Error("a refused deployment changed the policy")
	}
}
