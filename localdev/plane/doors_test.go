package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/cordum-serverless/cordum/localdev/plane"
	contract "github.com/cordum-serverless/cordum/proto"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// The doors of the plane: every route, every method of gRPC, both streams. The tables of this file say how a request is made that works; the tests in
// doors_*_test.go try each of them with every role, another tenant's things, credentials that are none, members that are the server's, and look
// for secrets in whatever comes back. What is tried comes from the contract, so a route that is new fails TestEveryDoorHasACase until it is here.

// door is one way in: a route, or a method of gRPC.
type door struct {
	ask

	// by is who succeeds, where that is not an administrator: a worker, or a user with a session of his own.
	by string
	// also are requests that name further things.
	also []ask
	// shows are the GETs that show what the request made or changed; <-a.b> is a member of its answer.
	shows []string
	// form says that the body is a form with a bundle of that name.
	form bool
}

// ask is a request. In both, <name> is the id of a thing and <name.part> what belongs to it; <my:name> is the caller's own, whoever has the others.
type ask struct{ path, body string }

const (
	byWorker = "worker"
	byUser   = "user"
)

// doors are the routes, by service and method.
var doors = map[string]door{
	"Auth.GetAuthConfig":  {ask: ask{"/api/v1/auth/config", ""}},
	"Auth.Login":          {ask: ask{loginPath, `{"username":"<member.name>","password":"` + password + `"}`}, shows: []string{usersPath}},
	"Auth.GetSession":     {ask: ask{session, ""}},
	"Auth.Logout":         {ask: ask{"/api/v1/auth/logout", ""}},
	"Auth.ChangePassword": {ask: ask{"/api/v1/auth/password", `{"current_password":"` + password + `","new_password":"` + another + `"}`}, by: byUser, shows: []string{usersPath}},

	"Users.UpdateUser": {ask: ask{usersPath + "/<user>", `{"display_name":"M"}`}, shows: []string{usersPath}},
	"Users.DeleteUser": {ask: ask{usersPath + "/<user>", ""}},
	"Users.SetPassword": {
		ask: ask{usersPath + "/<user>/password", `{"password":"` + another + `"}`}, shows: []string{usersPath},
	},
	"Users.CreateUser":   {ask: ask{usersPath, `{"username":"<name>","password":"` + password + `"}`}, shows: []string{usersPath}},
	"Users.ListUsers":    {ask: ask{usersPath, ""}},
	"Users.DeleteApiKey": {ask: ask{keysPath + "/<key>", ""}},
	"Users.ListApiKeys":  {ask: ask{keysPath, ""}},
	"Users.CreateApiKey": {ask: ask{keysPath, `{"name":"<name>"}`}, shows: []string{keysPath}},

	"Status.GetStatus":   {ask: ask{"/api/v1/status", ""}},
	"Status.ListWorkers": {ask: ask{"/api/v1/workers", ""}},

	"Jobs.GetJob":           {ask: ask{"/api/v1/jobs/<done>", ""}, also: []ask{{"/api/v1/jobs/<job>", ""}, {"/api/v1/jobs/<run.gate>", ""}}},
	"Jobs.ListJobDecisions": {ask: ask{"/api/v1/jobs/<job>/decisions", ""}},
	"Jobs.CancelJob":        {ask: ask{"/api/v1/jobs/<job>/cancel", ""}, also: []ask{{"/api/v1/jobs/<held>/cancel", ""}, {"/api/v1/jobs/<waits>/cancel", ""}}},
	"Jobs.RemediateJob":     {ask: ask{"/api/v1/jobs/<denied>/remediate", `{}`}, shows: []string{"/api/v1/jobs/<-job_id>", "/api/v1/jobs/<denied>"}},
	"Jobs.CreateJob": {
		ask: ask{"/api/v1/jobs", `{"prompt":"x","topic":"job.test.work","labels":{"a":"b"}}`},
		also: []ask{
			{"/api/v1/jobs", `{"prompt":"x","topic":"job.test.work","parent_job_id":"<job>"}`}, {"/api/v1/jobs", `{"prompt":"x","topic":"job.test.work","idempotency_key":"<once>"}`},
			{"/api/v1/jobs?idempotency_key=<once>", `{"prompt":"x","topic":"job.test.work"}`}, {"/api/v1/jobs", `{"prompt":"x","topic":"job.test.work","memory_id":"<memory>"}`},
			{"/api/v1/jobs", `{"prompt":"x","topic":"job.test.work","team_id":"<team>"}`}, {"/api/v1/jobs", `{"prompt":"x","topic":"job.test.gpu","labels":{"preferred_worker_id":"<held.worker>"}}`},
		},
		shows: []string{"/api/v1/jobs/<-job_id>", "/api/v1/jobs/<-job_id>/decisions", "/api/v1/traces/<-trace_id>", "/api/v1/jobs?trace_id=<-trace_id>"},
	},
	"Jobs.ListJobs": {ask: ask{"/api/v1/jobs", ""}, also: []ask{{"/api/v1/jobs?trace_id=<job.trace>", ""}, {"/api/v1/jobs?team=<team>", ""}}},

	"Traces.GetTrace": {ask: ask{"/api/v1/traces/<job.trace>", ""}},

	"Workflows.GetWorkflow":    {ask: ask{"/api/v1/workflows/<flow>", ""}},
	"Workflows.DeleteWorkflow": {ask: ask{"/api/v1/workflows/<flow>", ""}},
	"Workflows.DryRunWorkflow": {ask: ask{"/api/v1/workflows/<flow>/dry-run", `{"input":{}}`}, shows: []string{"/api/v1/workflows/<flow>"}},
	"Workflows.ListWorkflows":  {ask: ask{"/api/v1/workflows", ""}},
	"Workflows.CreateWorkflow": {
		ask:   ask{"/api/v1/workflows", `{"id":"<name>","name":"x","steps":{"g":{"type":"approval"}}}`},
		also:  []ask{{"/api/v1/workflows", `{"id":"<flow>","name":"x","steps":{"w":{"type":"worker","topic":"job.test.work","input_schema_id":"<schema>","output_schema_id":"<schema>"}}}`}},
		shows: []string{"/api/v1/workflows/<-id>"},
	},

	"Runs.StartRun": {
		ask: ask{"/api/v1/workflows/<flow>/runs", `{"memory_id":"x"}`}, also: []ask{
			{"/api/v1/workflows/<run.flow>/runs?idempotency_key=<run.once>", `{}`}, {"/api/v1/workflows/<my:flow>/runs?idempotency_key=<run.once>", `{}`},
			{"/api/v1/workflows/<my:flow>/runs", `{"memory_id":"run:<run>"}`}, {"/api/v1/workflows/<my:flow>/runs?team_id=<team>", `{}`},
		},
		shows: []string{"/api/v1/workflow-runs/<-run_id>", "/api/v1/jobs/<-run_id>:g@1"},
	},
	"Runs.ListWorkflowRuns": {ask: ask{"/api/v1/workflows/<run.flow>/runs", ""}},
	"Runs.CancelRun": {
		ask: ask{"/api/v1/workflows/<run.flow>/runs/<run>/cancel", ""}, also: []ask{{"/api/v1/workflows/<my:flow>/runs/<run>/cancel", ""}, {"/api/v1/workflows/<run.flow>/runs/<my:run>/cancel", ""}},
	},
	"Runs.ApproveStep": {
		ask:   ask{"/api/v1/workflows/<run.flow>/runs/<run>/steps/g/approve", `{"approved":true}`},
		also:  []ask{{"/api/v1/workflows/<my:flow>/runs/<run>/steps/g/approve", `{"approved":true}`}, {"/api/v1/workflows/<run.flow>/runs/<my:run>/steps/g/approve", `{"approved":false}`}},
		shows: []string{"/api/v1/workflow-runs/<run>", "/api/v1/jobs/<run.gate>"},
	},
	"Runs.GetRun":      {ask: ask{"/api/v1/workflow-runs/<run>", ""}},
	"Runs.DeleteRun":   {ask: ask{"/api/v1/workflow-runs/<run>", ""}},
	"Runs.GetTimeline": {ask: ask{"/api/v1/workflow-runs/<run>/timeline", ""}},
	"Runs.RerunRun": {
		ask: ask{"/api/v1/workflow-runs/<run>/rerun", `{}`}, also: []ask{{"/api/v1/workflow-runs/<run>/rerun", `{"from_step":"g"}`}}, shows: []string{"/api/v1/workflow-runs/<-run_id>"},
	},
	"Runs.ListChat": {ask: ask{"/api/v1/workflow-runs/<run>/chat", ""}},
	"Runs.PostChat": {
		ask: ask{"/api/v1/workflow-runs/<run>/chat", `{"content":"x","job_id":"<run.gate>"}`}, also: []ask{{"/api/v1/workflow-runs/<my:run>/chat", `{"content":"x","job_id":"<run.gate>"}`}}, shows: []string{"/api/v1/workflow-runs/<run>/chat", "/api/v1/workflow-runs/<run>"},
	},
	"Runs.ListRuns": {ask: ask{"/api/v1/workflow-runs", ""}, also: []ask{{"/api/v1/workflow-runs?workflow_id=<run.flow>", ""}, {"/api/v1/workflow-runs?team_id=<team>", ""}}},

	"Approvals.ApproveJob":    {ask: ask{"/api/v1/approvals/<waits>/approve", `{"reason":"x"}`}, shows: []string{"/api/v1/jobs/<waits>", "/api/v1/approvals?include_resolved=true"}},
	"Approvals.RejectJob":     {ask: ask{"/api/v1/approvals/<waits>/reject", `{"reason":"x"}`}, shows: []string{"/api/v1/jobs/<waits>", "/api/v1/approvals?include_resolved=true"}},
	"Approvals.ListApprovals": {ask: ask{"/api/v1/approvals?include_resolved=true", ""}},

	"Policy.Evaluate":            {ask: ask{"/api/v1/policy/evaluate", policyQuestion}, shows: []string{"/api/v1/policy/snapshots"}},
	"Policy.Simulate":            {ask: ask{"/api/v1/policy/simulate", policyQuestion}, shows: []string{"/api/v1/policy/snapshots"}},
	"Policy.Explain":             {ask: ask{"/api/v1/policy/explain", policyQuestion}, shows: []string{"/api/v1/policy/snapshots"}},
	"Policy.ListPolicySnapshots": {ask: ask{"/api/v1/policy/snapshots", ""}},

	"Bundles.GetBundle":            {ask: ask{"/api/v1/policy/bundles/<bundle>", ""}, also: []ask{{"/api/v1/policy/bundles/x?bundle_id=<bundle>", ""}}},
	"Bundles.PutBundle":            {ask: ask{"/api/v1/policy/bundles/secops~<title>", `{"content":"rules: []"}`}, also: []ask{{"/api/v1/policy/bundles/x?bundle_id=<bundle>", `{"content":"rules: []"}`}}, shows: []string{"/api/v1/policy/bundles/<-id>"}},
	"Bundles.DeleteBundle":         {ask: ask{"/api/v1/policy/bundles/<bundle>", ""}, also: []ask{{"/api/v1/policy/bundles/x?bundle_id=<bundle>", ""}}},
	"Bundles.SimulateBundle":       {ask: ask{"/api/v1/policy/bundles/<bundle.tilde>/simulate", `{"request":` + policyQuestion + `}`}, also: []ask{{"/api/v1/policy/bundles/x/simulate?bundle_id=<bundle>", `{"request":{"topic":"job.test.work"}}`}}, shows: []string{"/api/v1/policy/bundles/<bundle>"}},
	"Bundles.GetBundleSnapshot":    {ask: ask{"/api/v1/policy/bundles/snapshots/<snapshot>", ""}},
	"Bundles.ListBundleSnapshots":  {ask: ask{"/api/v1/policy/bundles/snapshots", ""}},
	"Bundles.CreateBundleSnapshot": {ask: ask{"/api/v1/policy/bundles/snapshots", `{"note":"x"}`}, shows: []string{"/api/v1/policy/bundles/snapshots/<-id>"}},
	"Bundles.ListBundles":          {ask: ask{"/api/v1/policy/bundles", ""}},
	"Bundles.ListRules":            {ask: ask{"/api/v1/policy/rules?include_disabled=true", ""}},
	"Bundles.Publish":              {ask: ask{"/api/v1/policy/publish", `{"bundle_ids":["<bundle>"]}`}, shows: []string{"/api/v1/policy/bundles/<bundle>", "/api/v1/policy/audit?limit=1"}},
	"Bundles.Rollback":             {ask: ask{"/api/v1/policy/rollback", `{"snapshot_id":"<snapshot>"}`}, shows: []string{"/api/v1/policy/audit?limit=1"}},
	"Bundles.ListAudit":            {ask: ask{"/api/v1/policy/audit", ""}},

	"Config.GetConfig": {ask: ask{"/api/v1/config?scope=team&scope_id=<team>", ""}, also: []ask{
		{"/api/v1/config?scope=workflow&scope_id=<team>", ""}, {"/api/v1/config?scope=step&scope_id=<team>", ""}, {"/api/v1/config?scope=system&scope_id=policy_audit", ""},
		{"/api/v1/config?scope=system&scope_id=packs", ""}, {"/api/v1/config?scope=system&scope_id=policy", ""}, {"/api/v1/config?scope=system&scope_id=policy_snapshots", ""},
	}},
	"Config.SetConfig": {
		ask: ask{"/api/v1/config", `{"scope":"team","scope_id":"<team>","data":{"a":1},"meta":{"by":"x"}}`}, shows: []string{"/api/v1/config?scope=team&scope_id=<team>"},
	},
	"Config.GetEffectiveConfig": {ask: ask{"/api/v1/config/effective?team_id=<team>&workflow_id=<team>&step_id=<team>", ""}},

	"Schemas.GetSchema":      {ask: ask{"/api/v1/schemas/<schema>", ""}},
	"Schemas.DeleteSchema":   {ask: ask{"/api/v1/schemas/<schema>", ""}},
	"Schemas.RegisterSchema": {ask: ask{"/api/v1/schemas", `{"id":"<schema>","schema":{"type":"object"}}`}, also: []ask{{"/api/v1/schemas", `{"id":"<my:name>","schema":{"$ref":"<schema>"}}`}}, shows: []string{"/api/v1/schemas/<schema>"}},
	"Schemas.ListSchemas":    {ask: ask{"/api/v1/schemas", ""}},

	"Packs.GetPack":       {ask: ask{"/api/v1/packs/<pack>", ""}},
	"Packs.UninstallPack": {ask: ask{"/api/v1/packs/<pack>/uninstall", `{}`}, shows: []string{"/api/v1/packs/<pack>"}},
	"Packs.VerifyPack":    {ask: ask{"/api/v1/packs/<pack>/verify", ""}},
	"Packs.ListPacks":     {ask: ask{"/api/v1/packs", ""}},
	"Packs.InstallPack":   {ask: ask{"/api/v1/packs/install", "<title>"}, form: true},

	"Marketplace.ListMarketplacePacks":   {ask: ask{"/api/v1/marketplace/packs", ""}},
	"Marketplace.InstallMarketplacePack": {ask: ask{"/api/v1/marketplace/install", `{"catalog_id":"<catalog>","pack_id":"small"}`}, shows: []string{"/api/v1/packs/small"}},

	"Artifacts.GetArtifact": {ask: ask{"/api/v1/artifacts/<artifact>", ""}, also: []ask{{"/api/v1/artifacts/<artifact>?download=true", ""}}},
	"Artifacts.CreateArtifact": {
		ask: ask{"/api/v1/artifacts", `{"content":"x","labels":{"a":"b"}}`}, shows: []string{"/api/v1/artifacts/<-artifact_ptr>"},
	},

	"Locks.GetLock":     {ask: ask{"/api/v1/locks?resource=<lock>", ""}},
	"Locks.ListLocks":   {ask: ask{"/api/v1/locks/list", ""}, also: []ask{{"/api/v1/locks/list?prefix=<lock>", ""}}},
	"Locks.AcquireLock": {ask: ask{"/api/v1/locks/acquire", `{"resource":"<lock>","owner":"<lock.owner>"}`}, shows: []string{"/api/v1/locks?resource=<lock>"}},
	"Locks.ReleaseLock": {ask: ask{"/api/v1/locks/release", `{"resource":"<lock>","owner":"<lock.owner>"}`}, shows: []string{"/api/v1/locks/list?prefix=<lock>"}},
	"Locks.RenewLock":   {ask: ask{"/api/v1/locks/renew", `{"resource":"<lock>","owner":"<lock.owner>"}`}, shows: []string{"/api/v1/locks?resource=<lock>"}},

	"Workers.ReadContext": {ask: ask{"/api/v1/worker/jobs/<held>/context", ""}, by: byWorker, also: []ask{
		{"/api/v1/worker/jobs/<held>/context?pointer=redis://ctx:<job>", ""}, {"/api/v1/worker/jobs/<job>/context", ""}, {"/api/v1/worker/jobs/<done>/context", ""},
		{"/api/v1/worker/jobs/<my:held>/context?pointer=redis://ctx:<job>", ""}, {"/api/v1/worker/jobs/<my:held>/context?pointer=redis://res:<done>", ""},
		{"/api/v1/worker/jobs/<my:held>/context?pointer=<artifact>", ""}, {"/api/v1/worker/jobs/<my:held>/context?pointer=redis://mem:<memory>:events", ""},
	}},
	"Workers.WriteResult": {ask: ask{"/api/v1/worker/jobs/<held>/result", `{"attempt":1,"data":"e30="}`}, by: byWorker, shows: []string{"/api/v1/jobs/<held>", "/api/v1/memory?key=res:<held>"}},
	"Workers.ClaimJob": {
		ask: ask{"/api/v1/worker/claim", `{"worker_id":"<ticket.worker>","job_id":"<ticket>","attempt":1,"key":"<name>"}`}, by: byWorker,
		also:  []ask{{"/api/v1/worker/claim", `{"worker_id":"<held.worker>","job_id":"<held>","attempt":1,"key":"<held.key>"}`}},
		shows: []string{"/api/v1/jobs/<ticket>"},
	},
	"Workers.Beat": {
		ask: ask{"/api/v1/worker/heartbeat", `{"heartbeat":{"workerId":"<held.worker>","pool":"gpu","maxParallelJobs":4},"jobs":["<held>"]}`}, by: byWorker,
		also:  []ask{{"/api/v1/worker/heartbeat", `{"heartbeat":{"workerId":"<held.worker>","pool":"gpu"},"leaving":true}`}},
		shows: []string{"/api/v1/jobs/<held>", "/api/v1/workers"},
	},

	"DeadLetters.DeleteDeadLetter":  {ask: ask{"/api/v1/dlq/<denied>", ""}},
	"DeadLetters.RetryDeadLetter":   {ask: ask{"/api/v1/dlq/<denied>/retry", ""}},
	"DeadLetters.RetryDeadLetters":  {ask: ask{"/api/v1/dlq/retry", `{"job_ids":["<denied>"]}`}, also: []ask{{"/api/v1/dlq/retry", `{"filter":{"topic":"job.test.wipe"}}`}}, shows: []string{"/api/v1/dlq"}},
	"DeadLetters.DeleteDeadLetters": {ask: ask{"/api/v1/dlq/delete", `{"job_ids":["<denied>"]}`}, also: []ask{{"/api/v1/dlq/delete", `{"filter":{"topic":"job.test.wipe"}}`}}, shows: []string{"/api/v1/dlq"}},
	"DeadLetters.ListDeadLetters":   {ask: ask{"/api/v1/dlq", ""}},
	"DeadLetters.PageDeadLetters":   {ask: ask{"/api/v1/dlq/page", ""}},

	"Memory.GetMemory": {ask: ask{"/api/v1/memory?key=ctx:<job>", ""}, also: []ask{
		{"/api/v1/memory?key=res:<done>", ""}, {"/api/v1/memory?ptr=redis://res:<done>", ""}, {"/api/v1/memory?ptr=redis://mem:<memory>:events", ""},
		{"/api/v1/memory?key=mem:<memory>:events", ""}, {"/api/v1/memory?key=mem:run:<run>:events", ""}, {"/api/v1/memory?key=ctx:<run.gate>", ""},
	}},
}

