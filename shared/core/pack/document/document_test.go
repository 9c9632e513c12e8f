package document_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/pack/document"
)

func TestRead(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"JSON", ` {"a":[1,2.50,"x",null,true],"b":{}} `, `{"a":[1,2.50,"x",null,true],"b":{}}`},
		{"YAML", "a: [1, 2.50, x, null, true]\nb: {}\n", `{"a":[1,2.50,"x",null,true],"b":{}}`},
		{"numbers as they were written", "a: 1.10\nb: 1.0e3\nc: 12345678901234567890\nd: 0x1F\ne: .5\nf: -3", `{"a":1.10,"b":1.0e3,"c":12345678901234567890,"d":31,"e":0.5,"f":-3}`},
		{"texts that look otherwise", "a: 0.1.0\nb: yes\nc: 2026-01-01\nd: '1'\ne: |\n  two\n  lines\nf: >\n  one\n  line\n",
			`{"a":"0.1.0","b":"yes","c":"2026-01-01","d":"1","e":"two\nlines\n","f":"one line\n"}`},
		{"templates", "a: ${input.x}\nb: \"{{ y }}\"", `{"a":"${input.x}","b":"{{ y }}"}`},
		{"aliases", "a: &x {b: 1}\nc: *x\nd: [*x, *x]", `{"a":{"b":1},"c":{"b":1},"d":[{"b":1},{"b":1}]}`},
		{"a marker and comments", "# what\n---\na: 1 # one\n", `{"a":1}`},
		{"nothing", "", "null"},
		{"a word", "word", `"word"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := document.Read([]byte(tt.text))
			got, _ := json.Marshal(v)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// laughs is a text of a few lines that stands for n to the 9th words.
func laughs(n int) string {
	var b strings.Builder
	fmt.Fprintln(&b, "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	return b.String()
}

func refused() []struct{ name, text, want string } {
	return []struct{ name, text, want string }{
		{"a key twice", "a: 1\nb: 2\na: 3", `line 3: mapping key "a" already defined at [1:1]`},
		{"a key twice, in JSON", `{"x":{"a":1,"a":2}}`, `key "a" stands twice in an object`},
		{"a key twice, spelled otherwise", `{"a":1,"\u0061":2}`, `key "a" stands twice in an object`},
		{"a million laughs", laughs(9), "line 6: the values are more than 4194304 bytes, aliases counted as often as they are used"},
		{"a long text, laughed", "a: &a " + strings.Repeat("x", 30000) + "\nb: [" + strings.Repeat("*a, ", 1000) + "*a]",
			"line 2: the values are more than 4194304 bytes, aliases counted as often as they are used"},
		{"an anchor in itself", "a: &x [*x]", `line 1: no anchor is called "x"`},
		{"an anchor that is not there", "a: *x", `line 1: no anchor is called "x"`},
		{"a merge key", "a: &x {b: 1}\nc:\n  <<: *x", "line 3: merge keys are not supported; write the members out"},
		{"a key that is no text", "1: a", "line 1: a key must be text; quote it"},
		{"a tag", "a: !!binary aGk=", "line 1: Tag is not supported here"},
		{"no number", "a: .nan", "line 1: Nan is not supported here"},
		{"no end", "a: .inf", "line 1: Infinity is not supported here"},
		{"two documents", "a: 1\n---\nb: 2", "line 3: more than one document"},
		{"two values of JSON", "{}\n{}", "line 2: value is not allowed in this context"},
		{"not UTF-8", "a: \xff", "not UTF-8"},
		{"deep JSON", strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested deeper than 64 levels"},
		{"deep YAML", strings.Repeat("- ", 65) + "a", "nested deeper than 64 levels"},
		{"deep YAML in brackets", strings.Repeat("[", 100) + "a" + strings.Repeat("]", 100), "nested deeper than 64 levels"},
		{"very deep YAML", strings.Repeat("[", 100000), "nested deeper than 64 levels"},
		{"very deep YAML, on lines", strings.Repeat("[\n", 3000), "nested deeper than 64 levels"},
		{"a long line", "a: [" + strings.Repeat("b, ", 20000) + "b]", "line 1: 60006 bytes; at most 32768"},
		{"deep aliases", deepAliases(), "nested deeper than 64 levels"},
		{"a lot of YAML", strings.Repeat("a: b\n", 60000), "not JSON, and 300000 bytes of YAML are more than 262144 (256 KiB)"},
		{"a lot of lines", strings.Repeat("- b\n", 10001), "10001 lines of YAML; at most 10000"},
		{"a tab", "a:\n\t- b", "line 2: found character '\t' that cannot start any token"},
	}
}

func deepAliases() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n")
	for i := 1; i < 8; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [[[[[[[[[[*a%d]]]]]]]]]]\n", i, i, i-1)
	}
	return b.String()
}

func TestRefused(t *testing.T) {
	for _, tt := range refused() {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := document.Read([]byte(tt.text))
			runtime.ReadMemStats(&after)
			if err == nil || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%d bytes", used)
			}
		})
	}
	for _, text := range []string{"[]", "a", "1", ""} {
		if _, err := document.Object([]byte(text)); err == nil || err.Error() != "must be an object" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What is read is small, and writing and reading it again changes nothing.
func FuzzDocument(f *testing.F) {
	for _, tt := range refused() {
		if len(tt.text) < 1000 {
			f.Add(tt.text)
		}
	}
	f.Add("a: &x {b: 1.50}\nc: [*x, 'y', |\n  z\n]")
	f.Add(`{"a":[1,{"b":null}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := document.Read([]byte(text))
		if err != nil {
			return
		}
		once, err := json.Marshal(v)
		if err != nil || len(once) > 40<<20 {
			t.Fatal(err, len(once))
		}
		if len(once) > document.MaxYAML {
			return
		}
		again, err := document.Read(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(once) {
			t.Fatalf("%s becomes %s", once, twice)
		}
	})
}
