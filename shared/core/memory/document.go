package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The kinds of values, by the names that clients of the original know.
const (
	stringType = "string"
	listType   = "list"
	setType    = "set"
	hashType   = "hash"
)

// document is a value as clients see it.
type document struct {
	Type   string          `json:"redis_type"`
	Value  json.RawMessage `json:"value,omitempty"`
	Base64 []byte          `json:"base64,omitempty"`
	Length *int            `json:"length,omitempty"`
	Items  any             `json:"items,omitempty"`
}

// binary is what stands for an item that is no text.
type binary struct {
	Base64 []byte `json:"base64"`
}

// read makes JSON of a text: what it says if it is JSON, else a string of it; nil when it is no text.
func read(text []byte) json.RawMessage {
	if json.Valid(text) && utf8.Valid(text) {
		return text
	}
	if !utf8.Valid(text) {
		return nil
	}
	return written(string(text))
}

func item(text []byte) json.RawMessage {
	if v := read(text); v != nil {
		return v
	}
	return written(binary{text})
}

// written is JSON without escapes for browsers.
func written(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("memory: " + err.Error()) // texts, and JSON that was checked
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func single(text []byte) json.RawMessage {
	d := document{Type: stringType, Value: read(text)}
	if d.Value == nil {
		d.Base64 = text
	}
	return written(d)
}

func several(kind string, texts [][]byte) json.RawMessage {
	items := make([]json.RawMessage, len(texts))
	for i, t := range texts {
		items[i] = item(t)
	}
	n := len(items)
	return written(document{Type: kind, Length: &n, Items: items})
}

func fields(of map[string][]byte) json.RawMessage {
	items := make(map[string]json.RawMessage, len(of))
	for name, t := range of {
		items[name] = item(t)
	}
	n := len(items)
	return written(document{Type: hashType, Length: &n, Items: items})
}

// key names a value of a memory, as in "mem:<memory>:events".
type key struct {
	memory, part string
	chunk        int64
}

// The parts of a memory.
const (
	events  = "events"
	summary = "summary"
	chunks  = "chunks"
	ofChunk = ":chunk:"
)

// parse reads what follows "mem:". A memory's id may itself have colons, so the end decides.
func parse(text string) (k key, ok bool) {
	if i := strings.LastIndex(text, ofChunk); i > 0 {
		n, err := strconv.ParseInt(text[i+len(ofChunk):], 10, 64)
		if err == nil && n >= 0 && n <= 10*maxNumber && strconv.FormatInt(n, 10) == text[i+len(ofChunk):] {
			return key{memory: text[:i], chunk: n}, CheckID(text[:i]) == nil
		}
	}
	i := max(0, strings.LastIndex(text, ":"))
	k = key{memory: text[:i], part: text[min(i+1, len(text)):]}
	return k, i > 0 && CheckID(k.memory) == nil && slices.Contains([]string{events, summary, chunks}, k.part)
}

// Document answers the value under a key, "<memory>:events", "<memory>:chunks", "<memory>:chunk:<number>" or "<memory>:summary", as clients of the original
// know it; nil when there is none.
func (s *Store) Document(ctx context.Context, tenant, text string, now time.Time) (json.RawMessage, error) {
	k, ok := parse(text)
	if !ok {
		return nil, nil
	}
	switch k.part {
	case events:
		return s.eventList(ctx, tenant, k.memory, now)
	case summary:
		text, err := s.Summary(ctx, tenant, k.memory, now)
		if err != nil || text == nil {
			return nil, err
		}
		return single(text), nil
	case chunks:
		return s.chunkSet(ctx, tenant, k.memory, now)
	}
	c, ok, err := s.Chunk(ctx, tenant, k.memory, k.chunk, now)
	if err != nil || !ok {
		return nil, err
	}
	return fields(map[string][]byte{
		"path": []byte(c.Path), "content": c.Content, "language": []byte(c.Language),
		"bytes": strconv.AppendInt(nil, c.Bytes, 10), "loc": strconv.AppendInt(nil, c.LOC, 10),
	}), nil
}

// eventList has the oldest event first.
func (s *Store) eventList(ctx context.Context, tenant, memory string, now time.Time) (json.RawMessage, error) {
	all, err := s.Events(ctx, tenant, memory, now)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	var texts [][]byte
	for _, e := range slices.Backward(all) {
		texts = append(texts, e.Text)
	}
	return several(listType, texts), nil
}

// chunkSet has the keys of the chunks.
func (s *Store) chunkSet(ctx context.Context, tenant, memory string, now time.Time) (json.RawMessage, error) {
	all, err := s.Chunks(ctx, tenant, memory, now)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	var keys [][]byte
	for _, c := range all {
		keys = append(keys, []byte("mem:"+memory+ofChunk+strconv.FormatInt(c.Number, 10)))
	}
	return several(setType, keys), nil
}
