package asking_test

import (
	"reflect"
	"testing"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
)

var maya = identity.Identity{Tenant: "acme", Home: "acme", Principal: "maya"}

func TestOf(t *testing.T) {
	t.Parallel()
	full := &cordumv1.PolicyRequest{
		JobId: "j", Topic: "job.a", OrgId: "acme", TeamId: "core", WorkflowId: "wf", StepId: "s", PrincipalId: "bob", Labels: map[string]string{"a": "b"},
		EffectiveConfig: &cordumv1.Json{Raw: []byte(` {"safety":{}} `)},
		Meta: &cordumv1.PolicyMeta{
			TenantId: "foreign", ActorId: "robot", ActorType: "service", Capability: "c", RiskTags: []string{"r"}, Requires: []string{"q"}, PackId: "p",
			Labels: map[string]string{"x": "y"},
		},
	}
	for _, test := range []struct {
		name  string
		who   identity.Identity
		asked *cordumv1.PolicyRequest
		want  *asking.Question
		fault fault.Code
	}{
		{"all of it", maya, full, &asking.Question{
			Request: policy.Request{
				JobID: "j", Topic: "job.a", Tenant: "acme", Principal: "bob", ActorID: "robot", ActorType: "service", Capability: "c",
				RiskTags: []string{"r"}, Requires: []string{"q"}, PackID: "p", Labels: map[string]string{"a": "b"}, WorkflowID: "wf",
			},
			Subject: config.Subject{Tenant: "acme", Team: "core", Workflow: "wf", Step: "s"}, Config: []byte(`{"safety":{}}`),
		}, 0},
		{"next to nothing", maya, &cordumv1.PolicyRequest{Topic: "x", EffectiveConfig: &cordumv1.Json{Raw: []byte("null")}}, &asking.Question{
			Request: policy.Request{Topic: "x", Tenant: "acme", Principal: "maya"}, Subject: config.Subject{Tenant: "acme"},
		}, 0},
		{"no topic", maya, &cordumv1.PolicyRequest{Topic: " "}, nil, fault.Invalid},
		{"foreign tenant", maya, &cordumv1.PolicyRequest{Topic: "job.a", Tenant: "other"}, nil, fault.Denied},
		{"foreign org_id", maya, &cordumv1.PolicyRequest{Topic: "job.a", Tenant: "acme", OrgId: "other"}, nil, fault.Denied},
		{
			"foreign tenant of one who may change it in the header only", identity.Identity{Tenant: "acme", CrossTenant: true},
			&cordumv1.PolicyRequest{Topic: "job.a", Tenant: "other"}, nil, fault.Denied,
		},
	} {
		got, err := asking.Of(identity.With(t.Context(), test.who), test.asked)
		judge(t, test.name, got, test.want, err, test.fault)
	}
}

func TestOfCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		who   identity.Identity
		asked *agentv1.PolicyCheckRequest
		want  *asking.Question
		fault fault.Code
	}{
		{"a job of a workflow", maya, &agentv1.PolicyCheckRequest{
			JobId: "j", Topic: "job.a", Tenant: "acme", Labels: map[string]string{"workflow_id": "wf", "step_id": "s"},
			EffectiveConfig: []byte(`{}`), Meta: &agentv1.JobMetadata{TenantId: "foreign", ActorType: agentv1.ActorType_ACTOR_TYPE_HUMAN},
		}, &asking.Question{
			Request: policy.Request{
				JobID: "j", Topic: "job.a", Tenant: "acme", Principal: "maya", ActorType: "human", WorkflowID: "wf",
				Labels: map[string]string{"workflow_id": "wf", "step_id": "s"},
			},
			Subject: config.Subject{Tenant: "acme", Workflow: "wf", Step: "s"}, Config: []byte(`{}`),
		}, 0},
		{"nothing at all", maya, &agentv1.PolicyCheckRequest{}, &asking.Question{
			Request: policy.Request{Tenant: "acme", Principal: "maya"}, Subject: config.Subject{Tenant: "acme"},
		}, 0},
		{"foreign tenant", maya, &agentv1.PolicyCheckRequest{Topic: "job.a", Tenant: "other"}, nil, fault.Denied},
		{
			"another tenant of one who may", identity.Identity{Tenant: "acme", CrossTenant: true}, &agentv1.PolicyCheckRequest{Topic: "job.a", Tenant: "other"},
			&asking.Question{Request: policy.Request{Topic: "job.a", Tenant: "other"}, Subject: config.Subject{Tenant: "other"}}, 0,
		},
	} {
		got, err := asking.OfCheck(identity.With(t.Context(), test.who), test.asked)
		judge(t, test.name, got, test.want, err, test.fault)
	}
}

func judge(t *testing.T, name string, got, want *asking.Question, err error, code fault.Code) {
	t.Helper()
	if want == nil {
		if !fault.Is(err, code) {
			t.Errorf("%s: %v, want a fault of class %d", name, err, code)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got\n%+v, want\n%+v", name, got, want)
	}
}

func TestT050_WhatNobodyDecidedIsDenied(t *testing.T) {
	t.Parallel()
	if got := asking.Answer(policy.Decision{}, "j").GetDecision(); got != agentv1.DecisionType_DECISION_TYPE_DENY {
		t.Error(got)
	}
}
