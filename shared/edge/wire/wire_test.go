package wire_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/edge/wire"
)

func write(t testing.TB, v any) string {
	t.Helper()
	b, err := wire.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Fatalf("no JSON: %s", b)
	}
	return string(b)
}

func TestHowMessagesAreWritten(t *testing.T) {
	cases := []struct {
		name string
		v    any
		want string
	}{
		{"every field, zero or not", &cordumv1.SubmitJobResponse{JobId: "j"}, `{"job_id":"j","trace_id":"","status":"","reason":""}`},
		{"null when empty", &cordumv1.ListJobsResponse{}, `{"items":[],"next_cursor":null}`},
		{"64-bit numbers are numbers", &cordumv1.ListJobsResponse{NextCursor: 1770975503123456}, `{"items":[],"next_cursor":1770975503123456}`},
		{"left out when empty", &cordumv1.CancelJobResponse{Id: "j", State: "CANCELLED"}, `{"id":"j","state":"CANCELLED"}`},
		{"a record shows what it has", &cordumv1.JobRecord{Id: "j", State: "PENDING", UpdatedAt: 7, RiskTags: []string{"a"}},
			`{"id":"j","state":"PENDING","updated_at":7,"risk_tags":["a"]}`},
		{"a bare array", []*cordumv1.JobRecord{{Id: "a", State: "PENDING"}}, `[{"id":"a","state":"PENDING","updated_at":0}]`},
		{"an empty array", []*cordumv1.JobRecord(nil), `[]`},
		{"any JSON, byte for byte", &cordumv1.Json{Raw: []byte(`{"n":12345678901234567890,"f":1.0,"s":"\u003c"}`)}, `{"n":12345678901234567890,"f":1.0,"s":"\u003c"}`},
		{"any JSON that is not there", &cordumv1.Json{}, `null`},
		{"CAP is protobuf JSON", &agentv1.Budget{DeadlineMs: 5}, `{"maxInputTokens":"0","maxOutputTokens":"0","maxTotalTokens":"0","deadlineMs":"5"}`},
		{"text that needs escapes", &cordumv1.GetJobStatusRequest{JobId: "a\"\\\n\t\x01<é\u2028"}, "{\"job_id\":\"a\\\"\\\\\\n\\t\\u0001<é\u2028\"}"},
		{"floats", &cordumv1.Worker{CpuLoad: 12.5}, ``},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := write(t, c.v); c.want != "" && got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if got := write(t, &cordumv1.Worker{CpuLoad: 12.1}); !strings.Contains(got, `"cpu_load":12.1,`) {
		t.Errorf("a 32-bit float: %s", got)
	}
	if got := write(t, &cordumv1.Job{Context: &cordumv1.Json{Raw: []byte(` [1] `)}}); !strings.Contains(got, `"context":[1],`) || !strings.Contains(got, `"result":null`) ||
		!strings.Contains(got, `"safety_constraints":null`) || strings.Contains(got, "error_code") {
		t.Errorf("a job: %s", got)
	}
	if _, err := wire.Append(nil, &cordumv1.Json{Raw: []byte(`{`)}); err == nil {
		t.Error("broken JSON was spliced in")
	}
}

func TestHowMessagesAreRead(t *testing.T) {
	good := map[string]*cordumv1.CreateJobRequest{
		`{"prompt":"p","max_output_tokens":7}`:                      {Prompt: "p", MaxOutputTokens: 7},
		` {"maxOutputTokens" : "7" , "prompt":"p"} `:                {Prompt: "p", MaxOutputTokens: 7},
		`{"prompt":"p","unknown":{"a":[1,{"b":"}"}]},"tags":["x"]}`: {Prompt: "p", Tags: []string{"x"}},
		`{"prompt":null,"labels":null,"context":null}`:              {},
		`{"labels":{"a":"b","c":"d\n"},"allow_retrieval":true}`:     {Labels: map[string]string{"a": "b", "c": "d\n"}, AllowRetrieval: true},
		`{"context":{"n":1.0},"max_input_tokens":1e3}`:              {Context: &cordumv1.Json{Raw: []byte(`{"n":1.0}`)}, MaxInputTokens: 1000},
		`{"prompt":"\u0041\ud83d\ude00"}`:                           {Prompt: "A😀"},
		`{"risk_tags":[]}`:                                          {},
	}
	for text, want := range good {
		got := &cordumv1.CreateJobRequest{}
		if err := wire.Unmarshal([]byte(text), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	bad := []string{
		``, ` `, `[]`, `"x"`, `{"prompt":7}`, `{"prompt":"a"}{}`, `{"prompt":"a"`, `{"max_output_tokens":1.5}`, `{"max_output_tokens":true}`,
		`{"max_input_tokens":99999999999}`, `{"tags":"x"}`, `{"tags":[1]}`, `{"labels":[]}`, `{"labels":{"a":1}}`, `{"prompt":"a","prompt":"b"}`,
		"{\"prompt\":\"\xff\"}", `{"allow_retrieval":"true"}`, `{"context":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, `nul`,
	}
	for _, text := range bad {
		if err := wire.Unmarshal([]byte(text), &cordumv1.CreateJobRequest{}); err == nil {
			t.Errorf("%s was read", text)
		}
	}
	var nested *cordumv1.Json
	if err := wire.Unmarshal([]byte(`{"a":1}`), &nested); err != nil || string(nested.GetRaw()) != `{"a":1}` {
		t.Errorf("into a pointer: %v, %v", nested, err)
	}
}

var detail = &cordumv1.Job{
	Id: "8c0e6f0a-0000-4000-8000-000000000000", State: "SUCCEEDED", TraceId: "51aa02d7-0000-4000-8000-000000000000", Topic: "job.etl.load", Tenant: "default",
	ActorId: "maya", ActorType: "human", RiskTags: []string{"write", "prod"}, Attempts: 1, ContextPtr: "redis://ctx:8c0e6f0a",
	Context: &cordumv1.Json{Raw: []byte(`{"prompt":"load","context":{"path":"/tmp"}}`)}, ResultPtr: "redis://res:8c0e6f0a",
	Result: &cordumv1.Json{Raw: []byte(`{"rows":9}`)}, SafetyDecision: "ALLOW", SafetyReason: "allowed", SafetyRuleId: "etl",
	Labels: map[string]string{"env": "dev", "team": "core"}, CreatedAt: 1770975503123456, UpdatedAt: 1770975504123456,
}

func BenchmarkAppendJob(b *testing.B) {
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf, _ = wire.Append(buf[:0], detail)
	}
}

func BenchmarkProtojsonJob(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protojson.Marshal(detail); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalSubmission(b *testing.B) {
	text := []byte(`{"topic":"job.demo.hash","prompt":"hash it","context":{"text":"abc"},"labels":{"run":"bench"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := wire.Unmarshal(text, &cordumv1.CreateJobRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzUnmarshal: nothing panics, and what is read is written and read again the same.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"prompt":"p","labels":{"a":"b"},"context":{"x":[1,2]},"max_input_tokens":"7","tags":["\u00e9"]}`))
	f.Add([]byte(`{"a":"\"}"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := &cordumv1.CreateJobRequest{}
		if wire.Unmarshal(text, m) != nil {
			return
		}
		first, err := wire.Append(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		again := &cordumv1.CreateJobRequest{}
		if err := wire.Unmarshal(first, again); err != nil {
			t.Fatalf("%v: %s", err, first)
		}
		second, err := wire.Append(nil, again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s, then %s, %v", first, second, err)
		}
	})
}
