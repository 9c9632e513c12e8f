package proto_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

// wire is every message that clients and workers of the original speak: names, numbers and types as they are on the wire. These are
// never to change.
var wire = map[string]string{
	"cordum.agent.v1.BusPacket": `1 trace_id string; 2 sender_id string; 3 created_at google.protobuf.Timestamp; 4 protocol_version int32;
		10 job_request cordum.agent.v1.JobRequest; 11 job_result cordum.agent.v1.JobResult; 12 heartbeat cordum.agent.v1.Heartbeat;
		13 alert cordum.agent.v1.SystemAlert; 14 signature bytes; 15 job_progress cordum.agent.v1.JobProgress;
		16 job_cancel cordum.agent.v1.JobCancel; 17 handshake cordum.agent.v1.Handshake; 18 auth_token string`,
	"cordum.agent.v1.JobRequest": `1 job_id string; 2 topic string; 3 priority cordum.agent.v1.JobPriority; 4 context_ptr string; 5 adapter_id string;
		6 env map[string] string; 7 parent_job_id string; 8 workflow_id string; 9 step_index int32; 10 memory_id string;
		11 context_hints cordum.agent.v1.ContextHints; 12 budget cordum.agent.v1.Budget; 13 tenant_id string; 14 principal_id string;
		15 labels map[string] string; 16 meta cordum.agent.v1.JobMetadata; 17 compensation cordum.agent.v1.Compensation`,
	"cordum.agent.v1.ContextHints": "1 max_input_tokens int32; 2 allow_summarization bool; 3 allow_retrieval bool; 4 tags repeated string",
	"cordum.agent.v1.Budget":       "1 max_input_tokens int64; 2 max_output_tokens int64; 3 max_total_tokens int64; 4 deadline_ms int64",
	"cordum.agent.v1.JobMetadata": `1 tenant_id string; 2 actor_id string; 3 actor_type cordum.agent.v1.ActorType; 4 idempotency_key string;
		5 capability string; 6 risk_tags repeated string; 7 requires repeated string; 8 pack_id string; 9 labels map[string] string`,
	"cordum.agent.v1.Compensation": `1 topic string; 2 context_ptr string; 3 priority cordum.agent.v1.JobPriority; 4 adapter_id string;
		5 env map[string] string; 6 memory_id string; 7 context_hints cordum.agent.v1.ContextHints; 8 budget cordum.agent.v1.Budget;
		9 tenant_id string; 10 principal_id string; 11 labels map[string] string; 12 meta cordum.agent.v1.JobMetadata`,
	"cordum.agent.v1.JobResult": `1 job_id string; 2 status cordum.agent.v1.JobStatus; 3 result_ptr string; 4 worker_id string; 5 execution_ms int64;
		6 error_code string; 7 error_message string; 8 artifact_ptrs repeated string`,
	"cordum.agent.v1.JobProgress": `1 job_id string; 2 step_id string; 3 percent int32; 4 message string; 5 result_ptr string;
		6 artifact_ptrs repeated string; 7 status cordum.agent.v1.JobStatus`,
	"cordum.agent.v1.JobCancel":   "1 job_id string; 2 reason string; 3 requested_by string",
	"cordum.agent.v1.SystemAlert": "1 level string; 2 message string; 3 component string; 4 code string",
	"cordum.agent.v1.Heartbeat": `1 worker_id string; 2 region string; 3 type string; 4 cpu_load float; 5 gpu_utilization float; 6 active_jobs int32;
		7 capabilities repeated string; 11 pool string; 12 max_parallel_jobs int32; 13 labels map[string] string; 14 memory_load float`,
	"cordum.agent.v1.Handshake": `1 component_id string; 2 role cordum.agent.v1.ComponentRole; 3 supported_versions repeated int32;
		4 capabilities map[string] bool; 5 sdk_version string; 6 ready_topics repeated string; 7 agent_name string`,
	"cordum.agent.v1.PolicyCheckRequest": `1 job_id string; 2 topic string; 3 tenant string; 4 priority cordum.agent.v1.JobPriority;
		5 estimated_cost double; 6 budget cordum.agent.v1.Budget; 7 principal_id string; 8 labels map[string] string; 9 memory_id string;
		10 effective_config bytes; 11 meta cordum.agent.v1.JobMetadata; 20 input_content bytes; 21 input_content_type string;
		22 input_size_bytes int64`,
	"cordum.agent.v1.PolicyCheckResponse": verdict,
	"cordum.agent.v1.ExplainResponse":     verdict + "; 1000 trace repeated cordum.agent.v1.ExplainStep",
	"cordum.agent.v1.PolicyConstraints": `1 budgets cordum.agent.v1.BudgetConstraints; 2 sandbox cordum.agent.v1.SandboxProfile;
		3 toolchain cordum.agent.v1.ToolchainConstraints; 4 diff cordum.agent.v1.DiffConstraints; 5 redaction_level string`,
	"cordum.agent.v1.BudgetConstraints": "1 max_runtime_ms int64; 2 max_retries int32; 3 max_artifact_bytes int64; 4 max_concurrent_jobs int32",
	"cordum.agent.v1.SandboxProfile": `1 isolated bool; 2 network_allowlist repeated string; 3 fs_read_only repeated string;
		4 fs_read_write repeated string`,
	"cordum.agent.v1.ToolchainConstraints": "1 allowed_tools repeated string; 2 allowed_commands repeated string",
	"cordum.agent.v1.DiffConstraints":      "1 max_files int32; 2 max_lines int32; 3 deny_path_globs repeated string",
	"cordum.agent.v1.PolicyRemediation": `1 id string; 2 title string; 3 summary string; 4 replacement_topic string; 5 replacement_capability string;
		6 add_labels map[string] string; 7 remove_labels repeated string`,
	"cordum.agent.v1.ListSnapshotsRequest":  "",
	"cordum.agent.v1.ListSnapshotsResponse": "1 snapshots repeated string",
	"cordum.v1.SubmitJobRequest": `1 prompt string; 2 topic string; 3 adapter_id string; 4 priority string; 5 org_id string; 6 team_id string;
		7 project_id string; 8 principal_id string; 9 idempotency_key string; 10 actor_id string; 11 actor_type string; 12 pack_id string;
		13 capability string; 14 risk_tags repeated string; 15 requires repeated string; 16 labels map[string] string; 17 memory_id string`,
	"cordum.v1.SubmitJobResponse":    "1 job_id string; 2 trace_id string; 3 status string; 4 reason string",
	"cordum.v1.GetJobStatusRequest":  "1 job_id string",
	"cordum.v1.GetJobStatusResponse": "1 job_id string; 2 status string; 3 result_ptr string",
	"cordum.v1.ModelMessage":         "1 role string; 2 content string",
	"cordum.v1.BuildWindowRequest": `1 memory_id string; 2 mode cordum.v1.ContextMode; 3 model string; 4 logical_payload bytes;
		5 max_input_tokens int32; 6 max_output_tokens int32`,
	"cordum.v1.BuildWindowResponse":  "1 messages repeated cordum.v1.ModelMessage; 2 input_tokens int32; 3 output_tokens int32",
	"cordum.v1.UpdateMemoryRequest":  "1 memory_id string; 2 logical_payload bytes; 3 model_response bytes; 4 mode cordum.v1.ContextMode",
	"cordum.v1.UpdateMemoryResponse": "",
	"cordum.v1.ReadContextRequest":   "1 job_id string; 2 pointer string",
	"cordum.v1.ReadContextResponse":  "1 data bytes",
	"cordum.v1.WriteResultRequest":   "1 job_id string; 2 attempt int32; 3 data bytes; 4 content_type string",
	"cordum.v1.WriteResultResponse":  "1 result_ptr string",
}