const policyQuestion = `{"topic":"job.test.work","job_id":"<job>","team_id":"<team>","workflow_id":"<team>","step_id":"<team>","memory_id":"<memory>"}`

// methods are the methods of gRPC that a container serves; the body is the request, its path is not looked at.
var methods = map[string]door{
	"cordum.v1.CordumApi.SubmitJob": {ask: ask{body: `{"prompt":"x","topic":"job.test.work"}`}, also: []ask{
		{body: `{"prompt":"x","topic":"job.test.work","idempotency_key":"<once>"}`}, {body: `{"prompt":"x","topic":"job.test.work","memory_id":"<memory>","team_id":"<team>"}`},
	}},
	"cordum.v1.CordumApi.GetJobStatus":     {ask: ask{body: `{"job_id":"<job>"}`}, also: []ask{{body: `{"job_id":"<done>"}`}}},
	"cordum.v1.ContextEngine.BuildWindow":  {ask: ask{body: `{"memory_id":"<memory>","mode":"CONTEXT_MODE_CHAT","logical_payload":"e30="}`}, by: byWorker},
	"cordum.v1.ContextEngine.UpdateMemory": {ask: ask{body: `{"memory_id":"<memory>","mode":"CONTEXT_MODE_CHAT","logical_payload":"eA==","model_response":"eA=="}`}, by: byWorker},
	"cordum.v1.ContextEngine.StoreMemory":  {ask: ask{body: `{"memory_id":"<memory>","summary":"eA=="}`}, by: byWorker},
	"cordum.v1.Workers.Connect": {ask: ask{body: `{"senderId":"<held.worker>","protocolVersion":1,"heartbeat":{"workerId":"<held.worker>","pool":"needy"}}`}, by: byWorker, also: []ask{
		{body: `{"protocolVersion":1,"jobResult":{"jobId":"<held>","status":"JOB_STATUS_SUCCEEDED","workerId":"<held.worker>","resultPtr":"redis://res:<held>"}}`},
		{body: `{"protocolVersion":1,"jobResult":{"jobId":"<job>","status":"JOB_STATUS_FAILED","workerId":"<held.worker>","resultPtr":"redis://res:<done>"}}`},
		{body: `{"protocolVersion":1,"jobProgress":{"jobId":"<held>","percent":50,"resultPtr":"redis://res:<held>"}}`},
		{body: `{"protocolVersion":1,"jobCancel":{"jobId":"<held>"}}`},
		{body: `{"protocolVersion":1,"jobRequest":{"jobId":"<job>","topic":"job.test.work","contextPtr":"redis://ctx:<job>","parentJobId":"<job>","memoryId":"<memory>","workflowId":"<flow>"}}`},
	}},
	"cordum.v1.Workers.ClaimJob": {ask: ask{body: `{"worker_id":"<ticket.worker>","job_id":"<ticket>","attempt":1,"key":"<name>"}`}, by: byWorker},
	"cordum.v1.Workers.Beat": {ask: ask{body: `{"heartbeat":{"workerId":"<held.worker>","pool":"gpu"},"jobs":["<held>"]}`}, by: byWorker, also: []ask{
		{body: `{"heartbeat":{"workerId":"<held.worker>","pool":"gpu"},"leaving":true}`},
	}},
	"cordum.v1.Workers.ReadContext":              {ask: ask{body: `{"job_id":"<held>"}`}, by: byWorker, also: []ask{{body: `{"job_id":"<held>","pointer":"redis://ctx:<job>"}`}, {body: `{"job_id":"<my:held>","pointer":"redis://ctx:<job>"}`}}},
	"cordum.v1.Workers.WriteResult":              {ask: ask{body: `{"job_id":"<held>","attempt":1,"data":"e30="}`}, by: byWorker},
	"cordum.agent.v1.SafetyKernel.Check":         {ask: ask{body: kernelQuestion}},
	"cordum.agent.v1.SafetyKernel.Evaluate":      {ask: ask{body: kernelQuestion}},
	"cordum.agent.v1.SafetyKernel.Explain":       {ask: ask{body: kernelQuestion}},
	"cordum.agent.v1.SafetyKernel.Simulate":      {ask: ask{body: kernelQuestion}},
	"cordum.agent.v1.SafetyKernel.ListSnapshots": {ask: ask{body: `{}`}},
}

