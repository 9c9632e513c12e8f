package plane_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/core/workflow/chat"
)

// gated starts a run that waits for a human; input may say which memory it has.
func (r *rig) gated(input any) string {
	r.t.Helper()
	r.saved("gated", "steps", pairs("g", pairs("type", "approval")))
	id := r.start("gated", input)
	r.awaitRun(id, "waiting")
	return id
}

// chatted are the contents of a page of a chat, and the cursor of the next, "" at the end.
func (r *rig) chatted(run, query string) (contents []string, next string) {
	r.t.Helper()
	var page struct {
		Items []struct{ Content string }
		Next  json.Number `json:"next_cursor"`
	}
	r.get(runPath(run) + "/chat" + query).ok(200).json(&page)
	for _, m := range page.Items {
		contents = append(contents, m.Content)
	}
	return contents, page.Next.String()
}

func (r *rig) said(run, content string) {
	r.t.Helper()
	r.post(runPath(run)+"/chat", pairs("content", content)).ok(200)
}

// Pages of a chat follow each other, whatever is said between them.
func TestH03_PagesOfAChatInWhichOthersSpeak(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.gated(nil)
		if got := r.get(runPath(id) + "/chat").ok(200).Body; got != `{"items":[]}` {
			t.Errorf("nothing is %s", got)
		}
		for i := range 7 {
			r.said(id, fmt.Sprint(i))
		}
		var all []string
		for query := "?limit=3"; ; {
			page, next := r.chatted(id, query)
			if all = append(all, page...); next == "" {
				break
			}
			r.said(id, "meanwhile")
			query = "?limit=3&cursor=" + next
		}
		if got := strings.Join(all, " "); got != "6 5 4 3 2 1 0" {
			t.Errorf("pages have %s", got)
		}
		for _, query := range []string{"?cursor=x", "?cursor=-1", "?cursor=0", "?cursor=99999999999999999999", "?limit=0"} {
			if page, next := r.chatted(id, query); len(page) != 9 || next != "" {
				t.Errorf("%s: %v, %q", query, page, next)
			}
		}
	})
}

func TestH02_AForeignChatIsAnUnknownOne(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.gated(nil)
		for _, of := range [][2]string{{"k-other", id}, {"k-admin", "none"}} {
			r.as(of[0], "GET", runPath(of[1])+"/chat", nil).refused(404, "run not found")
			r.as(of[0], "POST", runPath(of[1])+"/chat", pairs("content", "x")).refused(404, "run not found")
		}
		if page, _ := r.chatted(id, ""); len(page) != 0 {
			t.Errorf("the chat has %v", page)
		}
	})
}

// An id that is longer than any run's or workflow's is that of none.
func TestIDsThatAreTooLongAreUnknown(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		long := strings.Repeat("x", 3000)
		r.saved("w")
		for path, text := range map[string]string{
			"GET " + runPath(long): "", "DELETE " + runPath(long): "", "GET " + runPath(long) + "/timeline": "run not found", "GET " + runPath(long) + "/chat": "run not found",
			"POST " + runPath(long) + "/rerun": "run not found", "POST /api/v1/workflows/w/runs/" + long + "/cancel": "run not found",
			"GET /api/v1/workflows/" + long + "/runs": "workflow not found",
		} {
			method, path, _ := strings.Cut(path, " ")
			unknown := r.as("k-admin", method, strings.ReplaceAll(path, long, "none"), nil).ok(404)
			if got := r.as("k-admin", method, path, nil).ok(404); got.Body != unknown.Body || text != "" && got.object()["error"] != text {
				t.Errorf("%.60s: %s, and for one that is not there %s", path, got.Body, unknown.Body)
			}
		}
		r.post(runPath(long)+"/chat", pairs("content", "x")).refused(404, "run not found")
	})
}

// Runs that name a memory share it, within a tenant; each message keeps the run in which it was said.
func TestRunsWithOneMemoryHaveOneChat(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		one, two, alone := r.gated(pairs("memory_id", "shared")), r.gated(pairs("memory_id", "shared")), r.gated(nil)
		r.said(one, "hello")
		items, _ := r.get(runPath(two) + "/chat").ok(200).object()["items"].([]any)
		if len(items) != 1 || items[0].(map[string]any)["run_id"] != one {
			t.Errorf("the other run's chat is %v", items)
		}
		if page, _ := r.chatted(alone, ""); len(page) != 0 {
			t.Errorf("a run with its own memory has %v", page)
		}
		r.as("k-other", "POST", "/api/v1/workflows", pairs("id", "gated", "steps", pairs("g", pairs("type", "approval")))).ok(201)
		theirs := fmt.Sprint(r.as("k-other", "POST", "/api/v1/workflows/gated/runs", pairs("memory_id", "shared")).ok(200).object()["run_id"])
		if got := r.as("k-other", "GET", runPath(theirs)+"/chat", nil).ok(200).Body; got != `{"items":[]}` {
			t.Errorf("another tenant's memory of that name has %s", got)
		}
	})
}

// Of a message that is too large for a frame those who listen hear the beginning; the chat has all of it.
func TestALongMessageIsHeard(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.gated(nil)
		w := r.watch("k-admin", "/api/v1/stream")
		time.Sleep(2 * time.Second)
		long := strings.Repeat("<b>ż", chat.MaxContent/5)
		r.said(id, long)
		time.Sleep(2 * time.Second)
		var heard []map[string]any
		for len(w.frames) > 0 {
			if m, ok := (<-w.frames)["chatMessage"].(map[string]any); ok {
				heard = append(heard, m)
			}
		}
		if len(heard) != 1 || heard[0]["runId"] != id {
			t.Fatalf("%d frames: %.200v", len(heard), heard)
		}
		text, _ := heard[0]["content"].(string)
		if head, cut := strings.CutSuffix(text, "…"); !cut || !strings.HasPrefix(long, head) || len(head) < 2000 {
			t.Errorf("heard %d bytes of %d", len(text), len(long))
		}
		if page, _ := r.chatted(id, ""); len(page) != 1 || page[0] != long {
			t.Error("the chat does not have all of it")
		}
	})
}

// A run that is deleted takes its chat with it, but not the memory that it shares with others.
func TestADeletedRunTakesItsChat(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		one, two, alone := r.gated(pairs("memory_id", "shared")), r.gated(pairs("memory_id", "shared")), r.gated(nil)
		r.said(one, "kept")
		r.said(alone, "gone")
		remembered := func(memoryID string) int {
			m := memory.Store{Table: r.plane.Dispatcher.Jobs.Table}
			all, err := m.Events(t.Context(), "default", memoryID, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		if remembered("run:"+alone) != 1 {
			t.Fatal("nothing is remembered")
		}
		for _, id := range []string{one, alone} {
			r.as("k-admin", "DELETE", runPath(id), nil).ok(204)
		}
		time.Sleep(5 * time.Minute)
		if n := remembered("run:" + alone); n != 0 {
			t.Errorf("of a run that is deleted %d messages are left", n)
		}
		if page, _ := r.chatted(two, ""); len(page) != 1 {
			t.Errorf("of a shared memory %v is left", page)
		}
	})
}
