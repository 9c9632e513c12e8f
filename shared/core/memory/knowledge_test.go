package memory_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func learn(t *testing.T, table store.Table, call string, k memory.Knowledge, at time.Time) error {
	t.Helper()
	return (&memory.Store{Table: table}).Learn(t.Context(), "default", "m", call, k, at)
}

// chunks are the chunks of m, each as its number and its content.
func chunks(t *testing.T, table store.Table, at time.Time) []string {
	t.Helper()
	all, err := (&memory.Store{Table: table}).Chunks(t.Context(), "default", "m", at)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, c := range all {
		out = append(out, fmt.Sprint(c.Number, c.Path, string(c.Content)))
	}
	return out
}

func anyOf(contents ...string) memory.Knowledge {
	var k memory.Knowledge
	for _, c := range contents {
		k.Chunks = append(k.Chunks, memory.Chunk{Number: memory.Next, Content: []byte(c)})
	}
	return k
}

// restless is a table in which somebody replaces the chunks whenever they are read.
type restless struct {
	store.Table

	replace func()
}

func (r *restless) Query(ctx context.Context, q store.Query) (store.Page, error) {
	page, err := r.Table.Query(ctx, q)
	r.replace()
	return page, err
}

// Whoever reads chunks that never stay the same hears of it in the end.
func TestChunksThatAreReplacedWithoutEnd(t *testing.T) {
	table, now := newTable(t), time.Now()
	n := 0
	s := &memory.Store{Table: &restless{table, func() {
		if n++; n > 1000 {
			t.Fatal("it reads without end")
		}
		k := anyOf("x")
		k.Replace = true
		if err := learn(t, table, fmt.Sprint(n), k, now); err != nil {
			t.Fatal(err)
		}
	}}}
	if _, err := s.Chunks(t.Context(), "default", "m", now); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
}

func text(s string) *[]byte {
	b := []byte(s)
	return &b
}

func TestChunksHaveNumbers(t *testing.T) {
	table := newTable(t)
	numbers := func(k memory.Knowledge, numbers ...int64) memory.Knowledge {
		for i, n := range numbers {
			k.Chunks[i].Number = n
		}
		return k
	}
	replace := func(k memory.Knowledge) memory.Knowledge { k.Replace = true; return k }
	for i, step := range []struct {
		k    memory.Knowledge
		want []string
	}{
		{anyOf("a", "b"), []string{"0a", "1b"}},
		{anyOf("c"), []string{"0a", "1b", "2c"}},
		{numbers(anyOf("B"), 1), []string{"0a", "1B", "2c"}},
		{numbers(anyOf("g", "h"), memory.Next, 7), []string{"0a", "1B", "2c", "7h", "8g"}},
		{replace(anyOf("x", "y")), []string{"0x", "1y"}},
		{anyOf("z"), []string{"0x", "1y", "2z"}},
		{replace(memory.Knowledge{}), []string{}},
		{numbers(anyOf("q"), 5), []string{"5q"}},
	} {
		if err := learn(t, table, fmt.Sprint(i), step.k, now); err != nil {
			t.Fatal(err)
		}
		if got := chunks(t, table, now); !slices.Equal(got, step.want) {
			t.Fatalf("after %d: %v, want %v", i, got, step.want)
		}
	}
	page, err := table.Query(t.Context(), store.Query{PK: "M#default#m", Prefix: "C#"})
	if err != nil || len(page.Items) != 1 {
		t.Errorf("chunks that were replaced are left: %v, %v", page.Items, err)
	}
}

func TestWhatIsNoKnowledge(t *testing.T) {
	table := newTable(t)
	one := func(c memory.Chunk) memory.Knowledge { return memory.Knowledge{Chunks: []memory.Chunk{c}} }
	many := anyOf(make([]string, memory.MaxAtOnce+1)...)
	large := anyOf(slices.Repeat([]string{strings.Repeat("x", memory.MaxText)}, memory.MaxAtOnceBytes/memory.MaxText+1)...)
	for name, c := range map[string]struct {
		k    memory.Knowledge
		code fault.Code
	}{
		"nothing":      {memory.Knowledge{}, fault.Invalid},
		"a number":     {one(memory.Chunk{Number: -2}), fault.Invalid},
		"a large one":  {one(memory.Chunk{Number: 1e9}), fault.Invalid},
		"twice":        {memory.Knowledge{Chunks: []memory.Chunk{{Number: 3}, {Number: 3}}}, fault.Invalid},
		"negative":     {one(memory.Chunk{LOC: -1}), fault.Invalid},
		"no text":      {one(memory.Chunk{Path: "\xff"}), fault.Invalid},
		"a path":       {one(memory.Chunk{Path: strings.Repeat("x", 1025)}), fault.TooLarge},
		"a language":   {one(memory.Chunk{Language: strings.Repeat("x", 65)}), fault.TooLarge},
		"content":      {one(memory.Chunk{Content: make([]byte, memory.MaxText+1)}), fault.TooLarge},
		"a summary":    {memory.Knowledge{Summary: text(strings.Repeat("x", memory.MaxText+1))}, fault.TooLarge},
		"many":         {many, fault.TooLarge},
		"large at all": {large, fault.TooLarge},
	} {
		if err := learn(t, table, name, c.k, now); !fault.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	page, err := table.Query(t.Context(), store.Query{PK: "M#default#m"})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("stored is %v, %v", page.Items, err)
	}
}

