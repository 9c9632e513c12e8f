package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// crowd are many clients of one tenant's stream, each with all that it has heard.
type crowd struct {
	t       *testing.T
	heard   [][]told
	conns   []*websocket.Conn
	reading sync.WaitGroup
	mu      sync.Mutex
}

func (r *rig) crowd(n int) *crowd {
	r.t.Helper()
	c := &crowd{t: r.t, heard: make([][]told, n)}
	for i := range n {
		conn, _, err := r.open("/api/v1/stream", http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}})
		if err != nil {
			r.t.Fatalf("client %d: %v", i, err)
		}
		c.conns = append(c.conns, conn)
		c.reading.Go(func() {
			for {
				_, data, err := conn.Read(context.Background())
				if err != nil {
					return
				}
				if len(data) > push.MaxFrame {
					r.t.Errorf("a frame of %d bytes", len(data))
				}
				var m map[string]any
				if err := json.Unmarshal(data, &m); err != nil {
					r.t.Errorf("frame %q: %v", data, err)
				}
				if f, ok := parseTold(m); ok {
					c.mu.Lock()
					c.heard[i] = append(c.heard[i], f)
					c.mu.Unlock()
				}
			}
		})
	}
	r.t.Cleanup(c.leave)
	return c
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.CloseNow()
	}
	c.reading.Wait()
}

// Every event reaches every one of a thousand clients once, in the order of its job.
func TestAThousandClientsHearEverythingOnce(t *testing.T) {
	clients, jobs := 1000, 40
	if testing.Short() {
		clients = 200
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			j.Progress(50, "half way")
			return nil, nil
		}})
		before := runtime.NumGoroutine()
		c := r.crowd(clients)
		var last string
		for range jobs {
			last = r.submit().JobID
		}
		r.await(last, "SUCCEEDED")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		c.mu.Lock()
		whole := map[int64]string{}
		for i, mine := range c.heard {
			order, seen := map[string][]string{}, map[int64]bool{}
			for _, f := range mine {
				if seen[f.id] {
					t.Errorf("client %d heard %v twice", i, f)
				}
				seen[f.id] = true
				if text, known := whole[f.id]; known && text != f.text {
					t.Errorf("client %d: event %d is %s, for others %s", i, f.id, f.text, text)
				}
				whole[f.id] = f.text
				kind, job, _ := strings.Cut(f.text, " ")
				order[job] = append(order[job], kind)
			}
			if len(order) != jobs {
				t.Fatalf("client %d heard of %d jobs", i, len(order))
			}
			for job, kinds := range order {
				if got := fmt.Sprint(kinds); got != "[jobRequest jobProgress jobResult]" {
					t.Errorf("client %d heard of job %s: %s", i, job, got)
				}
			}
		}
		c.mu.Unlock()
		if len(whole) != 3*jobs {
			t.Errorf("%d events", len(whole))
		}
		c.leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before+50 {
			t.Errorf("%d goroutines, before the clients came %d", n, before)
		}
	})
}

// Nothing on a stream is silent for as long as the platform allows, and nothing outlives what it allows.
func TestThePlatformsLimitsOfAStream(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		began := time.Now()
		quiet := r.watch("k-admin", "/api/v1/stream")
		last, signs := began, 0
		for over := false; !over; {
			select {
			case m := <-quiet.frames:
				if len(m) != 0 {
					t.Errorf("on a quiet stream %v", m)
				}
				if idle := time.Since(last); idle > 9*time.Minute {
					t.Errorf("silent for %s", idle)
				}
				last, signs = time.Now(), signs+1
			case code := <-quiet.closed:
				if over = true; code != websocket.StatusGoingAway || time.Since(began) < 2*time.Hour-time.Minute {
					t.Errorf("closed with %d after %s", code, time.Since(began))
				}
			case <-time.After(3 * time.Hour):
				t.Fatal("a stream outlives its two hours")
			}
		}
		if signs < 12 {
			t.Errorf("%d signs of life in two hours", signs)
		}
		// what a client says is passed over, and may not be large
		loud := r.watch("k-admin", "/api/v1/stream")
		for _, say := range []string{"hello", `{"jobRequest":{}}`, "\x00", strings.Repeat("x", 30_000)} {
			if err := loud.conn.Write(t.Context(), websocket.MessageText, []byte(say)); err != nil {
				t.Fatal(err)
			}
		}
		rc := r.submit("topic", "job.test.ask")
		want(t, "a client that talks", loud.said(), "jobRequest "+rc.JobID)
		_ = loud.conn.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("x", 33*1024)))
		if code := <-loud.closed; code != websocket.StatusMessageTooBig {
			t.Errorf("a large frame closes with %d", code)
		}
		// an event that is larger than a frame loses what is bulky, never its ids
		w := r.watch("k-admin", "/api/v1/stream")
		labels := map[string]string{}
		for i := range 12 {
			labels[fmt.Sprint("l", i)] = strings.Repeat("x", 4000)
		}
		big := r.submit("topic", "job.test.ask", "labels", labels)
		all := w.hear()
		want(t, "a large one", texts(all), "jobRequest "+big.JobID)
		grows(t, all)
	})
}
