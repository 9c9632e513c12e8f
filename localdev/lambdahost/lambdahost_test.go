package lambdahost_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/cordum-serverless/cordum/localdev/lambdahost"
)

// command is an event of the function under test, which is this test's own binary.
type command struct {
	Do string `json:"do"`
	MS int    `json:"ms"`
}

type reply struct {
	PID     int      `json:"pid"`
	Env     []string `json:"env,omitempty"`
	Request string   `json:"request"`
	ARN     string   `json:"arn"`
	LeftMS  int64    `json:"left_ms"`
	Ticks   int      `json:"ticks"`
	Pad     string   `json:"pad,omitempty"`
}

func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") == "" {
		os.Exit(m.Run())
	}
	switch os.Getenv("BOOT") {
	case "fails":
		fmt.Println("cannot start")
		os.Exit(3)
	case "says":
		res, err := http.Post("http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error", "application/json",
			strings.NewReader(`{"errorType":"Config","errorMessage":"no table"}`))
		if err == nil {
			_ = res.Body.Close()
		}
		os.Exit(1)
	case "hangs":
		time.Sleep(time.Minute)
	}
	var ticks int
	var mu sync.Mutex
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			mu.Lock()
			ticks++
			mu.Unlock()
		}
	}()
	lambda.Start(func(ctx context.Context, c command) (reply, error) {
		time.Sleep(time.Duration(c.MS) * time.Millisecond)
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		mu.Lock()
		r := reply{PID: os.Getpid(), Request: lc.AwsRequestID, ARN: lc.InvokedFunctionArn, LeftMS: time.Until(deadline).Milliseconds(), Ticks: ticks}
		mu.Unlock()
		switch c.Do {
		case "exit":
			os.Exit(7)
		case "panic":
			panic("ouch")
		case "error":
			return r, errors.New("not today")
		case "env":
			r.Env = os.Environ()
		case "big":
			r.Pad = strings.Repeat("x", lambdahost.MaxPayload)
		case "print":
			fmt.Println("a line")
		}
		return r, nil
	})
}

func host(t *testing.T, edit ...func(*lambdahost.Config)) *lambdahost.Host {
	t.Helper()
	api, err := lambdahost.Listen()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := lambdahost.Config{
		Name: "echo", Binary: binary, Memory: 256, Timeout: 10 * time.Second, Env: map[string]string{"AWS_REGION": "eu-central-1"}, Output: io.Discard,
	}
	for _, e := range edit {
		e(&cfg)
	}
	h := api.Host(cfg)
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
		if n := h.Stats().Instances; n != 0 {
			t.Errorf("%d instances outlive the host", n)
		}
	})
	return h
}

