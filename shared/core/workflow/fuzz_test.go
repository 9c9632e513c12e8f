package workflow

import (
	"encoding/json"
	"testing"
)

// FuzzDecode: a definition is read or refused, a step is called what its key says, and what is written is read again the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"id":"w","steps":{"a":{"type":"job","topic":"job.x","retry":{"max_retries":1}},"b":null}}`, `{"steps":null}`, `{"steps":[]}`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := Decode(text)
		if err != nil {
			return
		}
		for id, step := range w.Steps {
			if step.ID != id {
				t.Errorf("%s: step %q is called %q", text, id, step.ID)
			}
		}
		first, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := json.Marshal(again); err != nil || string(first) != string(second) {
			t.Errorf("%s, then %s, %v", first, second, err)
		}
	})
}
