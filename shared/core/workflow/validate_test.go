package workflow

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("é", MaxName)
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"everything", strings.ReplaceAll(full, `"on_error":"gate"`, `"on_error":""`), nil},
		{"no steps", `{}`, nil},
		{"types that nobody knows", `{"steps":{"a":{"type":"http"},"b":{"type":"frobnicate","depends_on":["a","a"]}}}`, nil},
		{"what the run may say", `{"steps":{"a":{"type":"condition"},"b":{"type":"storage","input":{"operation":"x"}}}}`, nil},
		{"W10 an unknown dependency", `{"steps":{"a":{"depends_on":["x"]}}}`, []string{`step "a": depends_on: there is no step "x"`}},
		{"W10 itself", `{"steps":{"a":{"depends_on":["a"]}}}`, []string{`step "a": depends_on: the step names itself`}},
		{"W10 two in a circle", `{"steps":{"b":{"depends_on":["a"]},"a":{"depends_on":["b"]},"c":{"depends_on":["a"]}}}`,
			[]string{`step "a": depends_on: the step waits for itself: a → b → a`}},
		{"W10 three, the short way", `{"steps":{"a":{"depends_on":["b","d"]},"b":{"depends_on":["c"]},"c":{"depends_on":["a"]},"d":{"depends_on":["c"]}}}`,
			[]string{`step "a": depends_on: the step waits for itself: a → b → c → a`}},
		{"W10 two circles", `{"steps":{"a":{"depends_on":["b"]},"b":{"depends_on":["a"]},"c":{"depends_on":["d","a"]},"d":{"depends_on":["c"]}}}`,
			[]string{`step "a": depends_on: the step waits for itself: a → b → a`, `step "c": depends_on: the step waits for itself: c → d → c`}},
		{"every problem at once, sorted", `{"name":"` + long + `x","timeout_sec":-1,"steps":{
			"b b":{"name":"` + long + `","type":"switch"}, "a":{"on_error":"x","condition":"input.x ==","max_parallel":-1}}}`, []string{
			`name: longer than 256 letters`,
			`timeout_sec: -1 must be from 0 to 604800`,
			`step "a": condition: unexpected end at 11`,
			`step "a": max_parallel: -1 must be from 0 to 2147483647`,
			`step "a": on_error: there is no step "x"`,
			`step "b b": id: must be letters, digits, '_' and '-', at most 64`,
			`step "b b": input: a switch needs cases or a default`,
		}},
		{"a week", `{"timeout_sec":604801}`, []string{`timeout_sec: 604801 must be from 0 to 604800`}},
		{"ids of steps", `{"steps":{"a.b":{},"a[0]":{},"":{},"` + strings.Repeat("x", 65) + `":{}}}`, []string{
			`id: must be letters, digits, '_' and '-', at most 64`,
			`step "a.b": id: must be letters, digits, '_' and '-', at most 64`,
			`step "a[0]": id: must be letters, digits, '_' and '-', at most 64`,
			`step "` + strings.Repeat("x", 65) + `": id: must be letters, digits, '_' and '-', at most 64`,
		}},
		{"on_error itself", `{"steps":{"a":{"on_error":"a"}}}`, []string{`step "a": on_error: the step names itself`}},
		{"handlers in a circle that nothing leads to", `{"steps":{"a":{"on_error":"b"},"b":{"on_error":"a"},"x":{}}}`,
			[]string{`step "a": on_error: the step never begins, since nothing else leads to it: a → b → a`}},
		{"what waits for itself leads to nothing", `{"steps":{"a":{"on_error":"b"},"b":{"on_error":"a","depends_on":["a"]}}}`,
			[]string{`step "a": on_error: the step never begins, since nothing else leads to it: a → b → a`}},
		{"two circles of handlers", `{"steps":{"a":{"on_error":"c"},"b":{"on_error":"a"},"c":{"on_error":"b"},"d":{"on_error":"e"},"e":{"on_error":"d"}}}`, []string{
			`step "a": on_error: the step never begins, since nothing else leads to it: a → c → b → a`,
			`step "d": on_error: the step never begins, since nothing else leads to it: d → e → d`,
		}},
		{"a handler that runs what it is for", `{"steps":{"p":{"type":"parallel","input":{"steps":["a"]}},"a":{"on_error":"p"}}}`,
			[]string{`step "a": on_error: the step never begins, since nothing else leads to it: a → p → a`}},
		{"a circle of handlers that a step leads into", `{"steps":{"x":{"on_error":"a"},"a":{"on_error":"b"},"b":{"on_error":"a"}}}`, nil},
		{"a circle of handlers that a handler leads into", `{"steps":{"x":{"on_error":"y"},"y":{"on_error":"a"},"a":{"on_error":"b"},"b":{"on_error":"a"}}}`, nil},
		{"a circle of handlers that a switch leads into", `{"steps":{"s":{"type":"switch","input":{"default":"b"}},"a":{"on_error":"b"},"b":{"on_error":"a"}}}`, nil},
		{"a circle of handlers that a parallel leads into", `{"steps":{"p":{"type":"parallel","input":{"steps":["a"]}},"a":{"on_error":"b"},"b":{"on_error":"a"}}}`, nil},
		{"a circle of handlers that a template may lead into", `{"steps":{"p":{"type":"parallel","input":{"steps":"${input.s}"}},"a":{"on_error":"b"},"b":{"on_error":"a"}}}`, nil},
		{"for_each in braces", `{"steps":{"a":{"for_each":"${input.items}"}}}`,
			[]string{`step "a": for_each: unexpected '{' at 2: an expression stands here without ${}`}},
		{"templates", `{"steps":{"a":{"input":{"x":["${"]},"route_labels":{"z":"${}"},"delay_until":"${a b}"}}}`, []string{
			`step "a": delay_until: ${a b}: unexpected b at 3`,
			`step "a": input: /x/0: ${: unterminated template expression`,
			`step "a": route_labels.z: ${}: empty expression`,
		}},
		{"a time", `{"steps":{"a":{"delay_until":"tomorrow"},"b":{"delay_until":"${input.at}"},"c":{"delay_until":"2026-02-13T01:00:00.5+02:00"}}}`,
			[]string{`step "a": delay_until: "tomorrow" must be a time as 2026-02-13T01:00:00Z`}},
		{"retries", `{"steps":{"a":{"retry":{"max_retries":-1,"initial_backoff_sec":-1,"max_backoff_sec":-1,"multiplier":-1}}}}`, []string{
			`step "a": retry.initial_backoff_sec: -1 must be from 0 to 604800`,
			`step "a": retry.max_backoff_sec: -1 must be from 0 to 604800`,
			`step "a": retry.max_retries: -1 must be from 0 to 100`,
			`step "a": retry.multiplier: -1 must be from 0 to 1000`,
		}},
		{"numbers", `{"steps":{"a":{"delay_sec":-1,"timeout_sec":-1}}}`, []string{
			`step "a": delay_sec: -1 must be from 0 to 31536000`, `step "a": timeout_sec: -1 must be from 0 to 604800`,
		}},
		{"opaque members", `{"config":[1],"parameters":{"a":1}}`, []string{`config: must be an object`, `parameters: must be a list of objects`}},
		{"schemas", `{"input_schema":{"type":"objekt"},"steps":{"a":{"input_schema":{"$ref":"http://x/y"},"output_schema":true}}}`, []string{
			`input_schema: not a JSON Schema: `,
			`step "a": input_schema: refers to http://x/y, and only references within the schema (#...) are allowed`,
			`step "a": output_schema: must be an object`,
		}},
		{"a policy", `{"policy_override":"rules:\n- decision: maybe\n"}`, []string{`policy_override: workflow/w/policy:2:`}},
		{"a policy beyond the workflow", `{"policy_override":"default_decision: allow"}`, []string{`policy_override: workflow/w/policy:1:`}},
		{"a good policy", `{"policy_override":"rules:\n- id: r\n  decision: deny\n"}`, nil},
		{"a switch", `{"steps":{"s":{"type":"switch","condition":"input.k","input":{"cases":{"x":"a"},"default":"b"}},"a":{"depends_on":["s"]},"b":{}}}`, nil},
		{"a switch with a list", `{"steps":{"s":{"type":"switch","input":{"cases":[{"value":1,"step":"a"},{"match":"x","step":"a"}]}},"a":{}}}`, nil},
		{"targets of a switch", `{"steps":{"s":{"type":"switch","input":{"cases":[{"value":1,"step":"x"},{"value":2,"step":"s"}],"default":"y"}}}}`, []string{
			`step "s": input: the step names itself`, `step "s": input: there is no step "x"`, `step "s": input: there is no step "y"`,
		}},
		{"cases of a switch", `{"steps":{"s":{"type":"switch","input":{"cases":[{"step":"a"}]}},"a":{}}}`, []string{`step "s": input: cases[0] has no value`}},
		{"a parallel", `{"steps":{"p":{"type":"parallel","input":{"steps":" a, b ,a","strategy":"N-of-M","required":"2"}},"a":{"depends_on":["p"]},"b":{}}}`, nil},
		{"a parallel of templates", `{"steps":{"p":{"type":"parallel","input":{"steps":"${input.steps}","strategy":"${input.x}"}}}}`, nil},
		{"a parallel of none", `{"steps":{"p":{"type":"parallel"}}}`, nil},
		{"children of a parallel", `{"steps":{"p":{"type":"parallel","input":{"steps":["x","p"],"strategy":"some"}}}}`, []string{
			`step "p": input: strategy "some" must be all, any or n_of_m`, `step "p": input.steps: the step names itself`,
			`step "p": input.steps: there is no step "x"`,
		}},
		{"too many required", `{"steps":{"p":{"type":"parallel","input":{"steps":["a"],"strategy":"n_of_m","required":2}},"a":{}}}`,
			[]string{`step "p": input: required must be a whole number from 1 to 1, the number of children`}},
		{"a child of two", `{"steps":{"p":{"type":"parallel","input":{"steps":["a"]}},"q":{"type":"parallel","input":{"steps":["a"]}},"a":{}}}`,
			[]string{`step "q": input.steps: step "a" belongs to the parallel step "p"`}},
		{"a parallel that waits for its child", `{"steps":{"p":{"type":"parallel","input":{"steps":["a"]},"depends_on":["x"]},"x":{"depends_on":["a"]},"a":{}}}`,
			[]string{`step "a": depends_on: the step waits for itself: a → p → x → a`}},
		{"a child that waits for what follows", `{"steps":{"p":{"type":"parallel","input":{"steps":["a"]}},"x":{"depends_on":["p"]},"a":{"depends_on":["x"]}}}`,
			[]string{`step "a": depends_on: the step waits for itself: a → x → p → a`}},
		{"parallels in each other", `{"steps":{"p":{"type":"parallel","input":{"steps":["q"]}},"q":{"type":"parallel","input":{"steps":["p"]}}}}`,
			[]string{`step "p": depends_on: the step waits for itself: p → q → p`}},
		{"a loop", `{"steps":{"l":{"type":"loop","input":{"body_step":"b","max_iterations":3,"until":"${loop_previous_output.done}"}},"b":{"depends_on":["l"]}}}`, nil},
		{"a loop of itself", `{"steps":{"l":{"type":"loop","topic":"job.x","input":{"max_iterations":"${input.n}"}}}}`, nil},
		{"the body of a loop", `{"steps":{"l":{"type":"loop","input":{"body":"x","max_iterations":0,"condition":"("}}}}`, []string{
			`step "l": input: max_iterations must be a whole number from 1 to 1000`, `step "l": input.body_step: there is no step "x"`,
		}},
		{"expressions of a loop", `{"steps":{"l":{"type":"loop","input":{"until":"("}}}}`, []string{`step "l": input: until: unexpected end at 2`}},
		{"a subworkflow", `{"steps":{"s":{"type":"subworkflow","input":{"workflow_id":"x","input":{"a":"${input.a}"},"output_mapping":{"b":"${steps.c.output}"}}}}}`, nil},
		{"a subworkflow of nothing", `{"steps":{"s":{"type":"subworkflow"}}}`, []string{`step "s": input: workflow_id must be the id of a workflow`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := read(t, c.text)
			w.ID = "w"
			got := Validate(w)
			ok := len(got) == len(c.want)
			for i := 0; ok && i < len(got); i++ {
				ok = strings.HasPrefix(got[i].String(), c.want[i])
			}
			if !ok {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

func TestIDsOfWorkflows(t *testing.T) {
	for id, valid := range map[string]bool{
		"hello-pack.echo": true, "A_b-1": true, "9": true, strings.Repeat("x", 128): true,
		"": false, ".a": false, "-a": false, "a/b": false, "a b": false, "ä": false, strings.Repeat("x", 129): false, "a\n": false,
	} {
		if got := Validate(&Workflow{ID: id}); ValidID(id) != valid || (len(got) == 0) != valid {
			t.Errorf("%q: %v", id, got)
		}
	}
}

func TestLimitsOfDefinitions(t *testing.T) {
	steps := func(n int) *Workflow {
		w := &Workflow{ID: "w", Steps: Steps{}}
		for i := range n {
			s := &Step{ID: fmt.Sprintf("s%03d", i)}
			for j := range i {
				s.DependsOn = append(s.DependsOn, fmt.Sprintf("s%03d", j))
			}
			w.Steps[s.ID] = s
		}
		return w
	}
	many := steps(MaxSteps)
	many.Steps["s000"].DependsOn = []string{"s499"} // one large knot
	start := time.Now()
	if got := Validate(many); len(got) != 1 || !strings.Contains(got[0].Message, "the step waits for itself") {
		t.Errorf("%v", got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := Validate(steps(MaxSteps + 1)); len(got) != 1 || got[0].Message != "501 steps, and at most 500 are allowed" {
		t.Errorf("%v", got)
	}
	if got := Validate(&Workflow{ID: "w", Description: strings.Repeat("x", MaxSize)}); len(got) != 1 || got[0].Message != "larger than 1048576 bytes" {
		t.Errorf("%v", got)
	}
}

func TestProblemsAsFault(t *testing.T) {
	if Problems(nil).Fault() != nil {
		t.Error("no problems are a fault")
	}
	w := &Workflow{ID: "w", Steps: Steps{}}
	for i := range 12 {
		id := fmt.Sprintf("s%02d", i)
		w.Steps[id] = &Step{ID: id, DependsOn: []string{"x"}}
	}
	f := Validate(w).Fault()
	if !strings.HasPrefix(f.Message, `invalid workflow: step "s00": depends_on: there is no step "x"; step "s01": `) || !strings.HasSuffix(f.Message, "; and 2 more") {
		t.Error(f.Message)
	}
	if all, _ := f.Details["problems"].([]Problem); len(all) != 12 || !slices.Contains(all, Problem{"s11", "depends_on", `there is no step "x"`}) {
		t.Error(f.Details)
	}
}
