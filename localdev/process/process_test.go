//go:build unix

package process_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/process"
)

func start(t *testing.T, script string, group bool) (*process.Process, *output) {
	t.Helper()
	var out output
	p, err := process.Start(process.Config{Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/bin:/usr/bin"}, Output: &out, Group: group})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, &out
}

// output is read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) Len() int { return len(o.String()) }

func TestEnd(t *testing.T) {
	p, out := start(t, "echo hello; exit 3", false)
	<-p.Ended()
	if err := p.Err(); err == nil || err.Error() != "exit status 3" || out.String() != "hello\n" {
		t.Errorf("%v, %q", err, out)
	}
	p, _ = start(t, "exit 0", false)
	<-p.Ended()
	if p.Err() != nil {
		t.Error(p.Err())
	}
	p.Kill() // it has ended already
	if _, err := process.Start(process.Config{Path: "/nowhere"}); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestStop(t *testing.T) {
	polite, _ := start(t, "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", false)
	time.Sleep(100 * time.Millisecond)
	polite.Stop(5 * time.Second)
	if polite.Err() != nil {
		t.Errorf("asked to end: %v", polite.Err())
	}
	deaf, _ := start(t, "trap '' TERM; while :; do sleep 0.05; done", false)
	time.Sleep(100 * time.Millisecond)
	deaf.Stop(200 * time.Millisecond)
	if deaf.Err() == nil {
		t.Error("it ended by itself")
	}
}

func TestFreeze(t *testing.T) {
	p, out := start(t, "while :; do echo x; sleep 0.02; done", false)
	time.Sleep(200 * time.Millisecond)
	p.Freeze()
	time.Sleep(50 * time.Millisecond)
	before := out.Len()
	time.Sleep(200 * time.Millisecond)
	if out.Len() != before || before == 0 {
		t.Errorf("%d lines, %d later", before, out.Len())
	}
	p.Thaw()
	time.Sleep(200 * time.Millisecond)
	if out.Len() == before {
		t.Error("it does not go on")
	}
	p.Freeze()
	p.Kill()
	<-p.Ended()
}

// TestGroup: what a program started ends with it.
func TestGroup(t *testing.T) {
	p, out := start(t, "sleep 60 & echo $!; wait", true)
	time.Sleep(200 * time.Millisecond)
	p.Kill()
	<-p.Ended()
	for deadline := time.Now().Add(5 * time.Second); alive(strings.TrimSpace(out.String())); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a child outlives the group")
		}
	}
}

// alive says whether a process runs, where there is a /proc.
func alive(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	w := process.Lines(process.Serial(&out), "a: ")
	for _, s := range []string{"one\ntw", "o\n", "", "\nthree"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	if got := out.String(); got != "a: one\na: two\na: \n" {
		t.Errorf("%q", got)
	}
}
