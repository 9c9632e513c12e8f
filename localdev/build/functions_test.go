package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/localdev/build"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

const adapters = "github.com/cordum-serverless/cordum/shared/platform/aws/"

// clients are the adapters that a function needs for what it is granted.
var clients = map[string]func(resources.Grant) bool{
	adapters + "dynamo": func(g resources.Grant) bool { return g.On.Kind == resources.TheTable },
	adapters + "sqs": func(g resources.Grant) bool {
		return slices.Contains([]resources.Kind{resources.AQueue, resources.AllPools, resources.AllDeliveries}, g.On.Kind)
	},
	adapters + "s3": func(g resources.Grant) bool { return g.On.Kind == resources.Objects },
	adapters + "secrets": func(g resources.Grant) bool {
		return g.On.Kind == resources.TheSecret || g.On.Kind == resources.TheAuditKey
	},
	adapters + "apigateway": func(g resources.Grant) bool { return g.On.Kind == resources.Connections },
}

// internet is what fetches from addresses that others name.
const internet = "github.com/cordum-serverless/cordum/shared/platform/fetch/web"

// foreign packages are in no function, with the reason.
var foreign = map[string]string{
	"github.com/aws/aws-sdk-go-v2/config":            "Lambda's credentials are in the environment",
	"github.com/prometheus/client_golang/prometheus": "figures go to the log",
	"html/template":      "it keeps the linker from leaving anything out: build with grpcnotrace",
	"modernc.org/sqlite": "a function has no database of its own",
	"net/http/pprof":     "nobody can reach it",
	"testing":            "tests stay at home",
}

// TestFunctionsLinkWhatTheyUse: the adapters of the services that a function is granted something of, and of no other.
func TestFunctionsLinkWhatTheyUse(t *testing.T) {
	for _, f := range resources.Functions {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags="+build.Tags, "../../functions/"+f.Name+"/lambda")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
		text, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		links := strings.Fields(string(text))
		if !slices.Contains(links, "github.com/aws/aws-lambda-go/lambda") {
			t.Fatalf("%s: these are not its packages: %v", f.Name, links)
		}
		for p, needs := range clients {
			if needed := slices.ContainsFunc(f.Grants, needs); needed != slices.Contains(links, p) {
				t.Errorf("%s: is granted something of %s: %v; links it: %v", f.Name, p, needed, !needed)
			}
		}
		if out := slices.Contains(links, internet); out != f.Fetches {
			t.Errorf("%s: fetches from the internet: %v; links what does: %v", f.Name, f.Fetches, out)
		}
		for p, why := range foreign {
			if slices.Contains(links, p) {
				t.Errorf("%s links %s: %s", f.Name, p, why)
			}
		}
	}
}

// TestFunctionsAreSmall builds every function as it is deployed.
func TestFunctionsAreSmall(t *testing.T) {
	root, err := build.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	b := build.New(root, filepath.Join(root, "build", "lambdas"), build.Functions()...)
	b.Arch = "arm64"
	if _, err := b.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range resources.Functions {
		size, err := build.SizeOf(b.Binary(f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if size.Binary > build.MaxBinary || size.Zip > build.MaxZip {
			t.Errorf("%s has %d bytes, %d zipped; at most %d and %d", f.Name, size.Binary, size.Zip, build.MaxBinary, build.MaxZip)
		}
	}
}
