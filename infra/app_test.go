package infra_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/jsii-runtime-go"

	"github.com/cordum-serverless/cordum/infra"
	"github.com/cordum-serverless/cordum/infra/rules"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

const root = ".."

// TestMain needs Node, on which CDK runs. Where there is none, as on a laptop that only runs `make dev`, these tests say so and stand back; CI
// has it.
func TestMain(m *testing.M) {
	if _, err := exec.LookPath("node"); err != nil && os.Getenv("CI") == "" {
		fmt.Println("infra is not tested: node is not installed")
		return
	}
	_ = os.Setenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
	code := m.Run()
	_ = os.RemoveAll(scratch())
	os.Exit(code)
}

var scratch = sync.OnceValue(func() string {
	folder, err := os.MkdirTemp("", "infra")
	if err != nil {
		panic(err)
	}
	return folder
})

// variants are planes with one thing or another.
var variants = map[string]map[string]string{
	"default": {},
	"least":   {"grpc": "false", "edge": "false"},
	"most": {
		"stage": "prod", "domain": "cordum.example.com", "certificate": "arn:aws:acm:us-east-1:123456789012:certificate/a",
		"grpcDomain": "grpc.cordum.example.com", "grpcCertificate": "arn:aws:acm:us-east-1:123456789012:certificate/b", "zone": "Z0123456789ABC",
		"waf": "create", "alarmEmail": "ops@example.com", "origins": "https://app.example.com", "logDays": "90", "minContainers": "3",
		"packCatalog": "https://packs.example.com/catalog.json", "packHosts": "cdn.example.com,cdn.example.org",
	},
	"signed":   {"policy": signedPolicy("policy.yaml", true), "policyKey": policyKey, "edge": "false", "grpc": "false"},
	"restored": {"table": "cordum-dev-table-2", "region": "eu-central-1", "edge": "false", "grpc": "false", "packCatalog": "none"},
}

type plane struct {
	p      infra.Params
	folder string
	app    rules.App
}

// planes are synthesised once.
var planes = sync.OnceValues(func() (map[string]plane, error) {
	made := map[string]plane{}
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		p, err := synthesise(name, variants[name])
		if err != nil {
			return nil, err
		}
		made[name] = p
	}
	return made, nil
})

func synthesise(name string, context map[string]string) (plane, error) {
	p, err := infra.ReadParams(root, context)
	if err != nil {
		return plane{}, err
	}
	from, err := stubs()
	if err != nil {
		return plane{}, err
	}
	made := plane{p: p, folder: filepath.Join(scratch(), name)}
	app := infra.NewApp(jsii.String(made.folder))
	if err := infra.Build(app, p, from); err != nil {
		return plane{}, err
	}
	app.Synth(nil)
	made.app, err = rules.Load(made.folder)
	return made, err
}

// stubs stand in for the functions' binaries.
var stubs = sync.OnceValues(func() (infra.Sources, error) {
	whole, err := filepath.Abs(root)
	from := infra.Sources{Root: whole, Lambdas: filepath.Join(scratch(), "lambdas"), Docs: filepath.Join(scratch(), "docs")}
	for _, f := range resources.Functions {
		folder := filepath.Join(from.Lambdas, f.Name)
		err = cmp(err, os.MkdirAll(folder, 0o755))
		err = cmp(err, os.WriteFile(filepath.Join(folder, "bootstrap"), []byte(f.Name), 0o755))
	}
	return from, err
})

func cmp(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func each(t *testing.T, test func(t *testing.T, p plane)) {
	t.Helper()
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		t.Run(name, func(t *testing.T) { test(t, made[name]) })
	}
}

func prefix(p plane) string { return "cordum-" + p.p.Stage + "-" }

func TestNoRuleFindsAnything(t *testing.T) {
	each(t, func(t *testing.T, p plane) {
		for _, r := range rules.All(prefix(p), p.p.PoolNames, infra.Missed) {
			for _, f := range r.Check(p.app) {
				t.Errorf("%s: %s", r.Name, f)
			}
		}
	})
}

// TestThereIsSomethingToLookAt: a rule must not hold for want of resources.
func TestThereIsSomethingToLookAt(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	check := rules.Complete("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::SQS::Queue", "AWS::SecretsManager::Secret",
		"AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::EventInvokeConfig", "AWS::Events::Rule", "AWS::ApiGatewayV2::Api",
		"AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::Logs::QueryDefinition", "AWS::SNS::Topic", "AWS::ECS::Service",
		"AWS::ElasticLoadBalancingV2::Listener", "AWS::ApplicationAutoScaling::ScalingPolicy", "AWS::EC2::VPCEndpoint",
		"AWS::CloudFront::Distribution", "AWS::WAFv2::WebACL", "AWS::Route53::RecordSet")
	for _, f := range check(made["most"].app) {
		t.Error(f)
	}
	for _, f := range rules.Complete("AWS::EC2::NatGateway", "AWS::ApiGateway::Account")(made["most"].app) {
		if f.What != "there is none" {
			t.Error(f)
		}
	}
	if n := len(made["most"].app.Of("AWS::EC2::NatGateway")); n != 0 {
		t.Errorf("%d NAT gateways", n)
	}
	if n := len(made["restored"].app.Of("AWS::DynamoDB::Table")); n != 0 {
		t.Errorf("%d tables beside the restored one", n)
	}
	for name, p := range made {
		for _, s := range p.app.Stacks {
			t.Logf("%s: %s has %d resources", name, s.Name, len(s.Resources))
		}
	}
}

// TestTwiceTheSame: what is synthesised depends on nothing but its input, so that a diff shows what was changed.
func TestTwiceTheSame(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := synthesise("again", variants["most"])
	if err != nil {
		t.Fatal(err)
	}
	first, second := files(t, made["most"].folder), files(t, again.folder)
	if !slices.Equal(slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(second))) {
		t.Fatalf("files differ: %v, %v", slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(second)))
	}
	for name, text := range first {
		if !bytes.Equal(text, second[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

// files reads an assembly, its assets by name alone: their names are hashes of what is in them.
func files(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(d.Name(), "asset."):
			found[path] = nil
			if d.IsDir() {
				return fs.SkipDir
			}
		case !d.IsDir():
			found[path], err = os.ReadFile(filepath.Join(folder, path))
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	return found
}

// TestWhatIsMissingIsNamed: nothing half-built is deployed.
func TestWhatIsMissingIsNamed(t *testing.T) {
	p, err := infra.ReadParams(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	app := infra.NewApp(jsii.String(filepath.Join(scratch(), "missing")))
	err = infra.Build(app, p, infra.Sources{Root: root, Lambdas: t.TempDir(), Docs: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "make lambdas") {
		t.Errorf("got %v", err)
	}
}
