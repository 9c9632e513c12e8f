package infra_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/infra"
	"github.com/cordum-serverless/cordum/infra/rules"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// TestEveryRouteHasItsFunction, and every operation of the API is a route: the API and the table of routes are the same, in both directions.
func TestEveryRouteHasItsFunction(t *testing.T) {
	each(t, func(t *testing.T, p plane) {
		var api rules.Resource
		for _, a := range p.app.Of("AWS::ApiGatewayV2::Api") {
			if a.At("Body") != nil {
				api = a
			}
		}
		paths, _ := api.At("Body", "paths").(map[string]any)
		count := 0
		for _, methods := range paths {
			count += len(methods.(map[string]any))
		}
		if want := len(routes.All()) + 1; count != want {
			t.Errorf("%d operations, %d routes and the default one", count, want)
		}
		answers := map[string]bool{}
		for _, r := range routes.All() {
			path := r.Path
			if upTo, _, greedy := strings.Cut(path, "=**}"); greedy { // it takes the rest of the path, whatever is literal there
				path = upTo + "+}"
			}
			ref, _ := api.At("Body", "paths", path, strings.ToLower(r.Method), "x-amazon-apigateway-integration", "$ref").(string)
			want := resources.Serves(r.Service()).Name
			if ref != "#/components/x-amazon-apigateway-integrations/"+want {
				t.Errorf("%s %s goes to %q, not to %s", r.Method, path, ref, want)
			}
			answers[want] = true
		}
		for _, f := range resources.Functions {
			if f.Service != "" && !answers[f.Name] {
				t.Errorf("%s has a service and no route", f.Name)
			}
		}
		if api.At("Body", "components", "schemas") != nil { // a function may have that name
			t.Error("the document has schemas")
		}
		text, _ := json.Marshal(api.At("Body"))
		for _, no := range []string{`"definitions"`, `"security"`, `"swagger"`, `"requestBody"`} { // what the import would warn of
			if strings.Contains(string(text), no) {
				t.Errorf("the document has %s", no)
			}
		}
	})
}

// TestEveryGrantIsOnItsResource: what the list grants is allowed on the resource that is meant, spelled out here once more.
func TestEveryGrantIsOnItsResource(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	app := made["default"].app
	at := func(service, rest string) string {
		return "arn:${AWS::Partition}:" + service + ":us-east-1:${AWS::AccountId}:" + rest
	}
	bucket := "arn:${AWS::Partition}:s3:::cordum-dev-${AWS::AccountId}-us-east-1"
	where := func(on resources.Target) string {
		return map[resources.Kind]string{
			resources.TheTable: at("dynamodb", "table/cordum-dev-table"), resources.AnIndex: at("dynamodb", "table/cordum-dev-table/index/"+on.Name),
			resources.TheBucket: bucket, resources.Objects: bucket + "/" + on.Name + "/*", resources.AQueue: at("sqs", "cordum-dev-"+on.Name),
			resources.AllPools: at("sqs", "cordum-dev-pool-*"), resources.AllDeliveries: at("sqs", "cordum-dev-delivery-7"),
			resources.Connections: at("execute-api", "${Sockets}/live/*/@connections/*"),
		}[on.Kind]
	}
	for _, f := range resources.Functions {
		allowed := allowedTo(t, app, f.Name)
		for _, g := range f.Grants {
			for _, a := range g.Actions {
				if want := where(g.On); want != "" && !allowed[a+" on "+want] {
					t.Errorf("%s: no %s on %s", f.Name, a, want)
				}
			}
		}
	}
	if !allowedTo(t, app, "sweep")["logs:PutLogEvents on "+at("logs", "log-group:/aws/lambda/cordum-dev-sweep:*")] {
		t.Error("sweep cannot write its log")
	}
}

// allowedTo answers "<action> on <resource>" for all that a function may do.
func allowedTo(t *testing.T, app rules.App, function string) map[string]bool {
	t.Helper()
	allowed := map[string]bool{}
	for _, f := range app.Of("AWS::Lambda::Function") {
		if f.Name() != "cordum-dev-"+function {
			continue
		}
		role, _ := app.Target(f.Stack, f.At("Role"), "AWS::IAM::Role")
		for _, s := range role.At("Policies", 0, "PolicyDocument", "Statement").([]any) {
			for _, a := range s.(map[string]any)["Action"].([]any) {
				for _, on := range s.(map[string]any)["Resource"].([]any) {
					allowed[rules.Text(a)+" on "+rules.Text(on)] = true
				}
			}
		}
	}
	if len(allowed) == 0 {
		t.Fatalf("%s may do nothing", function)
	}
	return allowed
}

// TestRecursionIsAllowedWhereItIsMeant: the scheduler, the engine and the broadcast wake themselves, nobody else does.
func TestRecursionIsAllowedWhereItIsMeant(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made["default"].app.Of("AWS::Lambda::Function") {
		want := "Terminate"
		if f.ID == "Scheduler" || f.ID == "Engine" || f.ID == "Broadcast" {
			want = "Allow"
		}
		if got := f.At("RecursiveLoop"); got != want && f.Reason("runtime") == "" {
			t.Errorf("%s: %v", f.ID, got)
		}
	}
}

