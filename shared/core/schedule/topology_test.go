package schedule_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

const codePools = `
topics:
  job.default: default
  job.code: [code-gpu, code-cpu, code-gpu]
  job.mcp.*: mcp
pools:
  code-gpu: {requires: [docker, " Git", gpu]}
  spare:
`

func TestParsePools_Refusals(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty file", "", "pools: topics: required, an object of topic to pool"},
		{"only a comment", "# nothing", "pools: topics: required, an object of topic to pool"},
		{"empty topics", "topics: {}", "pools: topics: at least one topic is required"},
		{"topics is a list", "topics: [a]", "pools: topics: must be an object"},
		{"empty topic name", `topics: {"": a}`, `pools: topics[""]: a name is not empty and has no surrounding space`},
		{"topic name with space", `topics: {" job.x": a}`, `pools: topics[" job.x"]: a name is not empty and has no surrounding space`},
		{"empty pool name", `topics: {job.x: ""}`, `pools: topics["job.x"]: pool name ""`},
		{"empty pool name in a list", `topics: {job.x: [a, " "]}`, `pools: topics["job.x"][1]: pool name " "`},
		{"empty list", "topics: {job.x: []}", `pools: topics["job.x"]: at least one pool is required`},
		{"nothing", "topics: {job.x: }", `pools: topics["job.x"]: must be the name of a pool or a list of them`},
		{"a number", "topics: {job.x: [a, 7]}", `pools: topics["job.x"][1]: must be the name of a pool or a list of them`},
		{"a name that no queue can have", "topics: {job.x: a/b}", `pools: topics["job.x"]: pool name "a/b": a name has`},
		{"bad glob", "topics: {'job.[': a}", `pools: topics["job.["]: not a valid glob`},
		{"unknown section", "topics: {job.x: a}\npool: {}", "pools: pool: unknown key; known here: topics, pools"},
		{"capital letters", `{"Topics": {"job.x": "a"}}`, "pools: Topics: unknown key"},
		{"unknown key of a pool", "topics: {job.x: a}\npools: {a: {require: []}}",
			`pools: pools["a"].require: unknown key; known here: requires`},
		{"pool is a list", "topics: {job.x: a}\npools: {a: [gpu]}", `pools: pools["a"]: must be an object`},
		{"requires is text", "topics: {job.x: a}\npools: {a: {requires: gpu}}", `pools: pools["a"].requires: must be a list`},
		{"requires has a number", "topics: {job.x: a}\npools: {a: {requires: [gpu, 1]}}", `pools: pools["a"].requires[1]: must be text`},
		{"empty name of a declared pool", "topics: {job.x: a}\npools: {'': {}}", `pools: pools[""]: a name is not empty`},
		{"two documents", "topics: {job.x: a}\n---\ntopics: {job.y: b}", "pools: more than one document"},
		{"a key twice", "topics: {job.x: a}\ntopics: {job.y: b}", `pools: [2:1] mapping key "topics" already defined at [1:1]`},
		{"not YAML", "topics: {job.x: [a", "pools: [1:"},
		{"not an object", "[1]", "pools: must be an object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top, err := schedule.ParsePools([]byte(tt.text))
			if err == nil || top != nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("ParsePools = %v, %v; want %s", top, err, tt.want)
			}
		})
	}
}

func TestPools(t *testing.T) {
	want := []string{"code-cpu", "code-gpu", "default", "mcp", "spare"}
	if got := topology(t, codePools).Pools(); !slices.Equal(got, want) {
		t.Errorf("Pools = %v, want %v", got, want)
	}
	if got := new(schedule.Topology).Pools(); got == nil || len(got) != 0 {
		t.Errorf("Pools of nothing = %#v, want an empty list", got)
	}
}

func TestT097_PoolsRoundTrip(t *testing.T) {
	written, err := json.Marshal(topology(t, codePools))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"topics":{"job.code":["code-gpu","code-cpu"],"job.default":"default","job.mcp.*":"mcp"},` +
		`"pools":{"code-gpu":{"requires":["docker"," Git","gpu"]},"spare":{"requires":[]}}}`
	if string(written) != want {
		t.Errorf("written\n %s\nwant\n %s", written, want)
	}
	read := topology(t, string(written))
	if read.Hash() != topology(t, codePools).Hash() {
		t.Error("what was written has another hash when it is read")
	}
	got, err := read.Eligible(job("job.code", nil, "GIT"))
	if err != nil || !slices.Equal(got, []string{"code-gpu"}) {
		t.Errorf("Eligible after a round trip = %v, %v", got, err)
	}
}

func TestT098_KeyOrderIsNoChange(t *testing.T) {
	a := topology(t, `{"topics":{"job.x":"a","job.y":["b","c"]},"pools":{"a":{},"b":{"requires":["gpu"]}}}`)
	b := topology(t, "pools: {b: {requires: [gpu]}, a: }\ntopics: {job.y: [b, c], job.x: [a]}")
	if a.Hash() != b.Hash() {
		t.Error("the order of keys changes the hash")
	}
	for _, other := range []string{
		`{topics: {job.x: a, job.y: [c, b]}, pools: {a: {}, b: {requires: [gpu]}}}`,
		`{topics: {job.x: a, job.y: [b, c]}, pools: {a: {}, b: {requires: [cpu]}}}`,
		`{topics: {job.x: a, job.y: [b, c]}, pools: {b: {requires: [gpu]}}}`,
	} {
		if topology(t, other).Hash() == a.Hash() {
			t.Errorf("%s has the hash of another content", other)
		}
	}
}

func FuzzParsePools(f *testing.F) {
	for _, seed := range []string{codePools, "topics: {job.x: a}", `{"topics":{"job.[a-c]?\\*":["a","b"]}}`, "topics: {'job.[': a}", "",
		"a: &a [x]\ntopics: {job.x: *a}", "topics: {job.x: a}\n---\n", "topics:\n  ? job.x\n  : a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		top, err := schedule.ParsePools(raw)
		if err != nil {
			if top != nil || !strings.HasPrefix(err.Error(), "pools: ") {
				t.Fatalf("refused with %v, %q", top, err)
			}
			return
		}
		written, err := json.Marshal(top)
		if err != nil {
			t.Fatal(err)
		}
		again, err := schedule.ParsePools(written)
		if err != nil || again.Hash() != top.Hash() {
			t.Fatalf("round trip of %s: %v", written, err)
		}
		var doc struct{ Topics map[string]any }
		if err := json.Unmarshal(written, &doc); err != nil || len(doc.Topics) == 0 {
			t.Fatalf("written %s: %v", written, err)
		}
		for topic := range doc.Topics {
			r, err := top.Route(schedule.Job{Topic: topic}, schedule.Fleet{})
			if err != nil || !slices.Contains(top.Pools(), r.Pool) {
				t.Fatalf("topic %q: %+v, %v", topic, r, err)
			}
		}
	})
}
