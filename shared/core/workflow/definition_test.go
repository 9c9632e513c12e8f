package workflow

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func read(t testing.TB, text string) *Workflow {
	t.Helper()
	w, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// full has every member, as the wire has them.
const full = `{"id":"etl.nightly","org_id":"default","team_id":"t","name":"Nightly","description":"d","version":"3","timeout_sec":600,
"steps":{"gate":{"id":"gate","name":"Gate","type":"approval"},
"load":{"id":"load","name":"Load","type":"worker","topic":"job.etl.load","worker_id":"w","depends_on":["gate"],"condition":"input.go","for_each":"input.files",
"max_parallel":2,"input":{"file":"${item}","n":9007199254740993},"input_schema":{"type":"object"},"input_schema_id":"a/B","output_path":"x.y",
"result_data_path":"data","output_schema":{"type":"object"},"output_schema_id":"a/C",
"meta":{"actor_id":"a","actor_type":"human","idempotency_key":"k","pack_id":"etl","capability":"etl.load","risk_tags":["r"],"requires":["q"],"labels":{"l":"v"}},
"on_error":"gate","retry":{"max_retries":1,"initial_backoff_sec":2,"max_backoff_sec":8,"multiplier":1.5},"timeout_sec":5,"delay_sec":6,
"delay_until":"2026-02-13T01:00:00Z","route_labels":{"zone":"${input.zone}"},"policy_gate":"deny"}},
"config":{"b":1,"a":[2]},"input_schema":{"type":"object","required":["files"]},"parameters":[{"name":"p"}],"policy_override":"rules: []","created_by":"maya",
"created_at":"2026-02-10T08:00:00.12Z","updated_at":"2026-02-12T08:00:00.5Z"}`

func TestDefinitionsLookAsOnTheWire(t *testing.T) {
	for name, text := range map[string]string{
		"everything": full,
		"nothing": `{"id":"","org_id":"","team_id":"","name":"","description":"","version":"","timeout_sec":0,"steps":{},"created_by":"",
			"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(read(t, text))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(tree(t, string(got)), tree(t, text)) {
				t.Errorf("%s\nwant %s", got, text)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	w := read(t, `{"apiVersion":"v1","steps":{"a":{"id":"b","frobnicate":1},"n":null},"config":null,"input_schema":{},"parameters":[]}`)
	if w.Steps["a"].ID != "a" || w.Steps["n"].ID != "n" {
		t.Errorf("the key is not the id: %+v", w.Steps)
	}
	if w.Config != nil || !w.InputSchema.IsZero() || !w.Parameters.IsZero() {
		t.Errorf("%s %s %s", w.Config, w.InputSchema, w.Parameters)
	}
	if w = read(t, `{}`); w.Steps != nil {
		t.Error("steps that were not said are there")
	}
	if w = read(t, `{"steps":{}}`); w.Steps == nil {
		t.Error("no steps are as steps that were not said")
	}
	for _, text := range []string{``, `[]`, `{"steps":[]}`, `{"timeout_sec":"x"}`, `{"steps":{"a":{"input":[]}}}`, `{}{}`} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func TestKind(t *testing.T) {
	for word, want := range map[string]Kind{
		"": Job, TypeWorker: Job, TypeLLM: Job, TypeHTTP: Job, TypeContainer: Job, TypeScript: Job, TypeInput: Job, "frobnicate": Job,
		TypeApproval: Approval, " Approval ": Approval, TypeCondition: Condition, TypeSwitch: Switch, TypeParallel: Parallel, TypeLoop: Loop,
		TypeDelay: Delay, TypeNotify: Notify, TypeTransform: Transform, TypeStorage: Storage, TypeSubworkflow: Subworkflow,
	} {
		s := Step{Type: word}
		if s.Kind() != want {
			t.Errorf("%q is %v, want %v", word, s.Kind(), want)
		}
	}
	if Job.String() != "job" || Approval.String() != "approval" {
		t.Error(Job, Approval)
	}
}

func TestMerge(t *testing.T) {
	made, now := time.Date(2026, 2, 10, 8, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.FixedZone("", 3600))
	stored := read(t, full)
	stored.CreatedAt = made
	before, _ := json.Marshal(stored)

	t.Run("W02 what is left empty stays", func(t *testing.T) {
		got := Merge(stored, read(t, `{"id":"etl.nightly","steps":{"only":{}}}`), now)
		want := *stored
		want.Steps, want.UpdatedAt = Steps{"only": {ID: "only"}}, now.UTC()
		if !reflect.DeepEqual(got, &want) {
			t.Errorf("%+v\nwant %+v", got, &want)
		}
	})
	t.Run("W02 what is said replaces", func(t *testing.T) {
		got := Merge(stored, read(t, `{"id":"etl.nightly","name":"New","timeout_sec":1,"config":{},"parameters":[{"q":1}],"steps":{}}`), now)
		if got.Name != "New" || got.TimeoutSec != 1 || !got.Config.IsZero() || string(got.Parameters) != `[{"q":1}]` || len(got.Steps) != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("W03 steps that were not said stay", func(t *testing.T) {
		if got := Merge(stored, read(t, `{"id":"etl.nightly"}`), now); !reflect.DeepEqual(got.Steps, stored.Steps) {
			t.Errorf("%+v", got.Steps)
		}
	})
	t.Run("W03 a new one without steps has none", func(t *testing.T) {
		if got := Merge(nil, read(t, `{"id":"new"}`), now); got.Steps == nil || len(got.Steps) != 0 || !got.CreatedAt.Equal(now) || !got.UpdatedAt.Equal(now) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("W07 the time of its making stays", func(t *testing.T) {
		posted := read(t, `{"id":"etl.nightly","created_at":"2020-01-01T00:00:00Z"}`)
		if got := Merge(stored, posted, now); !got.CreatedAt.Equal(made) || !got.UpdatedAt.Equal(now) {
			t.Errorf("%v, %v", got.CreatedAt, got.UpdatedAt)
		}
	})
	if after, _ := json.Marshal(stored); string(after) != string(before) {
		t.Error("the stored one has changed")
	}
}
