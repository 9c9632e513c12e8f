package cordum

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The behaviours that the contract numbers. Every number has a test that carries it, in its name (TestT100_...) or in the name of a row
// ("T042 ..."), or stands among those of later parts with the reason. A list that can be forgotten is none: this test reads the tests.

// numbered is a list of the contract, its groups, and what is not built yet.
type numbered struct {
	list   string
	form   *regexp.Regexp // of the words that carry a number
	groups []group
	later  map[int]string
}

type group struct {
	name        string
	first, last int
}

var contract = []numbered{
	{
		list: "core.md 10", form: regexp.MustCompile(`^T(\d{3})$`),
		groups: []group{
			{"A submit and validation", 1, 20}, {"B idempotency", 21, 28}, {"C states, attempts, timeouts", 29, 45},
			{"D safety gate, approvals, remediation", 46, 60}, {"E results, cancel, dead letters", 61, 80}, {"F routing", 81, 100},
			{"G policy", 101, 120}, {"H pointers, artifacts, context", 121, 132}, {"I locks", 133, 142}, {"J bus and workers", 143, 152},
		},
		later: map[int]string{
			49:  "the engine answers require_approval itself; there is no second answer beside it that could differ",
			51:  "a decision is made in the process: there is no call to a kernel that a breaker would interrupt",
			53:  "there is no fail-open, so nobody can ask for it in production",
			152: "the output policy of newer releases is out of scope",
		},
	},
	{
		list: "api.md 6.6", form: regexp.MustCompile(`^Checklist(\d+)$`), groups: []group{{"real clients", 1, 12}},
	},
	{
		list: "workflows.md 10, approvals", form: regexp.MustCompile(`^A(\d{2})$`), groups: []group{{"approvals", 1, 13}},
	},
	{
		list: "workflows.md 10, workflows W01-W12", form: regexp.MustCompile(`^W(\d{2})$`), groups: []group{{"workflows and definitions", 1, 12}},
	},
	{
		list: "workflows.md 10, runs R01-R13", form: regexp.MustCompile(`^R(\d{2})$`), groups: []group{{"run start, idempotency, limits", 1, 13}},
	},
	{
		list: "workflows.md 10, scheduling S01-S27", form: regexp.MustCompile(`^S(\d{2})$`), groups: []group{{"scheduling, fan-out, conditions", 1, 27}},
	},
	{
		list: "workflows.md 10, results O01-O20", form: regexp.MustCompile(`^O(\d{2})$`), groups: []group{{"results, retries, output", 1, 20}},
	},
	{
		list: "workflows.md 10, runs C01-C11", form: regexp.MustCompile(`^C(\d{2})$`), groups: []group{{"cancel, rerun, delete, lists", 1, 11}},
	},
	{
		list: "workflows.md 10, chat H01-H03", form: regexp.MustCompile(`^H(\d{2})$`), groups: []group{{"chat", 1, 3}},
	},
	{
		list: "workflows.md 10, config and schemas F01-F15", form: regexp.MustCompile(`^F(\d{2})$`), groups: []group{{"config", 1, 9}, {"schemas", 10, 15}},
	},
	{
		list: "workflows.md 10, Policy bundles P01-P18", form: regexp.MustCompile(`^P(\d{2})$`), groups: []group{{"policy bundles", 1, 18}},
	},
	{
		list: "workflows.md 10, packs K01-K22", form: regexp.MustCompile(`^K(\d{2})$`), groups: []group{{"packs", 1, 22}},
	},
	{
		list: "workflows.md 10, marketplace M01-M10", form: regexp.MustCompile(`^M(\d{2})$`), groups: []group{{"marketplace", 1, 10}},
	},
	{
		list: "api.md 6.4, of dead letters, documents, packs, streams and rates", form: regexp.MustCompile(`^Trap(\d+)$`),
		groups: []group{
			{"stale approvals", 1, 1}, {"retry", 2, 2}, {"tenant", 5, 5}, {"split documents", 12, 12}, {"unknown decisions", 13, 13}, {"heartbeats and roles", 16, 17}, {"rates", 19, 19},
		},
	},
}

func TestEveryNumberedBehaviourHasItsTest(t *testing.T) {
	carried := namesOfTests(t)
	for _, c := range contract {
		found := map[int]bool{}
		for name := range carried {
			if m := c.form.FindStringSubmatch(name); m != nil {
				n, err := strconv.Atoi(m[1])
				if err != nil {
					t.Fatal(err)
				}
				found[n] = true
			}
		}
		known := map[int]bool{}
		for _, g := range c.groups {
			for n := g.first; n <= g.last; n++ {
				known[n] = true
				switch why := c.later[n]; {
				case !found[n] && why == "":
					t.Errorf("%s, %s: no test carries number %d", c.list, g.name, n)
				case found[n] && why != "":
					t.Errorf("%s, %s: number %d has a test and is not for later any more (%s)", c.list, g.name, n, why)
				}
			}
		}
		for _, n := range slices.Sorted(maps.Keys(found)) {
			if !known[n] {
				t.Errorf("%s has no number %d, which a test carries", c.list, n)
			}
		}
		for n := range c.later {
			if !known[n] {
				t.Errorf("%s has no number %d, which is for later", c.list, n)
			}
		}
	}
}

// namesOfTests answers the words, between underscores, of the names of tests, and the first word of the names of their rows and steps.
func namesOfTests(t *testing.T) map[string]bool {
	t.Helper()
	words := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			for word := range strings.SplitSeq(strings.TrimPrefix(f.Name.Name, "Test"), "_") {
				words[word] = true
			}
			ast.Inspect(f, func(n ast.Node) bool {
				for _, name := range rows(n) {
					words[name] = true
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(words) < 200 {
		t.Fatalf("only %d words found: the walk is broken", len(words))
	}
	return words
}

// rows answers the first words of texts that name what a test does: elements and keys of its tables, and the names of its subtests and steps.
func rows(n ast.Node) []string {
	var texts []ast.Expr
	switch n := n.(type) {
	case *ast.CompositeLit:
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				texts = append(texts, kv.Key)
			} else {
				texts = append(texts, e)
			}
		}
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Run" || f.Sel.Name == "step") && len(n.Args) > 0 {
			texts = n.Args[:1]
		}
	}
	var names []string
	for _, e := range texts {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		if text, err := strconv.Unquote(lit.Value); err == nil {
			name, _, more := strings.Cut(text, " ")
			if more {
				names = append(names, name)
			}
		}
	}
	return names
}