const kernelQuestion = `{"topic":"job.test.work","job_id":"<job>","memory_id":"<memory>"}`

// streams are the doors of WebSocket.
var streams = []string{stream.Path, "/api/v1/jobs/<job>/stream"}

// called are a thing's own id, by "", and what belongs to it.
type called map[string]string

// things can be named in requests. Each function makes a new one.
func things() map[string]func(w *world) called {
	return map[string]func(w *world) called{
		"name":  func(w *world) called { return called{"": w.name("n")} },           // of nothing yet
		"title": func(w *world) called { return called{"": w.everybodys("title")} }, // the same
		"job": func(w *world) called {
			rc := w.submits("topic", "job.test.work", "team_id", w.fixed("team")[""], "context", pairs("text", w.mark))
			return called{"": rc.JobID, "trace": rc.TraceID}
		},
		"waits":  func(w *world) called { return called{"": w.submits("topic", "job.test.ask").JobID} },
		"denied": func(w *world) called { return called{"": w.submits("topic", "job.test.wipe").JobID} },
		"once": func(w *world) called {
			key := w.name("once")
			w.submits("idempotency_key", key)
			return called{"": key}
		},
		"ticket": func(w *world) called {
			p := w.works()
			w.submits("topic", "job.test.gpu")
			return called{"": p.ticket().Job, "worker": p.name}
		},
		"held": func(w *world) called {
			p, key := w.works(), w.name("claim")
			w.submits("topic", "job.test.gpu")
			tk := p.ticket()
			if outcome, _, _ := p.claimAs(tk, key); outcome != "claimed" {
				w.t.Fatalf("a claim is %s", outcome)
			}
			return called{"": tk.Job, "worker": p.name, "key": key}
		},
		"done": func(w *world) called {
			held := w.made("held")
			id := held[""]
			p := &poller{rig: w.rig, key: w.worker, name: held["worker"], pool: "gpu"}
			p.beat()
			var stored struct {
				Ptr string `json:"result_ptr"`
			}
			p.call("jobs/"+id+"/result", pairs("attempt", 1, "data", []byte(`{"text":"`+w.mark+`"}`))).ok(200).json(&stored)
			p.say(1, "jobResult", pairs("jobId", id, "status", "JOB_STATUS_SUCCEEDED", "resultPtr", stored.Ptr, "workerId", p.name))
			return called{"": id}
		},
		"flow": func(w *world) called {
			id := w.name("flow")
			w.does("POST", "/api/v1/workflows", pairs("id", id, "name", w.mark, "steps", pairs("g", pairs("type", "approval")))).ok(201)
			return called{"": id}
		},
		"run": func(w *world) called {
			flow, once := w.made("flow")[""], w.name("once")
			id, _ := w.does("POST", "/api/v1/workflows/"+flow+"/runs?idempotency_key="+once+"&team_id="+w.fixed("team")[""], pairs("text", w.mark)).ok(200).object()["run_id"].(string)
			w.does("POST", runPath(id)+"/chat", pairs("content", w.mark)).ok(200)
			return called{"": id, "flow": flow, "once": once, "gate": id + ":g@1"}
		},
		"schema": func(w *world) called {
			id := "doors/" + w.name("schema")
			w.does("POST", "/api/v1/schemas", pairs("id", id, "schema", pairs("title", w.mark))).ok(204)
			return called{"": id}
		},
		"user": func(w *world) called {
			name := w.name("user")
			id, _ := w.does("POST", usersPath, pairs("username", name, "password", password)).ok(201).object()["id"].(string)
			return called{"": id, "name": name}
		},
		"member": func(w *world) called { return w.made("user") }, // one that stays
		"key": func(w *world) called {
			made, _ := w.does("POST", keysPath, pairs("name", w.name("key"))).ok(201).object()["key"].(map[string]any)
			return called{"": made["id"].(string)}
		},
		"artifact": func(w *world) called {
			ptr, _ := w.does("POST", "/api/v1/artifacts", pairs("content", w.mark)).ok(200).object()["artifact_ptr"].(string)
			return called{"": ptr}
		},
		"lock": func(w *world) called {
			id, owner := w.name("lock"), w.name("holder")
			w.does("POST", "/api/v1/locks/acquire", pairs("resource", id, "owner", owner, "ttl_ms", 86_400_000)).ok(200)
			return called{"": id, "owner": owner}
		},
		"memory": func(w *world) called {
			id := w.name("memory")
			w.contexts(w.worker).updated(id, w.mark, w.mark)
			return called{"": id}
		},
		"team": func(w *world) called {
			id := w.name("team")
			for _, scope := range []string{"team", "workflow", "step"} {
				w.does("POST", "/api/v1/config", pairs("scope", scope, "scope_id", id, "data", pairs("text", w.mark))).ok(204)
			}
			return called{"": id}
		},
		"bundle": func(w *world) called {
			id := "secops/" + w.everybodys("bundle")
			w.does("PUT", "/api/v1/policy/bundles/"+id, pairs("content", "rules: []")).ok(200)
			return called{"": id, "tilde": strings.ReplaceAll(id, "/", "~")}
		},
		"snapshot": func(w *world) called {
			id, _ := w.does("POST", "/api/v1/policy/bundles/snapshots", pairs("note", "x")).ok(200).object()["id"].(string)
			return called{"": id}
		},
		"pack": func(w *world) called {
			id := w.everybodys("pack")
			w.installAs(w.maker, "p.tgz", small(id, "1.0.0")).ok(200)
			return called{"": id}
		},
		"catalog": func(w *world) called {
			w.stock(`[{"id":"doors","url":"https://packs.example.com/c.json"}]`)
			return called{"": "doors"}
		},
	}
}