const verdict = `1 decision cordum.agent.v1.DecisionType; 2 reason string; 3 redacted_context_ptr string; 4 policy_snapshot string;
		5 rule_id string; 6 constraints cordum.agent.v1.PolicyConstraints; 7 approval_required bool; 8 approval_ref string;
		9 remediations repeated cordum.agent.v1.PolicyRemediation`

var wireEnums = map[string]string{
	"cordum.agent.v1.JobStatus": `0 JOB_STATUS_UNSPECIFIED; 1 JOB_STATUS_PENDING; 2 JOB_STATUS_SCHEDULED; 3 JOB_STATUS_DISPATCHED;
		4 JOB_STATUS_RUNNING; 5 JOB_STATUS_SUCCEEDED; 6 JOB_STATUS_FAILED; 7 JOB_STATUS_CANCELLED; 8 JOB_STATUS_DENIED; 9 JOB_STATUS_TIMEOUT`,
	"cordum.agent.v1.JobPriority": "0 JOB_PRIORITY_UNSPECIFIED; 1 JOB_PRIORITY_INTERACTIVE; 2 JOB_PRIORITY_BATCH; 3 JOB_PRIORITY_CRITICAL",
	"cordum.agent.v1.ActorType":   "0 ACTOR_TYPE_UNSPECIFIED; 1 ACTOR_TYPE_HUMAN; 2 ACTOR_TYPE_SERVICE",
	"cordum.agent.v1.DecisionType": `0 DECISION_TYPE_UNSPECIFIED; 1 DECISION_TYPE_ALLOW; 2 DECISION_TYPE_DENY; 3 DECISION_TYPE_REQUIRE_HUMAN;
		4 DECISION_TYPE_THROTTLE; 5 DECISION_TYPE_ALLOW_WITH_CONSTRAINTS`,
	"cordum.agent.v1.ComponentRole": `0 COMPONENT_ROLE_UNSPECIFIED; 1 COMPONENT_ROLE_GATEWAY; 2 COMPONENT_ROLE_SCHEDULER; 3 COMPONENT_ROLE_WORKER;
		4 COMPONENT_ROLE_ORCHESTRATOR; 5 COMPONENT_ROLE_CONTROLLER`,
	"cordum.v1.ContextMode": "0 CONTEXT_MODE_UNSPECIFIED; 1 CONTEXT_MODE_RAW; 2 CONTEXT_MODE_CHAT; 3 CONTEXT_MODE_RAG",
}