// fill stores as many chunks of one size, a part after the other.
func fill(t *testing.T, table store.Table, n, size int, at time.Time) {
	t.Helper()
	for n > 0 {
		part := min(n, memory.MaxAtOnce, memory.MaxAtOnceBytes/max(1, size))
		n -= part
		if err := learn(t, table, fmt.Sprint("fill ", n, size, at), anyOf(slices.Repeat([]string{strings.Repeat("x", size)}, part)...), at); err != nil {
			t.Fatal(err)
		}
	}
}

// A memory is bounded in number and in bytes. What is refused changes nothing; what is replaced, and what is over, makes room.
func TestAMemoryIsBounded(t *testing.T) {
	for name, f := range map[string]struct{ n, size int }{"number": {memory.MaxChunks, 1}, "bytes": {memory.MaxSize / memory.MaxText, memory.MaxText}} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t)
			fill(t, table, f.n, f.size, now)
			if err := learn(t, table, "more", anyOf("x"), now); !fault.Is(err, fault.TooLarge) {
				t.Errorf("one more: %v", err)
			}
			if got := chunks(t, table, now); len(got) != f.n {
				t.Errorf("%d are there", len(got))
			}
			over := memory.Knowledge{Chunks: []memory.Chunk{{Number: 3, Content: []byte("y")}}}
			if err := learn(t, table, "over", over, now); err != nil {
				t.Errorf("in the place of another: %v", err)
			}
			later := now.Add(memory.Retention - time.Hour)
			if err := learn(t, table, "keeps the head", memory.Knowledge{Summary: text("s")}, later); err != nil {
				t.Error(err)
			}
			if err := learn(t, table, "room", anyOf("z"), later.Add(2*time.Hour)); err != nil {
				t.Errorf("when all are over: %v", err)
			}
			if got := chunks(t, table, later.Add(2*time.Hour)); !slices.Equal(got, []string{fmt.Sprint(f.n, "z")}) {
				t.Errorf("%v", got)
			}
		})
	}
}

// A memory of the largest size is forgotten as a whole, and what is replaced is removed, in more than one write.
func TestMuchIsForgotten(t *testing.T) {
	table := newTable(t)
	fill(t, table, memory.MaxChunks, 1, now)
	if err := learn(t, table, "again", memory.Knowledge{Replace: true, Summary: text("s")}, now); err != nil {
		t.Fatal(err)
	}
	fill(t, table, 300, 1, now.Add(time.Second))
	add(t, table, "m", "event", now)
	var adding sync.Once
	busy := &faulty{Table: table, spoil: func(n int) (error, bool) {
		if n == 2 {
			adding.Do(func() {
				if err := learn(t, table, "meanwhile", anyOf("x"), now); err != nil {
					t.Error(err)
				}
			})
		}
		return nil, true
	}}
	if err := (&memory.Store{Table: busy}).Forget(t.Context(), "default", "m"); err != nil {
		t.Fatal(err)
	}
	page, err := table.Query(t.Context(), store.Query{PK: "M#default#m"})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("left are %d items, %v", len(page.Items), err)
	}
}

// A call whose answer is lost takes effect once, whatever others store before it is made again.
func TestALostAnswerStoresOnce(t *testing.T) {
	for _, others := range []int{0, 1, 30} {
		table := newTable(t)
		spoilt := &faulty{Table: table, spoil: func(n int) (error, bool) {
			if n == 0 {
				return store.ErrConflict, true
			}
			return nil, true
		}, then: func() {
			for i := range others {
				if err := learn(t, table, fmt.Sprint(i), memory.Knowledge{Chunks: []memory.Chunk{{Number: 0, Content: []byte("theirs")}}}, now); err != nil {
					t.Error(err)
				}
			}
		}}
		k := memory.Knowledge{Chunks: []memory.Chunk{{Number: 0, Content: []byte("mine")}, {Number: memory.Next, Content: []byte("more")}}}
		if err := learn(t, spoilt, "call", k, now); err != nil {
			t.Fatal(err)
		}
		want := []string{"0mine", "1more"}
		if others > 0 {
			want[0] = "0theirs"
		}
		if got := chunks(t, table, now); !slices.Equal(got, want) {
			t.Errorf("%d others: %v", others, got)
		}
	}
}