// everybodys are the things that are the whole plane's, by api.md 1.3: for them there are no other tenants.
var everybodys = map[string]bool{"bundle": true, "snapshot": true, "pack": true, "catalog": true, "name": true, "title": true}

// world is a tenant that can have one of each thing. Its mark is in every name and every text.
type world struct {
	*rig

	tenant, mark string
	// maker makes things, admin tries the doors: nobody may approve what is his own.
	maker, admin, worker string
	n                    int
	kept                 map[string]called
}

func (r *rig) mine() *world {
	return &world{rig: r, tenant: "default", mark: "quokka", maker: "k-admin", admin: "k-ada", worker: "k-worker-default", kept: map[string]called{}}
}

func (r *rig) theirs() *world {
	return &world{rig: r, tenant: "other", mark: "wombat", maker: "k-other", admin: "k-eve-other", worker: "k-worker-other", kept: map[string]called{}}
}

// doorKeys are those of the doors: those of all tests, and some more.
func doorKeys(more ...string) string {
	all := append([]string{
		strings.TrimSuffix(keys, "]"), `{"key":"k-eve-other","tenant":"other","role":"admin","principal_id":"eve"}`,
		`{"key":"k-chief","tenant":"default","role":"admin","principal_id":"chief"}`, `{"key":"k-secops","tenant":"default","role":"SecOps"}`,
	}, more...)
	return strings.Join(all, ",") + "]"
}

