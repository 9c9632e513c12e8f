package window_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/core/memory/window"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestWhatAPayloadAsks(t *testing.T) {
	for payload, want := range map[string]window.Question{
		``: {}, " \n": {}, `hello`: {Text: `hello`}, ` hello `: {Text: ` hello `}, `"hello"`: {Text: `"hello"`}, `[1]`: {Text: `[1]`}, `null`: {Text: `null`},
		`{"prompt":"p"} x`: {Text: `{"prompt":"p"} x`}, `{`: {Text: `{`}, `{}`: {Text: `{}`}, "a\xff": {Text: "a\uFFFD"},
		`{"prompt":"p","message":"m","instruction":"i"}`:       {Text: "p"},
		`{"prompt":"","message":"m","instruction":"i"}`:        {Text: "m"},
		`{"prompt":" ","message":7,"instruction":"i"}`:         {Text: "i"},
		`{"Prompt":"no","message":"m"}`:                        {Text: "m"},
		`{"instruction":"i","code_snippet":"x := 1"}`:          {Text: "i\n\nCode:\nx := 1"},
		`{"instruction":"i","code_snippet":" "}`:               {Text: "i"},
		`{"prompt":"p","code_snippet":"x"}`:                    {Text: "p"},
		`{"code_snippet":"x"}`:                                 {Text: `{"code_snippet":"x"}`},
		`{"prompt":" kept as it is ","file_path":" a/b.go\n"}`: {Text: " kept as it is ", File: "a/b.go"},
		`{"file_path":"  "}`:                                   {Text: `{"file_path":"  "}`},
		`{"prompt":"p","file_path":["a"]}`:                     {Text: "p"},
	} {
		if got, err := window.Ask([]byte(payload)); err != nil || got != want {
			t.Errorf("%q asks %+v, %v, want %+v", payload, got, err, want)
		}
	}
	if _, err := window.Ask(make([]byte, window.MaxPayload+1)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a payload that is too long: %v", err)
	}
}

// Whatever a payload is, what it asks can be sent.
func TestQuestionsAreText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.MapOf(
			rapid.SampledFrom([]string{"prompt", "message", "instruction", "code_snippet", "file_path", "x"}), rapid.String()),
			func(m map[string]string) []byte { b, _ := json.Marshal(m); return b })).Draw(t, "payload")
		q, err := window.Ask(payload)
		if err != nil || !utf8.ValidString(q.Text+q.File) {
			t.Fatalf("%q, %v", q, err)
		}
		if blank := strings.TrimSpace(strings.ToValidUTF8(string(payload), "x")) == ""; blank != (len(q.Messages()) == 0) {
			t.Fatalf("%q asks %v", payload, q.Messages())
		}
	})
}

func event(text string) memory.Event { return memory.Event{Text: json.RawMessage(text)} }

// A chat's messages, and those of other writers, are a history. It comes newest first, and is shown oldest first.
func TestHistoriesAreMessages(t *testing.T) {
	got := window.History([]memory.Event{
		event(`{"role":"robot","content":"who"}`), event(`no JSON`), event(`["a"]`), event(`null`), event(`{"role":"user","content":7}`), event(`{"role":"user"}`),
		event(`{"role":"user","content":" \n"}`), event(`{"id":"1","run_id":"r","role":"agent","content":"done","created_at":"2026-11-23T11:00:00Z","metadata":{}}`),
		event(`{"role":"assistant","content":"ho","ts":1}`), event(`{"role":"system","content":"be kind"}`), event(`{"role":"user","content":"hi","ts":1}`),
	})
	want := []window.Message{
		{Role: "user", Content: "hi"}, {Role: "system", Content: "be kind"}, {Role: "assistant", Content: "ho"}, {Role: "assistant", Content: "done"},
		{Role: "assistant", Content: "who"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestWhatIsShownOfFiles(t *testing.T) {
	chunks := []memory.Chunk{
		{Path: "src/a.go", Content: []byte("package a")}, {Path: "src/b.go", Content: []byte("package b")}, {Path: "", Content: []byte("of all")},
		{Path: "src/a.go", Language: "go", Bytes: 120, LOC: 7}, {Path: "src/a.go.orig", Content: []byte("\xff")},
	}
	for file, want := range map[string][]string{
		"a.go":            {"File: src/a.go\npackage a", "File: \nof all", "File: src/a.go (language go, 120 bytes, 7 lines of code)", "File: src/a.go.orig\n\uFFFD"},
		"/home/src/b.go":  {"File: src/b.go\npackage b", "File: \nof all"},
		"nowhere":         {"File: \nof all"},
		"/x/src/a.go.bak": {"File: src/a.go\npackage a", "File: \nof all", "File: src/a.go (language go, 120 bytes, 7 lines of code)"},
	} {
		var got []string
		for _, m := range window.Files(chunks, file) {
			if m.Role != window.System {
				t.Errorf("%+v", m)
			}
			got = append(got, m.Content)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", file, got)
		}
	}
	for summary, n := range map[string]int{"": 0, " ": 0, "all of it": 1, "\xff": 1} {
		if got := window.Summary([]byte(summary)); len(got) != n || n == 1 && (got[0].Role != window.System || !utf8.ValidString(got[0].Content)) {
			t.Errorf("%q: %v", summary, got)
		}
	}
}

// messages are of any length around the place where a token ends.
var messages = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) window.Message {
	return window.Message{
		Role:    rapid.SampledFrom([]string{window.System, window.User, window.Assistant}).Draw(t, "role"),
		Content: strings.Repeat("x", rapid.IntRange(0, 50).Draw(t, "bytes")),
	}
}), 0, 40)

