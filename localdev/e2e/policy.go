package e2e

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

// policyCases ask the policy about jobs that need not exist. They follow what localdev/seed says.
var policyCases = []testCase{
	{"what the policy says of a job it says of a question", 0, func(s *story) {
		for topic, want := range map[string]string{
			TopicDenied: "DENY nothing may be deleted end to end", TopicAsked: "REQUIRE_HUMAN a human must look", TopicSlow: "THROTTLE not so fast",
			TopicBoxed: "ALLOW_WITH_CONSTRAINTS in a box", TopicWork: "ALLOW the end-to-end suite may", "sys.x": "DENY unsupported topic",
		} {
			for _, route := range []string{"evaluate", "simulate", "explain"} {
				var got struct {
					Decision, Reason, ApprovalRef string
					Trace                         []any
				}
				s.ok(s.post("/policy/"+route, map[string]any{"job_id": s.tag, "topic": topic}), &got)
				if strings.TrimPrefix(got.Decision, "DECISION_TYPE_")+" "+got.Reason != want || (got.ApprovalRef == s.tag) != (topic == TopicAsked) ||
					(len(got.Trace) > 0) != (route == "explain" && topic != "sys.x") {
					s.Errorf("%s of %s: %+v, want %s", route, topic, got, want)
				}
			}
		}
		s.refused(s.post("/policy/evaluate", map[string]any{}), http.StatusBadRequest, "topic is required")
		s.refused(s.post("/policy/evaluate", map[string]any{"topic": TopicWork, "tenant": "somebody-else"}), http.StatusForbidden, "tenant access denied")
	}},
	{"a question may bring its own configuration", 0, func(s *story) {
		var got struct{ Decision, Reason string }
		s.ok(s.post("/policy/evaluate", map[string]any{"topic": TopicWork, "effective_config": map[string]any{"safety": map[string]any{"denied_topics": []string{"job.e2e.*"}}}}), &got)
		if got.Reason != "topic '"+TopicWork+"' denied by effective config" {
			s.Errorf("%+v", got)
		}
	}},
	{"the policies of late are listed", 0, func(s *story) {
		var list struct{ Snapshots []string }
		s.ok(s.get("/policy/snapshots"), &list)
		if len(list.Snapshots) < 1 || len(list.Snapshots) > 10 || list.Snapshots[0] == "" {
			s.Errorf("%+v", list)
		}
	}},
	{"SafetyKernel answers as REST does", needGRPC, func(s *story) {
		ctx := metadata.AppendToOutgoingContext(s.Context(), "x-api-key", s.target.AdminKey)
		kernel := agentv1.NewSafetyKernelClient(s.dial())
		got, err := kernel.Check(ctx, &agentv1.PolicyCheckRequest{JobId: s.tag, Topic: TopicAsked, Tenant: s.target.Tenant})
		if err != nil || got.GetDecision() != agentv1.DecisionType_DECISION_TYPE_REQUIRE_HUMAN || got.GetApprovalRef() != s.tag {
			s.Errorf("%v, %v", got, err)
		}
		if _, err := kernel.Check(ctx, &agentv1.PolicyCheckRequest{Topic: TopicAsked, Tenant: "somebody-else"}); status.Code(err) != codes.PermissionDenied {
			s.Errorf("a foreign tenant: %v", err)
		}
		if list, err := kernel.ListSnapshots(ctx, &agentv1.ListSnapshotsRequest{}); err != nil || len(list.GetSnapshots()) == 0 {
			s.Errorf("%v, %v", list, err)
		}
	}},
}