// house is the configuration of a plane whose doors are tried, and the ledger of what is written there. Fields are name, value pairs of the environment.
func house(fields ...string) (plane.Config, *ledger) {
	cfg := having(append(fields, "CORDUM_API_KEYS", doorKeys(), "API_PUBLIC_RATE_LIMIT_RPS", "1000000", "API_PUBLIC_RATE_LIMIT_BURST", "1000000", "MAX_LOGIN_ATTEMPTS", "1000")...)
	cfg.Internet, cfg.Embedded.BlobURL = onlySmall{}, "http://plane.test/objects"
	l := &ledger{}
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table, p.Queues, p.Blobs = ledgerTable{p.Table, l}, ledgerQueues{p.Queues, l}, ledgerBlobs{p.Blobs, l}
		return p
	}
	return cfg, l
}

func (w *world) name(kind string) string {
	w.n++
	return fmt.Sprintf("%s-%s-%d", kind, w.mark, w.n)
}

// everybodys is the name of a thing that is the whole plane's: others may read it.
func (w *world) everybodys(kind string) string {
	w.n++
	return fmt.Sprintf("%s-%s-%d", kind, w.tenant, w.n)
}

// does is a request of the one who makes things.
func (w *world) does(method, path string, body any) answer {
	w.t.Helper()
	return w.as(w.maker, method, path, body)
}