// TestASetupRunsWithTheFiles: the seed function is told where the files are, and may read those and no others.
func TestASetupRunsWithTheFiles(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	runs := made["default"].app.Of("Custom::CordumSeed")
	if len(runs) != 1 {
		t.Fatal(runs)
	}
	for _, property := range []string{"Bucket", "Policy", "Pools", "Timeouts", "Hash"} {
		if runs[0].At(property) == nil {
			t.Errorf("%s is not given", property)
		}
	}
	if runs[0].At("Signature") != nil {
		t.Error("a signature that there is not")
	}
	signed := made["signed"].app
	runs = signed.Of("Custom::CordumSeed")
	if len(runs) != 1 || runs[0].At("Signature") == nil {
		t.Errorf("no signature: %v", runs)
	}
	told := 0
	for _, f := range signed.Of("AWS::Lambda::Function") {
		if f.At("Environment", "Variables", "CORDUM_POLICY_PUBLIC_KEY") == policyKey {
			told++
		}
	}
	decide := 0
	for _, f := range resources.Functions {
		if slices.ContainsFunc(f.Grants, func(g resources.Grant) bool { return g.On.Name == resources.PolicyObjects }) {
			decide++
		}
	}
	if told != decide || told == 0 {
		t.Errorf("%d functions know the key, %d have to do with policy", told, decide)
	}
}

// TestFunctionsKnowWherePacksComeFrom: what seeds a plane knows its first catalog, what fetches its hosts, and nobody else either.
func TestFunctionsKnowWherePacksComeFrom(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for variant, want := range map[string]map[string]string{
		"default":  {},
		"most":     {"Seed CORDUM_PACK_CATALOG_URL": "https://packs.example.com/catalog.json", "Marketplace CORDUM_MARKETPLACE_HOSTS": "cdn.example.com,cdn.example.org"},
		"restored": {"Seed CORDUM_PACK_CATALOG_DEFAULT_DISABLED": "yes"},
	} {
		told := map[string]string{}
		for _, f := range made[variant].app.Of("AWS::Lambda::Function") {
			for _, name := range []string{"CORDUM_PACK_CATALOG_URL", "CORDUM_PACK_CATALOG_DEFAULT_DISABLED", "CORDUM_MARKETPLACE_HOSTS", "CORDUM_MARKETPLACE_ALLOW"} {
				if v := f.At("Environment", "Variables", name); v != nil {
					told[f.ID+" "+name] = rules.Text(v)
				}
			}
		}
		if !maps.Equal(told, want) {
			t.Errorf("%s: %v", variant, told)
		}
	}
}

var heading = regexp.MustCompile(`(?m)^## (\S+)$`)

// TestRunbook: every alarm has its entry, and every entry its alarm.
func TestRunbook(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(root + "/docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		entries[m[1]] = false
	}
	for _, a := range made["most"].app.Of("AWS::CloudWatch::Alarm") {
		_, kind, _ := strings.Cut(rules.Text(a.At("AlarmDescription")), "docs/runbook.md#")
		if _, ok := entries[kind]; !ok {
			t.Errorf("%s: docs/runbook.md has no heading %q", a.Name(), kind)
			continue
		}
		entries[kind] = true
	}
	for kind, used := range entries {
		if !used {
			t.Errorf("docs/runbook.md: %s is no alarm", kind)
		}
	}
}

// TestNoAlarmIsLost: with an address, every alarm is told.
func TestNoAlarmIsLost(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range made["most"].app.Of("AWS::CloudWatch::Alarm") {
		if a.At("AlarmActions", 0) == nil {
			t.Errorf("%s tells nobody", a.Name())
		}
	}
}

