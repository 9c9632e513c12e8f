package pack

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// reader reads the members of a document, unknown ones passed over, and remembers the first that is not of its kind.
type reader struct {
	path  string
	value any
	err   *error
}

func (r reader) fail(format string, args ...any) {
	if *r.err == nil {
		*r.err = invalid("%s: %s", r.path, fmt.Sprintf(format, args...))
	}
}

// at is a member of an object. Nothing at all has no members.
func (r reader) at(key string) reader {
	m, ok := r.value.(map[string]any)
	if !ok && r.value != nil {
		r.fail("must be an object")
	}
	return reader{r.path + "." + key, m[key], r.err}
}

// list are the items of a list of at most so many. Nothing at all is nil.
func (r reader) list(most int) []reader {
	items, ok := r.value.([]any)
	switch {
	case r.value == nil:
		return nil
	case !ok:
		r.fail("must be a list")
	case len(items) > most:
		r.fail("%d entries; at most %d", len(items), most)
		return nil
	}
	readers := make([]reader, len(items))
	for i, v := range items {
		readers[i] = reader{r.path + "[" + strconv.Itoa(i) + "]", v, r.err}
	}
	return readers
}

// text is a text without the space around it, or a number or true and false as they were written: versions are seldom quoted.
func (r reader) text() string {
	switch v := r.value.(type) {
	case nil:
		return ""
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	r.fail("must be text")
	return ""
}

// texts is nil when nothing stands there.
func (r reader) texts() []string {
	items := r.list(maxWords)
	if items == nil {
		return nil
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.text()
	}
	return texts
}

// whole is a whole number, also one in quotes.
func (r reader) whole() int {
	text := r.text()
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		r.fail("must be a whole number")
	}
	return n
}