func (w *world) submits(fields ...any) receipt {
	w.t.Helper()
	return w.submitAs(w.maker, append([]any{"prompt", w.mark, "labels", map[string]string{"of": w.mark}}, fields...)...)
}

func (w *world) works() *poller { return w.poller(w.worker, w.name("worker"), "gpu") }

func (w *world) made(thing string) called {
	w.t.Helper()
	do, known := things()[thing]
	if !known {
		w.t.Fatalf("there is no thing %q: add it to things", thing)
	}
	return do(w)
}

// fixed is the one thing of its kind that stays.
func (w *world) fixed(thing string) called {
	w.t.Helper()
	thing = strings.TrimPrefix(thing, "my:")
	if w.kept[thing] == nil {
		w.kept[thing] = w.made(thing)
	}
	return w.kept[thing]
}

// fresh makes things of which each is named by one request alone.
func (w *world) fresh() func(string) called {
	made := map[string]called{}
	return func(thing string) called {
		thing = strings.TrimPrefix(thing, "my:")
		if made[thing] == nil {
			made[thing] = w.made(thing)
		}
		return made[thing]
	}
}

// unknown has ids of the same form, which nobody has.
func (w *world) unknown(thing string) called {
	out := called{}
	for part, id := range w.fixed(thing) {
		out[part] = uuids.ReplaceAllStringFunc(strings.ReplaceAll(id, w.mark, "nobody"), func(s string) string { return "00000000" + s[8:] })
	}
	return out
}