func cost(all []window.Message) (tokens int) {
	for _, m := range all {
		tokens += len(m.Content) / 4
	}
	return tokens
}

// What is kept is the end of all, the last message always, as much as fits and no more, and what it costs is said.
func TestAWindowFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := messages.Draw(t, "all")
		budget := rapid.IntRange(-2, 300).Draw(t, "budget")
		before := slices.Clone(all)
		kept, tokens := window.Fit(all, budget)
		if !slices.Equal(all, before) {
			t.Fatal("the caller's list is changed")
		}
		if tokens != cost(kept) {
			t.Fatalf("%d tokens, they are %d", tokens, cost(kept))
		}
		if !slices.Equal(kept, all[len(all)-len(kept):]) || len(all) > 0 && len(kept) == 0 {
			t.Fatalf("%d of %d are kept, not the last ones", len(kept), len(all))
		}
		limit := budget
		if budget == 0 {
			limit = window.DefaultInput
		}
		if budget < 0 {
			if len(kept) != len(all) {
				t.Fatal("trimmed without a limit")
			}
			return
		}
		if tokens > limit && len(kept) > 1 {
			t.Fatalf("%d tokens in %d messages do not fit %d", tokens, len(kept), limit)
		}
		if more := len(all) - len(kept) - 1; more >= 0 && cost(all[more:]) <= limit {
			t.Fatalf("message %d would have fit", more)
		}
	})
}

func TestTokensOfAnAnswer(t *testing.T) {
	for asked, want := range map[int]int{0: 1024, -5: 1024, 1: 1, 4096: 4096} {
		if got := window.Output(asked); got != want {
			t.Errorf("%d: %d", asked, got)
		}
	}
	all := []window.Message{{Role: window.User, Content: strings.Repeat("x", 4*4000)}, {Role: window.User, Content: strings.Repeat("x", 4*4000)}, {Role: window.User, Content: "xxxx"}}
	if kept, tokens := window.Fit(all, 0); len(kept) != 2 || tokens != 4001 {
		t.Errorf("%d messages of %d tokens in the default window", len(kept), tokens)
	}
	if kept, tokens := window.Fit(all[1:2], 1); len(kept) != 1 || tokens != 4000 {
		t.Errorf("one message that is too large: %d of %d tokens", len(kept), tokens)
	}
}

// What was asked and answered is, when it is read back, the same as in the window, but for the space around an answer.
func TestAnExchangeBecomesHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload, response := rapid.SliceOf(rapid.Byte()).Draw(t, "payload"), rapid.SliceOf(rapid.Byte()).Draw(t, "response")
		events, err := window.Exchange(payload, response, now)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(events)
		got := window.History(events)
		q, err := window.Ask(payload)
		if err != nil {
			t.Fatal(err)
		}
		want := q.Messages()
		if answer := strings.TrimSpace(strings.ToValidUTF8(string(response), "\uFFFD")); answer != "" {
			want = append(want, window.Message{Role: window.Assistant, Content: answer})
		}
		if !slices.Equal(got, want) || len(events) != len(want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
	events, err := window.Exchange([]byte(`{"prompt":"hi"}`), []byte(" ho\n"), now)
	if got := fmt.Sprintf("%s %s", events[0].Text, events[1].Text); err != nil ||
		got != `{"role":"user","content":"hi","ts":1795435200} {"role":"assistant","content":"ho","ts":1795435200}` {
		t.Errorf("%s, %v", got, err)
	}
	long := []byte(strings.Repeat("x", memory.MaxText+1))
	for name, pair := range map[string][2][]byte{"question": {long, nil}, "answer": {nil, long}} {
		if _, err := window.Exchange(pair[0], pair[1], now); !fault.Is(err, fault.TooLarge) {
			t.Errorf("a long %s: %v", name, err)
		}
	}
	if events, err := window.Exchange(long[1:], append(long[1:], " \n"...), now); err != nil || len(events) != 2 {
		t.Errorf("what just fits: %v", err)
	}
}
