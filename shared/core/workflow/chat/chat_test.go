package chat_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/core/workflow/chat"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/push"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.FixedZone("", 3600))

func newChats(t *testing.T) *chat.Chats {
	t.Helper()
	return &chat.Chats{Memory: &memory.Store{Table: embeddedtest.Open(t).Table()}}
}

func TestTimesAreOfSeconds(t *testing.T) {
	c := newChats(t)
	m, err := c.Post(t.Context(), "default", "run:r", chat.Message{ID: "1", RunID: "r", Role: chat.User, Content: "x"}, now)
	if err != nil || m.CreatedAt != "2026-11-23T11:00:00Z" {
		t.Errorf("%s, %v", m.CreatedAt, err)
	}
}

// The context engine adds {"role","content","ts"} to the same memory, and clients show what is there as a chat.
func TestWhatOthersPutIntoTheMemoryReadsAsMessages(t *testing.T) {
	c := newChats(t)
	for i, text := range []string{
		`{"role":"user","content":"hi","ts":1795431600}`, `{"role":"assistant","content":"ho","ts":1795431600}`, `{"role":"robot","content":"ha"}`,
		`no JSON`, `{"role":"user"}`, `["a"]`, `{"role":"user","content":7}`,
	} {
		if err := c.Memory.Append(t.Context(), "default", "m", fmt.Sprint(i), now, memory.Event{ID: fmt.Sprint(i), Text: json.RawMessage(text)}); err != nil {
			t.Fatal(err)
		}
	}
	list := func() []chat.Message {
		all, _, err := c.List(t.Context(), "default", "m", "r", 0, 100, now)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	want := []string{
		`system {"role":"user","content":7}`, `system ["a"]`, `system {"role":"user"}`, `system no JSON`, `agent ha`, `agent ho`, `user hi`,
	}
	all := list()
	ids := map[string]bool{}
	for i, m := range all {
		if got := m.Role + " " + m.Content; got != want[i] {
			t.Errorf("%s, want %s", got, want[i])
		}
		if m.CreatedAt != "2026-11-23T11:00:00Z" || m.RunID != "r" || m.ID == "" || ids[m.ID] {
			t.Errorf("not whole: %+v", m)
		}
		ids[m.ID] = true
	}
	for i, m := range list() {
		if m.ID != all[i].ID {
			t.Errorf("%q has another id now: %q", all[i].ID, m.ID)
		}
	}
}

// A page begins where the one before ended, whatever is said meanwhile.
func TestPagesNeitherRepeatNorSkip(t *testing.T) {
	c := newChats(t)
	n := 0
	say := func() {
		n++
		if _, err := c.Post(t.Context(), "default", "m", chat.Message{ID: fmt.Sprint(n), RunID: "r", Role: chat.User, Content: fmt.Sprint(n)}, now); err != nil {
			t.Fatal(err)
		}
	}
	for range 9 {
		say()
	}
	var seen []string
	for cursor, pages := int64(0), 0; ; pages++ {
		page, next, err := c.List(t.Context(), "default", "m", "r", cursor, 4, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page {
			seen = append(seen, m.Content)
		}
		if cursor = next; next == 0 || pages > 9 {
			break
		}
		say()
	}
	if got := strings.Join(seen, " "); got != "9 8 7 6 5 4 3 2 1" {
		t.Errorf("%s", got)
	}
}

// Every message is live, also one that is larger than a frame: that is cut.
func TestFramesFit(t *testing.T) {
	for name, content := range map[string]string{
		"small": "hello", "markup": strings.Repeat("<b>&", 2000), "long": strings.Repeat("x", chat.MaxContent), "wide": strings.Repeat("ż", chat.MaxContent/2),
		"control": strings.Repeat("\x01", chat.MaxContent),
	} {
		t.Run(name, func(t *testing.T) {
			frame := chat.Message{ID: "1", RunID: "r", Role: chat.User, Content: content, CreatedAt: "2026-11-23T11:00:00Z"}.Frame()
			var said struct {
				ChatMessage struct{ Content string }
				Payload     struct{ ChatMessage struct{ Content string } }
			}
			if err := json.Unmarshal(frame, &said); err != nil || len(frame) > push.MaxFrame {
				t.Fatalf("%d bytes, %v", len(frame), err)
			}
			got := said.ChatMessage.Content
			head, cut := strings.CutSuffix(got, "…")
			if got != said.Payload.ChatMessage.Content || got != content && (!cut || !strings.HasPrefix(content, head) || len(head) < 2000) {
				t.Errorf("%d bytes of %d", len(got), len(content))
			}
		})
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	c := newChats(t)
	for name, m := range map[string]chat.Message{
		"blank": {Content: " \n"}, "long": {Content: strings.Repeat("x", chat.MaxContent+1)}, "a list": {Content: "x", Metadata: json.RawMessage(`[]`)},
		"large metadata": {Content: "x", Metadata: json.RawMessage(`{"a":"` + strings.Repeat("x", 16<<10) + `"}`)}, "name": {Content: "x", AgentName: strings.Repeat("x", 513)},
	} {
		if _, err := c.Post(t.Context(), "default", "m", m, now); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