var (
	uuids  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	places = regexp.MustCompile(`<((?:my:)?[a-z]+)(?:\.([a-z]+))?>`)
)

// named are the things that a request names.
func (a ask) named() (names []string) {
	for _, m := range places.FindAllStringSubmatch(a.path+a.body, -1) {
		names = append(names, m[1])
	}
	return names
}

// with names things in a request.
func (a ask) with(t *testing.T, of func(string) called) ask {
	t.Helper()
	fill := func(text string, escape func(string) string) string {
		return places.ReplaceAllStringFunc(text, func(place string) string {
			m := places.FindStringSubmatch(place)
			id, found := of(m[1])[m[2]]
			if !found {
				t.Fatalf("%s is not there", place)
			}
			return escape(id)
		})
	}
	path, query, asked := strings.Cut(a.path, "?")
	out := ask{fill(path, url.PathEscape), fill(a.body, func(s string) string { return s })}
	if asked {
		out.path += "?" + fill(query, url.QueryEscape)
	}
	return out
}

// all are the requests of a door.
func (d door) all() []ask { return append([]ask{d.ask}, d.also...) }

// caller are the headers of somebody.
type caller []string

// header are the same, for a handshake.
func (c caller) header() http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(c); i += 2 {
		h.Set(c[i], c[i+1])
	}
	return h
}

func keyed(key, tenant string) caller { return caller{"X-API-Key", key, "X-Tenant-ID", tenant} }

// natural is who succeeds at a door.
func (w *world) natural(d door) caller {
	w.t.Helper()
	switch d.by {
	case byWorker:
		return keyed(w.worker, w.tenant)
	case byUser:
		return keyed(w.session(), w.tenant)
	}
	return keyed(w.admin, w.tenant)
}

// session is one of a user who is new.
func (w *world) session() string {
	w.t.Helper()
	token, _ := w.try(w.made("user")["name"], password, "tenant", w.tenant).ok(200).object()["token"].(string)
	return token
}

// knock sends a request of a route.
func (r *rig) knock(route routes.Route, d door, a ask, c caller, more ...string) answer {
	r.t.Helper()
	headers := append([]string{"X-Tenant-ID", ""}, c...)
	var body any
	if a.body != "" {
		body = a.body
	}
	if d.form {
		body, headers = form(a.body, "1.0.0"), append(headers, "Content-Type", "multipart/form-data; boundary=x")
	}
	return r.as("", route.Method, a.path, body, append(headers, more...)...)
}