func TestNumbersOnTheWire(t *testing.T) {
	for name, want := range wire {
		t.Run(name, func(t *testing.T) {
			d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for f := range each(d.(protoreflect.MessageDescriptor).Fields()) {
				have = append(have, fmt.Sprintf("%d %s %s", f.Number(), f.Name(), typeOf(f)))
			}
			compare(t, have, want)
		})
	}
	for name, want := range wireEnums {
		t.Run(name, func(t *testing.T) {
			d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for v := range each(d.(protoreflect.EnumDescriptor).Values()) {
				have = append(have, fmt.Sprintf("%d %s", v.Number(), v.Name()))
			}
			compare(t, have, want)
		})
	}
}

func typeOf(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return "map[" + typeOf(f.MapKey()) + "] " + typeOf(f.MapValue())
	case f.IsList():
		return "repeated " + scalar(f)
	}
	return scalar(f)
}

func scalar(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return string(f.Message().FullName())
	case protoreflect.EnumKind:
		return string(f.Enum().FullName())
	}
	return f.Kind().String()
}

func compare(t *testing.T, have []string, want string) {
	t.Helper()
	var wanted []string
	for row := range strings.SplitSeq(want, ";") {
		if row = strings.TrimSpace(row); row != "" {
			wanted = append(wanted, row)
		}
	}
	slices.Sort(have)
	slices.Sort(wanted)
	if !slices.Equal(have, wanted) {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(wanted, "\n"))
	}
}

// All of CAP is held by the tables: a message that is added must be added there, or be ours.
func TestNoOtherMessagesOfCAP(t *testing.T) {
	ours := []string{"cordum.agent.v1.ExplainStep"}
	protoregistry.GlobalFiles.RangeFilesByPackage("cordum.agent.v1", func(file protoreflect.FileDescriptor) bool {
		for m := range each(file.Messages()) {
			if _, ok := wire[string(m.FullName())]; !ok && !slices.Contains(ours, string(m.FullName())) {
				t.Errorf("%s is not in the table", m.FullName())
			}
		}
		for e := range each(file.Enums()) {
			if _, ok := wireEnums[string(e.FullName())]; !ok {
				t.Errorf("%s is not in the table", e.FullName())
			}
		}
		return true
	})
}

func TestExplainIsReadAsAVerdict(t *testing.T) {
	explained := &agentv1.ExplainResponse{
		Decision: agentv1.DecisionType_DECISION_TYPE_DENY, Reason: "destructive", RuleId: "no-wipe",
		Remediations: []*agentv1.PolicyRemediation{{Id: "dry"}},
		Trace:        []*agentv1.ExplainStep{{RuleId: "no-wipe", FirstFailedField: "topics"}},
	}
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(explained)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"ruleId"`, `"redactedContextPtr"`, `"policySnapshot"`, `"approvalRequired"`, `"firstFailedField"`, `"replacementTopic"`} {
		if !strings.Contains(string(raw), member) {
			t.Errorf("no member %s in %s", member, raw)
		}
	}
	var read agentv1.PolicyCheckResponse
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	if read.GetDecision() != explained.GetDecision() || read.GetRuleId() != "no-wipe" || len(read.GetRemediations()) != 1 {
		t.Errorf("read as %v", &read)
	}
}
