// Package window makes the list of messages that a language model is shown: what a memory holds, and what is asked now, within a budget of tokens. It also
// makes the events by which a memory keeps what was asked and answered.
package window

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/memory"
)

// The roles of messages, as models know them.
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
)

// Tokens when the request does not say.
const (
	DefaultInput  = 8000
	DefaultOutput = 1024
)

// MaxPayload is the longest payload, in bytes.
const MaxPayload = 2 << 20

// Message is a message for a model.
type Message struct{ Role, Content string }

// Tokens is what a message is estimated to cost.
func (m Message) Tokens() int { return len(m.Content) / 4 }

// Question is what a payload asks.
type Question struct {
	// Text is the user's message, "" for none.
	Text string
	// File is the file that it is about, "" for none.
	File string
}

// Ask reads a payload, JSON or any other text.
func Ask(payload []byte) (Question, error) {
	if len(payload) > MaxPayload {
		return Question{}, fault.New(fault.TooLarge, "logical_payload too long (max %d bytes)", MaxPayload)
	}
	whole := text(payload)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		return Question{Text: whole}, nil //nolint:nilerr // what is no object is the question itself
	}
	said := func(name string) string {
		var s string
		if json.Unmarshal(members[name], &s) != nil {
			return ""
		}
		return filled(s)
	}
	q := Question{Text: whole, File: strings.TrimSpace(said("file_path"))}
	for _, name := range []string{"prompt", "message", "instruction"} {
		s := said(name)
		if s == "" {
			continue
		}
		q.Text = s
		if code := said("code_snippet"); name == "instruction" && code != "" {
			q.Text += "\n\nCode:\n" + code
		}
		break
	}
	return q, nil
}

// filled is a text, or "" for one of nothing but space.
func filled(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return s
}

// text is what can be read of bytes.
func text(b []byte) string { return filled(strings.ToValidUTF8(string(b), "\uFFFD")) }

// Messages is the question as a message, or none.
func (q Question) Messages() []Message {
	if q.Text == "" {
		return nil
	}
	return []Message{{User, q.Text}}
}

// History makes messages of the events of a memory, the newest first, which are said in their order. What is no message is passed over.
func History(events []memory.Event) []Message {
	var out []Message
	for _, e := range slices.Backward(events) {
		var m Message
		if json.Unmarshal(e.Text, &m) != nil || filled(m.Content) == "" {
			continue
		}
		if m.Role != User && m.Role != System {
			m.Role = Assistant
		}
		out = append(out, m)
	}
	return out
}

// Summary is a memory's summary as a message, or none.
func Summary(summary []byte) []Message {
	s := text(summary)
	if s == "" {
		return nil
	}
	return []Message{{System, s}}
}

// Files makes messages of the chunks that have to do with a file.
func Files(chunks []memory.Chunk, file string) []Message {
	var out []Message
	for _, c := range chunks {
		if strings.Contains(c.Path, file) || strings.Contains(file, c.Path) {
			out = append(out, Message{System, shown(c)})
		}
	}
	return out
}

// shown is a chunk below its path, or what is known about its file.
func shown(c memory.Chunk) string {
	if content := text(c.Content); content != "" {
		return "File: " + c.Path + "\n" + content
	}
	return fmt.Sprintf("File: %s (language %s, %d bytes, %d lines of code)", c.Path, c.Language, c.Bytes, c.LOC)
}

// Fit drops messages from the front until the rest costs no more than a budget, or one is left. A budget of 0 is the default, a negative one no limit.
func Fit(all []Message, budget int) (kept []Message, tokens int) {
	if budget == 0 {
		budget = DefaultInput
	}
	for _, m := range all {
		tokens += m.Tokens()
	}
	for budget > 0 && tokens > budget && len(all) > 1 {
		tokens -= all[0].Tokens()
		all = all[1:]
	}
	return all, tokens
}

// Output is how many tokens are kept for the answer.
func Output(asked int) int {
	if asked <= 0 {
		return DefaultOutput
	}
	return asked
}

// entry is a message as a memory keeps it.
type entry struct {
	Role    string `json:"role"`
	Content string `json:"content"`
	At      int64  `json:"ts"`
}

// Exchange makes the events of a question and its answer, of either that says something. Their ids are still to be given.
func Exchange(payload, response []byte, now time.Time) ([]memory.Event, error) {
	q, err := Ask(payload)
	if err != nil {
		return nil, err
	}
	var out []memory.Event
	for _, m := range append(q.Messages(), Message{Assistant, strings.TrimSpace(text(response))}) {
		if m.Content == "" {
			continue
		}
		if len(m.Content) > memory.MaxText {
			return nil, fault.New(fault.TooLarge, "message of the %s too long for a memory (max %d bytes)", m.Role, memory.MaxText)
		}
		event, err := json.Marshal(entry{m.Role, m.Content, now.Unix()})
		if err != nil {
			return nil, err
		}
		out = append(out, memory.Event{Text: event})
	}
	return out, nil
}