// bodyMember is the field of a request that its body is, by method; "*" is all of them.
var bodyMember = sync.OnceValue(func() map[string]string {
	var doc struct {
		HTTP struct {
			Rules []struct{ Selector, Body string } `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := yaml.Unmarshal(contract.RoutesYAML, &doc); err != nil {
		panic(err)
	}
	out := map[string]string{}
	for _, r := range doc.HTTP.Rules {
		out[strings.TrimPrefix(r.Selector, "cordum.v1.")] = r.Body
	}
	return out
})

// bodyOfRoute is the message that a route's body is, nil for none and for one that is free JSON.
func bodyOfRoute(t *testing.T, route routes.Route) protoreflect.MessageDescriptor {
	t.Helper()
	input := requestOf(t, "cordum.v1."+nameOf(route))
	switch member := bodyMember()[nameOf(route)]; member {
	case "":
		return nil
	case "*":
		return input
	default:
		m := input.Fields().ByName(protoreflect.Name(member)).Message()
		if m == nil || m.Name() == "Json" {
			return nil
		}
		return m
	}
}

// nameOf is a route's key in the table.
func nameOf(route routes.Route) string {
	return strings.ReplaceAll(strings.TrimPrefix(route.RPC, "/cordum.v1."), "/", ".")
}

// every goes through all routes, in the order of the contract.
func every(t *testing.T, do func(route routes.Route, d door)) {
	t.Helper()
	for _, route := range routes.All() {
		if d, known := doors[nameOf(route)]; known {
			do(route, d)
		}
	}
}

// said is what a method of gRPC answered.
type said struct {
	code codes.Code
	text string
}

// callMethod calls a method of gRPC; of a stream, its first answer.
func (r *rig) callMethod(name string, body string, md ...string) said {
	r.t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		r.t.Fatal(err)
	}
	m := d.(protoreflect.MethodDescriptor)
	req, res := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal([]byte(body), req); err != nil {
		r.t.Fatalf("%s: %v in %s", name, err, body)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(r.t.Context(), md...))
	defer cancel()
	method := methodPath(name)
	if r.doors == nil {
		r.doors = r.conn()
	}
	if m.IsStreamingClient() || m.IsStreamingServer() {
		err = r.firstOf(ctx, method, req, res)
	} else {
		err = r.doors.Invoke(ctx, method, req, res)
	}
	if err != nil {
		return said{status.Code(err), status.Convert(err).Message()}
	}
	text, err := protojson.Marshal(res)
	if err != nil {
		r.t.Fatal(err)
	}
	var plain any // protojson puts blanks where it likes
	if err := json.Unmarshal(text, &plain); err != nil {
		r.t.Fatal(err)
	}
	return said{codes.OK, mustJSON(r.t, plain)}
}

// methodPath is a method as it stands in a request of gRPC.
func methodPath(name string) string {
	dot := strings.LastIndexByte(name, '.')
	return "/" + name[:dot] + "/" + name[dot+1:]
}

// bodyOf reads the answer to a handshake.
func bodyOf(t *testing.T, res *http.Response) string {
	t.Helper()
	if res == nil {
		t.Fatal("there is no answer")
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (r *rig) firstOf(ctx context.Context, method string, req, res proto.Message) error {
	s, err := r.doors.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil {
		return s.RecvMsg(res) // which says why
	}
	return s.RecvMsg(res)
}

// served are the methods that a container serves and that have a rule: health and reflection are for everybody.
func (r *rig) served() (names []string) {
	for service, info := range r.plane.GRPC.GetServiceInfo() {
		if !strings.HasPrefix(service, "cordum.") {
			continue
		}
		for _, m := range info.Methods {
			names = append(names, service+"."+m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// ledger counts what is written, wherever that is.
type ledger struct {
	mu      sync.Mutex
	entries []string
}

func (l *ledger) enter(what string, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if !strings.HasPrefix(key, resources.RatePrefix) { // who comes too often is counted before he is known
			l.entries = append(l.entries, what+" "+key)
		}
	}
}

// during answers what was written by a deed, and by whatever followed from it at once.
func (l *ledger) during(deed func()) []string {
	synctest.Wait()
	l.mu.Lock()
	l.entries = nil
	l.mu.Unlock()
	deed()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

type ledgerTable struct {
	store.Table

	l *ledger
}

func (t ledgerTable) Write(ctx context.Context, ops ...store.Op) error {
	for _, op := range ops {
		key := op.Key
		if key == (store.Key{}) {
			key = op.Item.Key
		}
		t.l.enter("item", key.PK+"|"+key.SK)
	}
	return t.Table.Write(ctx, ops...)
}

func (t ledgerTable) Update(ctx context.Context, op store.Op) (store.Item, error) {
	t.l.enter("item", op.Key.PK+"|"+op.Key.SK)
	return t.Table.Update(ctx, op)
}

type ledgerQueues struct {
	queue.Queues

	l *ledger
}

func (q ledgerQueues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	q.l.enter("message", name)
	return q.Queues.Send(ctx, name, msgs...)
}

type ledgerBlobs struct {
	blob.Store

	l *ledger
}

func (b ledgerBlobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	b.l.enter("object", key)
	return b.Store.Put(ctx, key, data, opts)
}

func (b ledgerBlobs) Delete(ctx context.Context, key string) error {
	b.l.enter("object", key)
	return b.Store.Delete(ctx, key)
}

func (b ledgerBlobs) PresignPut(ctx context.Context, key string, upload blob.Upload, ttl time.Duration) (blob.Signed, error) {
	b.l.enter("upload", key)
	return b.Store.PresignPut(ctx, key, upload, ttl)
}

// Every route and every method has a case, whose request is one of it and succeeds.
func TestEveryDoorHasACase(t *testing.T) {
	known := map[string]bool{}
	for _, route := range routes.All() {
		name := nameOf(route)
		known[name] = true
		d, found := doors[name]
		if !found {
			t.Errorf("%s %s has no case: add %q to doors, with a request that works for an administrator (or by whom it does), the things of a tenant that can be named "+
				"in its path, query and body, and the GETs that show what it changes", route.Method, route.Path, name)
			continue
		}
		for _, a := range d.all() {
			path, _, _ := strings.Cut(a.path, "?")
			match, err := routes.Default().Find(route.Method, places.ReplaceAllString(path, "x"))
			if err != nil || match.Route == nil || match.Route.RPC != route.RPC {
				t.Errorf("%s: %s %s is another route's", name, route.Method, path)
			}
		}
		if (d.body != "") != route.Body {
			t.Errorf("%s: a body in the case is %t, in the contract %t", name, d.body != "", route.Body)
		}
		if route.Body && !d.form && len(d.shows) == 0 {
			t.Errorf("%s takes a body: say in shows which GETs show what became of it", name)
		}
	}
	for name := range doors {
		if !known[name] {
			t.Errorf("%s is no route", name)
		}
	}
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.mine()
		every(t, func(route routes.Route, d door) {
			if got := r.knock(route, d, d.with(t, w.fresh()), w.natural(d)); got.Status != route.Rule.Status {
				t.Errorf("%s: %d %s, want %d", nameOf(route), got.Status, got.Body, route.Rule.Status)
			}
		})
		for _, name := range r.served() {
			d, found := methods[name]
			if !found {
				t.Errorf("%s has no case: add it to methods, with a request that works for an administrator (or by whom it does)", name)
				continue
			}
			if got := r.callMethod(name, d.with(t, w.fresh()).body, "x-api-key", map[bool]string{true: w.worker, false: w.admin}[d.by == byWorker]); got.code != codes.OK {
				t.Errorf("%s: %v", name, got)
			}
		}
		for name := range methods {
			if !slices.Contains(r.served(), name) {
				t.Errorf("%s is not served", name)
			}
		}
	})
}

// sorted are the names of a table.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// transcript is a text to which several write.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *transcript) add(text []byte) { _, _ = s.Write(text) } // a builder takes everything

func (s *transcript) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *transcript) Len() int { return len(s.String()) }