// Events and knowledge of one call's name are two things.
func TestCallsOfAKind(t *testing.T) {
	table := newTable(t)
	add(t, table, "m", "same", now)
	for range 2 {
		if err := learn(t, table, "same", anyOf("x"), now); err != nil {
			t.Fatal(err)
		}
		add(t, table, "m", "same", now)
	}
	if got := chunks(t, table, now); len(got) != 1 || len(events(t, table, "default", "m", now)) != 1 {
		t.Errorf("%v", got)
	}
}

func TestASummaryIsReplacedAndRemoved(t *testing.T) {
	table := newTable(t)
	s := &memory.Store{Table: table}
	for i, want := range []string{"one", "two", ""} {
		if err := learn(t, table, fmt.Sprint(i), memory.Knowledge{Summary: text(want)}, now); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Summary(t.Context(), "default", "m", now); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := learn(t, table, "last", memory.Knowledge{Summary: text("last")}, now); err != nil {
		t.Fatal(err)
	}
	for at, there := range map[time.Time]bool{now.Add(memory.Retention - time.Second): true, now.Add(memory.Retention): false} {
		if got, err := s.Summary(t.Context(), "default", "m", at); err != nil || (got != nil) != there {
			t.Errorf("at %s: %q, %v", at, got, err)
		}
	}
	if got, err := s.Summary(t.Context(), "other", "m", now); err != nil || got != nil {
		t.Errorf("another tenant's: %q, %v", got, err)
	}
}

// watching replaces chunks while somebody reads them.
type watching struct {
	store.Table
	then func()
}

func (w *watching) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if do := w.then; do != nil {
		w.then = nil
		do()
	}
	return w.Table.Query(ctx, q)
}

func TestNobodySeesHalfOfAReplacement(t *testing.T) {
	table := newTable(t)
	fill(t, table, 300, 1, now)
	w := &watching{Table: table, then: func() {
		k := anyOf("new")
		k.Replace = true
		if err := learn(t, table, "replace", k, now); err != nil {
			t.Error(err)
		}
	}}
	if got := chunks(t, w, now); !slices.Equal(got, []string{"0new"}) {
		t.Errorf("%v", got)
	}
}

// T-123, of values that a plane has.
func TestT123_DocumentsAreWhatClientsOfTheOriginalKnow(t *testing.T) {
	table := newTable(t)
	s := &memory.Store{Table: table}
	for i, event := range []string{`{"role":"user","content":"<hi>"}`, "no JSON", "\xff"} {
		if err := s.Append(t.Context(), "default", "a:b", fmt.Sprint(i), now, memory.Event{ID: fmt.Sprint(i), Text: []byte(event)}); err != nil {
			t.Fatal(err)
		}
	}
	k := memory.Knowledge{Summary: text("all of it"), Chunks: []memory.Chunk{
		{Number: memory.Next, Path: "a.go", Content: []byte("package a"), Language: "go", Bytes: 9, LOC: 1},
		{Number: 12, Path: "b.json", Content: []byte(`{"n":1}`)}, {Number: 13, Path: "c.bin", Content: []byte("\xff\x00")},
	}}
	if err := s.Learn(t.Context(), "default", "a:b", "k", k, now); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"a:b:events":   `{"redis_type":"list","length":3,"items":[{"role":"user","content":"<hi>"},"no JSON",{"base64":"/w=="}]}`,
		"a:b:summary":  `{"redis_type":"string","value":"all of it"}`,
		"a:b:chunks":   `{"redis_type":"set","length":3,"items":["mem:a:b:chunk:12","mem:a:b:chunk:13","mem:a:b:chunk:14"]}`,
		"a:b:chunk:14": `{"redis_type":"hash","length":5,"items":{"bytes":9,"content":"package a","language":"go","loc":1,"path":"a.go"}}`,
		"a:b:chunk:12": `{"redis_type":"hash","length":5,"items":{"bytes":0,"content":{"n":1},"language":"","loc":0,"path":"b.json"}}`,
		"a:b:chunk:13": `{"redis_type":"hash","length":5,"items":{"bytes":0,"content":{"base64":"/wA="},"language":"","loc":0,"path":"c.bin"}}`,
		"a:b:chunk:0":  "", "a:b:chunk:012": "", "a:b:chunk:-1": "", "a:b:chunk:+12": "", "a:b:chunk:": "", "a:b:chunk:x": "", "a:b:chunk:99999999999999999999": "",
		"a:b": "", "a:b:": "", "a:events": "", ":events": "", "events": "", "": "", "a:b:other": "", "a:b:chunk:12:events": "",
		strings.Repeat("x", 3000) + ":events": "", "\xff:events": "",
	} {
		got, err := s.Document(t.Context(), "default", key, now)
		if err != nil || string(got) != want {
			t.Errorf("%.60s: %s, %v, want %s", key, got, err, want)
		}
		if got, err := s.Document(t.Context(), "other", key, now); err != nil || got != nil {
			t.Errorf("%.60s of another tenant: %s, %v", key, got, err)
		}
		if got, err := s.Document(t.Context(), "default", key, now.Add(memory.Retention)); err != nil || got != nil {
			t.Errorf("%.60s when its time is over: %s, %v", key, got, err)
		}
	}
	for summary, want := range map[string]string{
		`{"n":[1.0]}`: `{"redis_type":"string","value":{"n":[1.0]}}`, "12": `{"redis_type":"string","value":12}`, "\xff\x00": `{"redis_type":"string","base64":"/wA="}`,
		"\"\xff\"": `{"redis_type":"string","base64":"Iv8i"}`, " ": `{"redis_type":"string","value":" "}`, "null": `{"redis_type":"string","value":null}`,
	} {
		if err := s.Learn(t.Context(), "default", "a:b", summary, memory.Knowledge{Summary: text(summary)}, now); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Document(t.Context(), "default", "a:b:summary", now); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", summary, got, err)
		}
	}
}

