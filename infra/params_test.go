package infra_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/infra"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// author signs policies; policyKey is the public half.
var author = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("seed"), 8))

var policyKey = hex.EncodeToString(author.Public().(ed25519.PublicKey))

// signedPolicy writes a policy with a signature beside it, of this policy or of another.
func signedPolicy(name string, good bool) string {
	path, text := filepath.Join(scratch(), name), []byte("rules: []\n")
	signature := ed25519.Sign(author, text)
	if !good {
		text = []byte("default_decision: allow\n")
	}
	if err := errors.Join(os.WriteFile(path, text, 0o600), os.WriteFile(path+".sig", signature, 0o600)); err != nil {
		panic(err)
	}
	return path
}

func TestParamsRefuse(t *testing.T) {
	certificate := "arn:aws:acm:eu-west-1:123456789012:certificate/a"
	tests := []struct {
		name    string
		context map[string]string
		want    []string
	}{
		{"stage", map[string]string{"stage": "Prod!"}, []string{`stage: "Prod!" is not allowed: up to 12 lower-case letters`}},
		{"region", map[string]string{"region": "europe"}, []string{`region: "europe"`, "eu-west-1"}},
		{"unknown", map[string]string{"stagee": "x"}, []string{"stagee: there is no such parameter", "docs/deploy.md"}},
		{"flag", map[string]string{"grpc": "no"}, []string{`grpc: "no" is not allowed: true or false`}},
		{"number", map[string]string{"listShards": "0"}, []string{`listShards: "0" is not allowed: a whole number from 1 to 64`}},
		{"more containers than queues", map[string]string{"maxContainers": "9"}, []string{"maxContainers", "from 1 to 8"}},
		{"fewest above most", map[string]string{"minContainers": "4", "maxContainers": "3"}, []string{"minContainers: 4 is more than maxContainers, 3"}},
		{"days", map[string]string{"logDays": "31"}, []string{"logDays", "one of [1 3 5"}},
		{"a catalog over HTTP", map[string]string{"packCatalog": "http://packs.example.com/c"}, []string{"packCatalog", "none, or an address that begins with https://"}},
		{"an address as a host of packs", map[string]string{"packHosts": "10.0.0.1"}, []string{"packHosts", "hosts such as cdn.example.com"}},
		{"mail", map[string]string{"alarmEmail": "Ops <ops@example.com>"}, []string{"alarmEmail", "one e-mail address"}},
		{"no such file", map[string]string{"policy": "nope.yaml"}, []string{"policy:", "is not a file that can be read"}},
		{"a policy with a mistake", map[string]string{"policy": write(t, "default_decision: perhaps")}, []string{"policy:", ":1:19: must be allow or deny"}},
		{"a policy without a signature", map[string]string{"policyKey": policyKey}, []string{"policyKey:", "the policy has no signature"}},
		{"a policy with another's", map[string]string{"policyKey": policyKey, "policy": signedPolicy("other.yaml", false)}, []string{"policyKey:", "not of this policy"}},
		{"a key that is none", map[string]string{"policyKey": "key"}, []string{"policyKey: the public key must be 32 bytes"}},
		{"no pools in it", map[string]string{"pools": write(t, "pools: {}")}, []string{"pools:", "topics: required"}},
		{"pool that is no queue's name", map[string]string{"pools": write(t, "topics: {job.a: 'no spaces'}")}, []string{"pools:", "no spaces"}},
		{"timeouts", map[string]string{"timeouts": write(t, "topics: 7")}, []string{"timeouts:"}},
		{"domain alone", map[string]string{"domain": "a.example.com"}, []string{"domain and certificate: give both"}},
		{"certificate elsewhere", map[string]string{"domain": "a.example.com", "certificate": certificate}, []string{"certificate", "us-east-1"}},
		{"gRPC certificate elsewhere", map[string]string{"grpcCertificate": certificate}, []string{"grpcCertificate: it must be in the plane's region, us-east-1"}},
		{"gRPC name alone", map[string]string{"grpcDomain": "g.example.com"}, []string{"grpcDomain needs one"}},
		{"zone for nothing", map[string]string{"zone": "Z0123456789ABC"}, []string{"zone: neither"}},
		{"WAF elsewhere", map[string]string{"waf": "create", "region": "eu-west-1"}, []string{"waf: create works in us-east-1 only"}},
		{"WAF without an edge", map[string]string{"waf": "create", "edge": "false"}, []string{"edge:"}},
		{"gRPC certificate without gRPC", map[string]string{"grpc": "false", "grpcCertificate": "arn:aws:acm:us-east-1:123456789012:certificate/b"}, []string{"grpc:"}},
		{"origin with a path", map[string]string{"origins": "https://a.example.com/x"}, []string{"origins"}},
		{"all at once", map[string]string{"stage": "9", "logDays": "x", "waf": "on"}, []string{"stage:", "logDays:", "waf:"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := infra.ReadParams(root, tt.context)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

func TestParamsDefaults(t *testing.T) {
	p, err := infra.ReadParams(root, nil)
	if err != nil || p.Stage != "dev" || !p.Grpc || !p.Edge || len(p.PoolNames) == 0 || p.LogDays != 30 {
		t.Errorf("%+v %v", p, err)
	}
}

// TestGuideListsTheParameters, each with its default and its meaning.
func TestGuideListsTheParameters(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	_, table, _ := strings.Cut(string(text), "## Parameters\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	for _, q := range infra.Parameters {
		other := ""
		if q.Default != "" {
			other = "`" + q.Default + "`"
		}
		if row := "| `" + q.Name + "` | " + other + " | " + q.Meaning + " |"; !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/deploy.md has no row %s", row)
		}
	}
	if rows != len(infra.Parameters) {
		t.Errorf("docs/deploy.md has %d rows, there are %d parameters", rows, len(infra.Parameters))
	}
}