// TestStreamsKeepTheirJob runs CloudFront's function: the path becomes the query, and nothing else can.
func TestStreamsKeepTheirJob(t *testing.T) {
	const run = `
const cases = JSON.parse(process.argv[1]);
console.log(JSON.stringify(cases.map(([uri, querystring]) => handler({
  viewer: { ip: '198.51.100.7' }, request: { uri, querystring, headers: { 'x-cordum-viewer': { value: 'a lie' } } },
}))));`
	type answer struct {
		URI         string `json:"uri"`
		Querystring map[string]struct{ Value string }
		Headers     map[string]struct{ Value string }
		StatusCode  int
	}
	tests := []struct{ name, uri, query, job, status string }{
		{"everything", "/api/v1/stream", `{}`, "", ""},
		{"everything, and a job that was smuggled in", "/api/v1/stream", `{"cordum_job":{"value":"x"},"cordum%5Fjob":{"value":"x"},"tenant":{"value":"a"}}`, "", ""},
		{"one job", "/api/v1/jobs/a-1/stream", `{}`, "a-1", ""},
		{"a step's job", "/api/v1/jobs/r%3As%5B1%5D@2/stream", `{"cordum_job":{"value":"x"}}`, "r%3As%5B1%5D%402", ""},
		{"plus stays plus", "/api/v1/jobs/a+b&c/stream", `{}`, "a%2Bb%26c", ""},
		{"no job", "/api/v1/jobs//stream", `{}`, "", "404"},
		{"deeper", "/api/v1/jobs/a/b/stream", `{}`, "", "404"},
		{"malformed", "/api/v1/jobs/100%/stream", `{}`, "", "404"},
	}
	var cases []string
	for _, tt := range tests {
		cases = append(cases, `["`+tt.uri+`",`+tt.query+`]`)
	}
	out, err := exec.Command("node", "-e", infra.StreamCode()+run, "["+strings.Join(cases, ",")+"]").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var answers []answer
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, tt := range tests {
		a := answers[i]
		if tt.status != "" {
			if a.StatusCode != 404 {
				t.Errorf("%s: %+v", tt.name, a)
			}
			continue
		}
		if who := a.Headers["x-cordum-viewer"].Value; who != "198.51.100.7" {
			t.Errorf("%s: the viewer is %q", tt.name, who)
		}
		if got := a.Querystring[stream.JobParameter].Value; a.URI != "/" || got != tt.job || len(a.Querystring["cordum%5Fjob"].Value) > 0 {
			t.Errorf("%s: %+v, want job %q", tt.name, a, tt.job)
		}
	}
	for _, path := range []string{"/api/v1/stream", "/api/v1/jobs/a/stream"} {
		if _, ok := stream.JobOf(path); !ok {
			t.Errorf("%s is no stream any more: viewer/stream.js and the edge must follow", path)
		}
	}
}

// TestTheEdgeProvesItself: both APIs learn from a header that a request came through CloudFront, its value is the one that the functions read, and
// it stands in no template.
func TestTheEdgeProvesItself(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	app := made["default"].app
	proofs := 0
	for _, d := range app.Of("AWS::CloudFront::Distribution") {
		for _, o := range d.At("DistributionConfig", "Origins").([]any) {
			headers, _ := o.(map[string]any)["OriginCustomHeaders"].([]any)
			for _, h := range headers {
				m := h.(map[string]any)
				value := rules.Text(m["HeaderValue"])
				if m["HeaderName"] == auth.EdgeHeader && strings.HasPrefix(value, "{{resolve:secretsmanager:") && strings.Contains(value, "CORDUM_EDGE_TOKEN") {
					proofs++
				}
			}
		}
	}
	if proofs != 2 {
		t.Errorf("%d origins get the proof, not 2", proofs)
	}
	for _, f := range app.Of("AWS::Lambda::Function") {
		secrets := rules.Text(f.At("Environment", "Variables", "CORDUM_SECRET"))
		if secrets != "null" && !strings.HasSuffix(f.Name(), "-sealer") && !strings.Contains(secrets, ",") {
			t.Errorf("%s does not read the edge's secret: %s", f.Name(), secrets)
		}
	}
}

// TestThePageIsWhole: what CloudFront serves under /docs/ is what the laptop does.
func TestThePageIsWhole(t *testing.T) {
	if _, err := planes(); err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string]string{
		"index.html": "swagger-ui", "cordum.swagger.json": `"swagger"`, "swagger-initializer.js": "cordum.swagger.json", "swagger-ui-bundle.js": "SwaggerUI",
	} {
		text, err := os.ReadFile(filepath.Join(scratch(), "docs", name))
		if err != nil || !strings.Contains(string(text), part) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOutputsAreWhatAUserNeedsNext.
func TestOutputsAreWhatAUserNeedsNext(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for stack, names := range map[string][]string{
		"data": {"FirstKey"}, "control": {"ApiUrl", "StreamUrl", "QueueUrls", "InboxUrl", "DashboardUrl"}, "grpc": {"GrpcTarget"},
		"edge": {"Url", "StreamUrl", "DocsUrl"},
	} {
		text, err := os.ReadFile(filepath.Join(made["default"].folder, "cordum-dev-"+stack+".template.json"))
		if err != nil {
			t.Fatal(err)
		}
		var template struct{ Outputs map[string]any }
		if err := json.Unmarshal(text, &template); err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if template.Outputs[n] == nil {
				t.Errorf("%s has no output %s", stack, n)
			}
		}
	}
}

// TestPagesMayUpload: pages of the origins that may call the API may follow the URLs that it answers, and no others.
func TestPagesMayUpload(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"default": "", "most": `["https://cordum.example.com","https://app.example.com"]`} {
		for _, b := range made[name].app.Of("AWS::S3::Bucket") {
			if b.DeletionPolicy != "Retain" {
				continue
			}
			got := ""
			if rule := b.At("CorsConfiguration", "CorsRules", 0); rule != nil {
				text, _ := json.Marshal(b.At("CorsConfiguration", "CorsRules", 0, "AllowedOrigins"))
				got = string(text)
			}
			if got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
}