func TestIDsOfMemories(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "run:3f2b": true, "mem:run:step@1[2]": true, strings.Repeat("x", 512): true, strings.Repeat("x", 513): false, "\xff": false,
	} {
		if err := memory.CheckID(id); (err == nil) != ok {
			t.Errorf("%.20q: %v", id, err)
		}
	}
	long := bytes.Repeat([]byte("#"), 512)
	if _, err := (&memory.Store{Table: newTable(t)}).Events(t.Context(), "default", string(long), now); err != nil {
		t.Error(err)
	}
}

// What is stored, replaced and over is what a simple model says, and the head never counts less than there is.
func TestChunksAreThoseOfTheModel(t *testing.T) {
	table := newTable(t)
	rapid.Check(t, func(r *rapid.T) {
		at := now
		expire(t, table, now.Add(10*365*24*time.Hour)) // what the check before has left
		type entry struct {
			content string
			until   time.Time
		}
		model, next := map[int64]entry{}, int64(0)
		live := func() []string {
			out := []string{}
			for _, n := range slices.Sorted(maps.Keys(model)) {
				if at.Before(model[n].until) {
					out = append(out, fmt.Sprint(n, model[n].content))
				}
			}
			return out
		}
		var written time.Time
		for call := range rapid.IntRange(1, 12).Draw(r, "calls") {
			at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(r, "days")) * 24 * time.Hour)
			if at.Sub(written) >= memory.Retention {
				next = 0 // nothing of it is left
			}
			if rapid.IntRange(0, 9).Draw(r, "deletes") == 0 { // what is over may be deleted, or not yet
				expire(t, table, at)
			}
			k := memory.Knowledge{Replace: rapid.IntRange(0, 4).Draw(r, "replace") == 0, Summary: text("s")}
			if k.Replace {
				model, next = map[int64]entry{}, 0
			}
			numbers := rapid.SliceOfNDistinct(rapid.Int64Range(-8, 5), 0, 4, rapid.ID).Draw(r, "numbers")
			for _, n := range numbers {
				next = max(next, n+1)
			}
			for i, n := range numbers {
				content := fmt.Sprint("/", call, "-", i)
				c := memory.Chunk{Number: max(n, memory.Next), Content: []byte(content)}
				if n < 0 {
					n = next
					next++
				}
				k.Chunks = append(k.Chunks, c)
				model[n] = entry{content, at.Add(memory.Retention)}
			}
			if err := learn(t, table, fmt.Sprint(call), k, at); err != nil {
				r.Fatal(err)
			}
			written = at
			got, want := chunks(t, table, at), live()
			if !slices.Equal(got, want) {
				r.Fatalf("%v, want %v", got, want)
			}
			head, err := table.Get(t.Context(), store.Key{PK: "M#default#m", SK: "H"})
			if err != nil || head.Attrs.Int("q") < int64(len(want)) {
				r.Fatalf("the head counts %d of %d, %v", head.Attrs.Int("q"), len(want), err)
			}
		}
	})
}

// expire deletes what is over, as the table does some day.
func expire(t *testing.T, table store.Table, at time.Time) {
	t.Helper()
	for it, err := range store.Items(t.Context(), table, store.Query{PK: "M#default#m"}) {
		if err != nil {
			t.Fatal(err)
		}
		if !it.Live(at.Unix()) {
			if err := table.Write(t.Context(), store.Delete(it.Key)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