func invoke(t *testing.T, h *lambdahost.Host, c command) reply {
	t.Helper()
	r, err := try(h, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func try(h *lambdahost.Host, c command) (r reply, err error) {
	event, _ := json.Marshal(c)
	answer, err := h.Invoke(context.Background(), event)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(answer, &r)
}

func failure(t *testing.T, h *lambdahost.Host, c command) *lambdahost.Error {
	t.Helper()
	_, err := try(h, c)
	var failed *lambdahost.Error
	if !errors.As(err, &failed) {
		t.Fatalf("%v is no error of a function", err)
	}
	return failed
}

func TestWarmReuse(t *testing.T) {
	h := host(t)
	first := invoke(t, h, command{})
	for range 5 {
		if again := invoke(t, h, command{}); again.PID != first.PID || again.Request == first.Request {
			t.Errorf("%+v after %+v", again, first)
		}
	}
	s := h.Stats()
	if s.Invocations != 6 || s.ColdStarts != 1 || s.Instances != 1 || len(s.Inits) != 1 || s.Inits[0] <= 0 {
		t.Errorf("%+v", s)
	}
	if first.ARN != "arn:aws:lambda:eu-central-1:000000000000:function:echo" || first.LeftMS < 9000 || first.LeftMS > 10_000 {
		t.Errorf("%+v", first)
	}
}

func TestOneInvocationAtATime(t *testing.T) {
	h := host(t, func(c *lambdahost.Config) { c.Most = 3 })
	var mu sync.Mutex
	pids := map[int]int{}
	var calling sync.WaitGroup
	for range 9 {
		calling.Go(func() {
			r, err := try(h, command{MS: 200})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			pids[r.PID]++
			mu.Unlock()
		})
	}
	calling.Wait()
	if s := h.Stats(); len(pids) != 3 || s.ColdStarts != 3 || s.Invocations != 9 {
		t.Errorf("%v, %+v", pids, s)
	}
}

func TestTheLatestUsedIsFirst(t *testing.T) {
	h := host(t)
	var calling sync.WaitGroup
	for range 2 {
		calling.Go(func() { _, _ = try(h, command{MS: 300}) })
	}
	calling.Wait()
	last := invoke(t, h, command{}).PID
	for range 5 {
		if pid := invoke(t, h, command{}).PID; pid != last {
			t.Errorf("%d, not %d", pid, last)
		}
	}
}

func TestFrozenBetweenInvocations(t *testing.T) {
	h := host(t)
	before := invoke(t, h, command{}).Ticks
	time.Sleep(500 * time.Millisecond)
	if after := invoke(t, h, command{}).Ticks; after-before > 10 {
		t.Errorf("it went on for %d ticks while it had nothing to do", after-before)
	}
}

func TestTimeout(t *testing.T) {
	h := host(t, func(c *lambdahost.Config) { c.Timeout = 300 * time.Millisecond })
	pid := invoke(t, h, command{}).PID
	failed := failure(t, h, command{MS: 5000})
	if failed.Type != lambdahost.TimedOut || !strings.HasSuffix(failed.Message, "Error: Task timed out after 0.30 seconds") {
		t.Errorf("%+v", failed)
	}
	if again := invoke(t, h, command{}).PID; again == pid {
		t.Error("the killed instance answers")
	}
	if s := h.Stats(); s.Timeouts != 1 || s.ColdStarts != 2 {
		t.Errorf("%+v", s)
	}
}

func TestDeath(t *testing.T) {
	for what, want := range map[string][2]string{
		"exit":  {lambdahost.Exited, "Runtime exited with error: exit status 7"},
		"panic": {"string", "ouch"},
		"error": {"errorString", "not today"},
		"big":   {lambdahost.TooLarge, "exceeded maximum"},
	} {
		t.Run(what, func(t *testing.T) {
			h := host(t)
			pid := invoke(t, h, command{}).PID
			failed := failure(t, h, command{Do: what})
			if failed.Type != want[0] || !strings.Contains(failed.Message, want[1]) || !json.Valid(failed.Payload) {
				t.Errorf("%+v, %s", failed, failed.Payload)
			}
			if again := invoke(t, h, command{}).PID; (again == pid) != (what == "error") {
				t.Error("only an instance that answered with an error is used again")
			}
		})
	}
}

func TestKilled(t *testing.T) {
	h := host(t)
	go func() {
		for {
			for _, i := range h.Instances() {
				if i.Request != "" {
					h.Kill(i.ID)
					return
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if failed := failure(t, h, command{MS: 10_000}); failed.Type != lambdahost.Exited || !strings.Contains(failed.Message, "signal: killed") {
		t.Errorf("%+v", failed)
	}
	invoke(t, h, command{})
	if s := h.Stats(); s.Crashes != 1 {
		t.Errorf("%+v", s)
	}
}

func TestInit(t *testing.T) {
	boot := func(how string) *lambdahost.Host {
		return host(t, func(c *lambdahost.Config) {
			c.Env = map[string]string{"BOOT": how}
			c.Init = 3 * time.Second
			if how == "hangs" {
				c.Init = 200 * time.Millisecond
			}
		})
	}
	if failed := failure(t, boot("fails"), command{}); failed.Type != lambdahost.Exited || !strings.Contains(failed.Message, "exit status 3") {
		t.Errorf("%+v", failed)
	}
	if failed := failure(t, boot("says"), command{}); failed.Type != "Config" || failed.Message != "no table" {
		t.Errorf("%+v", failed)
	}
	if failed := failure(t, boot("hangs"), command{}); failed.Type != lambdahost.TimedOut {
		t.Errorf("%+v", failed)
	}
	missing := host(t, func(c *lambdahost.Config) { c.Binary = "/nowhere/bootstrap" })
	if failed := failure(t, missing, command{}); failed.Type != lambdahost.Exited {
		t.Errorf("%+v", failed)
	}
}

func TestThrottled(t *testing.T) {
	h := host(t, func(c *lambdahost.Config) { c.Most, c.Timeout = 1, 800*time.Millisecond })
	invoke(t, h, command{})
	busy := make(chan struct{})
	go func() { defer close(busy); _, _ = try(h, command{MS: 700}) }()
	time.Sleep(50 * time.Millisecond)
	go func() { _, _ = try(h, command{MS: 700}) }()
	time.Sleep(50 * time.Millisecond)
	if failed := failure(t, h, command{}); failed.Type != lambdahost.Throttled {
		t.Errorf("%+v", failed)
	}
	<-busy
}

func TestSwap(t *testing.T) {
	h := host(t)
	old := invoke(t, h, command{}).PID
	slow := make(chan reply, 1)
	go func() { r, _ := try(h, command{MS: 500}); slow <- r }()
	time.Sleep(100 * time.Millisecond)
	binary, _ := os.Executable()
	h.Swap(binary)
	fresh := invoke(t, h, command{}).PID
	if fresh == old {
		t.Error("the old instance answers after the swap")
	}
	if r := <-slow; r.PID != old {
		t.Errorf("what was busy was not finished by the old one: %+v", r)
	}
	if pid := invoke(t, h, command{}).PID; pid != fresh {
		t.Errorf("%d answers, not %d", pid, fresh)
	}
}

func TestIdle(t *testing.T) {
	h := host(t, func(c *lambdahost.Config) { c.Idle = 100 * time.Millisecond })
	pid := invoke(t, h, command{}).PID
	for h.Stats().Instances > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if again := invoke(t, h, command{}).PID; again == pid {
		t.Error("the reaped instance answers")
	}
}

// TestEnvironment: what AWS gives, what was configured, and nothing of this process.
func TestEnvironment(t *testing.T) {
	t.Setenv("LEAKED", "1")
	h := host(t, func(c *lambdahost.Config) {
		c.Env = map[string]string{"CORDUM_TABLE": "t", "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "echo"}
	})
	var names []string
	for _, e := range invoke(t, h, command{Do: "env"}).Env {
		name, value, _ := strings.Cut(e, "=")
		names = append(names, name)
		if name == "AWS_LAMBDA_FUNCTION_MEMORY_SIZE" && value != "256" || name == "AWS_LAMBDA_FUNCTION_NAME" && value != "echo" {
			t.Error(e)
		}
	}
	slices.Sort(names)
	want := []string{
		"AWS_ACCESS_KEY_ID", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
		"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
		"CORDUM_TABLE", "HOME", "LANG", "PATH", "TMPDIR", "TZ", "_HANDLER", "_X_AMZN_TRACE_ID",
	}
	if !slices.Equal(names, want) {
		t.Errorf("%v\nwant %v", names, want)
	}
}

func TestTheCallerGoes(t *testing.T) {
	h := host(t)
	invoke(t, h, command{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Invoke(ctx, []byte(`{"ms":300}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	time.Sleep(500 * time.Millisecond)
	if s := h.Stats(); s.Invocations != 2 || s.Crashes+s.Timeouts+s.Errors != 0 || s.Instances != 1 {
		t.Errorf("%+v", s)
	}
}

func TestOversized(t *testing.T) {
	h := host(t)
	_, err := h.Invoke(t.Context(), make([]byte, lambdahost.MaxPayload+1))
	var failed *lambdahost.Error
	if !errors.As(err, &failed) || !failed.RequestTooLarge() {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	h := host(t)
	h.Close()
	if _, err := h.Invoke(t.Context(), []byte(`{}`)); !errors.Is(err, lambdahost.ErrClosed) {
		t.Error(err)
	}
}

func TestOutput(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	h := host(t, func(c *lambdahost.Config) { c.Output = locked{&mu, &out} })
	invoke(t, h, command{Do: "print"})
	h.Close()
	mu.Lock()
	defer mu.Unlock()
	if out.String() != "a line\n" {
		t.Errorf("%q", out.String())
	}
}

type locked struct {
	mu *sync.Mutex
	to io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}
