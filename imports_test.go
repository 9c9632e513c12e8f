package cordum

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/cordum-serverless/cordum/"

// layers says what a package may import of this module: the first entry that its folder begins with holds. It is architecture in one table.
var layers = []struct {
	folder string
	may    []string
	why    string
}{
	{"shared/platform/aws", []string{"shared/platform"}, "an adapter knows its port"},
	{"shared/platform/embedded", []string{"shared/platform"}, "an adapter knows its port"},
	{"shared/platform", []string{"shared/platform"}, "ports know nothing above them"},
	{"shared/core", []string{"shared/core", "shared/platform", "sdk/gen"}, "the domain stands on ports and wire messages"},
	{"shared/edge", []string{"shared/edge", "shared/core", "shared/platform", "sdk/gen", "proto", "docs/api"}, "the edge leads to the domain"},
	{"functions/grpc", []string{"functions", "shared", "sdk/gen", "proto"}, "the container hosts functions"},
	{"functions", []string{"shared", "sdk/gen", "proto", "functions/<self>"}, "one function never imports another"},
	{"sdk/gen", []string{"sdk/gen"}, "generated"},
	{"sdk", []string{"sdk"}, "what users import drags nothing of ours in"},
	{"localdev", []string{"localdev", "functions", "shared", "sdk", "proto", "docs"}, "the harness hosts everything"},
	{"infra", []string{
		"infra", "shared/platform", "shared/core/schedule", "shared/core/policy", "shared/edge/routes", "shared/edge/stream", "shared/edge/auth", "proto", "docs/api", "sdk/gen",
	}, "infra reads definitions"},
	{"proto", []string{"proto", "sdk/gen"}, "the contract"},
	{"docs", []string{"docs", "proto", "sdk/gen", "shared/edge", "shared/core"}, "documents are made from what they describe"},
	{"tools", nil, "tools know nothing"},
	{"", []string{""}, "this test"},
}

// adapters may be named only by what wires a process together.
var adapters = []string{"shared/platform/aws", "shared/platform/embedded", "shared/platform/fetch/web"}

func mayNameAdapters(folder string) bool {
	return strings.HasPrefix(folder, "localdev") || folder == "functions/grpc" || strings.HasPrefix(folder, "functions/grpc/") ||
		strings.HasSuffix(folder, "/lambda") || strings.HasPrefix(folder, "shared/platform/aws") ||
		strings.HasPrefix(folder, "shared/platform/embedded") || folder == "shared/platform/fetch/fetchtest"
}

// foreign says which packages from outside a layer must not import, and why.
var foreign = []struct{ folder, prefix, why string }{
	{"shared/core", "github.com/aws", "the domain does not know where it runs"},
	{"shared/core", "net/http", "the domain does not know how it is reached"},
	{"shared/core", "os", "configuration is passed in"},
	{"shared/edge", "github.com/aws/aws-sdk-go-v2", "the edge talks to ports"},
	{"shared/platform/store", "github.com/aws", "ports are free of AWS"},
	{"shared/platform/queue", "github.com/aws", "ports are free of AWS"},
	{"shared/platform/blob", "github.com/aws", "ports are free of AWS"},
	{"shared/platform/push", "github.com/aws", "ports are free of AWS"},
	{"shared/platform/fetch", "github.com/aws", "the internet is not AWS"},
	{"shared/platform/resources", "github.com/aws", "infra, localdev and tests share the definitions"},
	{"sdk/worker", "modernc.org", "what users import stays small"},
	{"functions", "modernc.org", "a Lambda carries no database"},
}

func TestLayers(t *testing.T) {
	seen := 0
	for folder, pkg := range packages(t) {
		seen++
		for _, imp := range pkg.Imports {
			check(t, folder, imp)
		}
	}
	if seen < 10 {
		t.Fatalf("only %d packages found: the walk is broken", seen)
	}
}

func check(t *testing.T, folder, imp string) {
	t.Helper()
	for _, f := range foreign {
		if under(folder, f.folder) && (imp == f.prefix || strings.HasPrefix(imp, f.prefix+"/")) {
			t.Errorf("%s imports %s: %s", folder, imp, f.why)
		}
	}
	if strings.HasPrefix(imp, "github.com/aws/aws-cdk-go") && !under(folder, "infra") {
		t.Errorf("%s imports %s: only infra does", folder, imp)
	}
	own, ours := strings.CutPrefix(imp, module)
	if !ours {
		return
	}
	for _, a := range adapters {
		if under(own, a) && !mayNameAdapters(folder) {
			t.Errorf("%s imports the adapter %s: only mains, functions/grpc and localdev name adapters", folder, own)
		}
	}
	for _, l := range layers {
		if !under(folder, l.folder) {
			continue
		}
		for _, m := range l.may {
			if m == "functions/<self>" {
				m = strings.Join(strings.SplitN(folder, "/", 3)[:2], "/")
			}
			if under(own, m) {
				return
			}
		}
		t.Errorf("%s imports %s: %s", folder, own, l.why)
		return
	}
}

func under(folder, parent string) bool {
	return parent == "" || folder == parent || strings.HasPrefix(folder, parent+"/")
}

// packages reads the imports of every package of the module, tests left out.
func packages(t *testing.T) map[string]*build.Package {
	t.Helper()
	found := map[string]*build.Package{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "build" || name == "node_modules") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != "." {
			return filepath.SkipDir // a module of its own
		}
		pkg, err := build.ImportDir(path, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		}
		if err != nil {
			return err
		}
		found[filepath.ToSlash(path)] = pkg
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
