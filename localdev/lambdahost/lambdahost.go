// Package lambdahost runs Lambda functions as AWS does: the real bootstrap binary, which asks an emulated Runtime API for its invocations. One
// process serves one invocation at a time and is used again while it is warm; between invocations it is frozen. A function that takes longer than
// its timeout is killed, one that dies is replaced, and its environment holds what AWS would put there and nothing else.
package lambdahost

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cordum-serverless/cordum/localdev/process"
)

// Config is one function.
type Config struct {
	Name string
	// Binary is the bootstrap.
	Binary string
	// Memory is in MiB. It is told, not enforced.
	Memory int
	// Timeout is the longest that one invocation may take.
	Timeout time.Duration
	// Env is the function's own configuration, its region and its credentials.
	Env map[string]string
	// Most is how many instances may be at one time; 0 is 10. What finds all of them busy waits for one, as long as an invocation may take.
	Most int
	// Idle is how long an instance is kept for the next invocation; 0 is ten minutes.
	Idle time.Duration
	// Init is how long an instance may take until it asks for its first invocation; 0 is AWS's ten seconds.
	Init time.Duration
	// Output gets what the instances print.
	Output io.Writer
}

// Limits of Lambda.
const (
	// MaxPayload is the largest event and the largest answer, in bytes.
	MaxPayload = 6*1024*1024 + 100
	maxInit    = 10 * time.Second
)

const (
	defaultMost = 10
	defaultIdle = 10 * time.Minute
)

// Error is what AWS answers in the place of a function that failed, timed out or died.
type Error struct {
	// Function is its name, Type the kind of error: the function's own, or one of the types below.
	Function, Type, Message string
	// Payload is the answer as a caller of the Invoke API would get it.
	Payload []byte
}

// Types of errors that are not the function's own.
const (
	TimedOut  = "Sandbox.Timedout"
	Exited    = "Runtime.ExitError"
	TooLarge  = "Function.ResponseSizeTooLarge"
	Oversized = "RequestTooLargeException"
	Throttled = "TooManyRequestsException"
)

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Function, e.Type, e.Message) }

// RequestTooLarge says whether Lambda did not take the event.
func (e *Error) RequestTooLarge() bool { return e.Type == Oversized }

// Stats count what a function did since its host was made.
type Stats struct {
	// Invocations are all that an instance was given; ColdStarts those that had to wait for a new instance.
	Invocations, ColdStarts int
	// Errors are invocations that the function itself answered with an error; Timeouts and Crashes those that it did not answer.
	Errors, Timeouts, Crashes int
	// Instances are alive now.
	Instances int
	// Inits are the times from an instance's start to its first request for an invocation, the latest last, at most 100 of them.
	Inits []time.Duration
}

const keptInits = 100

// Instance is one process of a function.
type Instance struct {
	ID  string
	PID int
	// Request is the id of the invocation that it is busy with; "" when there is none.
	Request string
}

// ErrClosed is the answer of a host that was closed.
var ErrClosed = errors.New("lambdahost: closed")

// Host runs one function.
type Host struct {
	cfg Config
	api string // address of the Runtime API

	mu         sync.Mutex
	closed     bool
	binary     string
	generation int
	serial     int
	instances  map[string]*instance
	idle       []*instance      // the latest used last
	waiting    []chan *instance // the first first; nil is handed over when there is room for a new instance
	stats      Stats
	running    sync.WaitGroup
}

// instance is a process and what it is busy with.
type instance struct {
	id         string
	generation int
	proc       *process.Process
	began      time.Time

	ready    chan struct{} // closed at the first request for an invocation
	once     sync.Once
	work     chan *invocation // holds at most one
	reaper   *time.Timer
	mu       sync.Mutex
	current  *invocation
	initFail []byte // what the function said of its failed initialisation
}

// invocation is one event and its answer.
type invocation struct {
	id       string
	event    []byte
	deadline time.Time

	mu     sync.Mutex
	answer []byte
	failed *Error
	said   bool
	over   chan struct{} // closed when the instance asks for the next one
}

func (i *invocation) say(answer []byte, failed *Error) (first bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.said {
		return false
	}
	i.said, i.answer, i.failed = true, answer, failed
	return true
}

func (i *invocation) heard() (answer []byte, failed *Error, said bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.answer, i.failed, i.said
}

// Name answers the function's name.
func (h *Host) Name() string { return h.cfg.Name }

// Invoke gives the function an event and answers what it says. The error is an *Error, or the context's when the caller would not wait: the
// invocation goes on then, as on AWS.
func (h *Host) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	if len(event) > MaxPayload {
		return nil, h.failure("", Oversized, fmt.Sprintf("the event has %d bytes, at most %d", len(event), MaxPayload))
	}
	type outcome struct {
		answer []byte
		err    error
	}
	done := make(chan outcome, 1)
	if !h.enter() {
		return nil, ErrClosed
	}
	go func() {
		defer h.running.Done()
		answer, err := h.invoke(event)
		done <- outcome{answer, err}
	}()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running.Add(1)
	return true
}

func (h *Host) invoke(event []byte) ([]byte, error) {
	inst, cold, err := h.acquire()
	if err != nil {
		return nil, err
	}
	inv := &invocation{id: uuid.NewString(), event: event, over: make(chan struct{})}
	h.count(func(s *Stats) {
		s.Invocations++
		if cold {
			s.ColdStarts++
		}
	})
	if cold {
		select {
		case <-inst.ready:
		case <-inst.proc.Ended():
			return nil, h.died(inst, inv)
		case <-time.After(h.cfg.Init):
			h.discard(inst)
			h.count(func(s *Stats) { s.Timeouts++ })
			return nil, h.failure(inv.id, TimedOut, fmt.Sprintf("it did not ask for an invocation within %s", h.cfg.Init))
		}
	}
	inv.deadline = time.Now().Add(h.cfg.Timeout)
	inst.work <- inv
	inst.proc.Thaw()
	timer := time.NewTimer(h.cfg.Timeout)
	defer timer.Stop()
	select {
	case <-inv.over:
	case <-inst.proc.Ended():
		if _, _, said := inv.heard(); !said {
			return nil, h.died(inst, inv)
		}
	case <-timer.C:
		h.discard(inst)
		if inv.say(nil, nil) {
			h.count(func(s *Stats) { s.Timeouts++ })
			return nil, h.failure(inv.id, TimedOut, fmt.Sprintf("Task timed out after %.2f seconds", h.cfg.Timeout.Seconds()))
		}
	}
	answer, failed, said := inv.heard()
	if !said {
		failed = h.failure(inv.id, Exited, "Runtime asked for another invocation before it answered")
	}
	if failed != nil {
		h.count(func(s *Stats) { s.Errors++ })
		return nil, failed
	}
	return answer, nil
}

func (h *Host) died(inst *instance, inv *invocation) error {
	h.count(func(s *Stats) { s.Crashes++ })
	inst.mu.Lock()
	said := inst.initFail
	inst.mu.Unlock()
	if said != nil {
		return h.own(said)
	}
	why := "Runtime exited without providing a reason"
	if err := inst.proc.Err(); err != nil {
		why = "Runtime exited with error: " + err.Error()
	}
	return h.failure(inv.id, Exited, why)
}

// own makes an error of what the function posted as one.
func (h *Host) own(payload []byte) *Error {
	var said struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal(payload, &said) // what cannot be read stands in the payload
	return &Error{Function: h.cfg.Name, Type: said.Type, Message: said.Message, Payload: payload}
}

func (h *Host) failure(request, kind, text string) *Error {
	if request != "" {
		text = "RequestId: " + request + " Error: " + text
	}
	payload, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": text}) // strings always encode
	return &Error{Function: h.cfg.Name, Type: kind, Message: text, Payload: payload}
}

func (h *Host) count(f func(*Stats)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.stats)
}

// acquire answers a free instance, the one that was used last, or starts one. cold says that it is still to come up.
func (h *Host) acquire() (inst *instance, cold bool, err error) {
	patience := time.NewTimer(h.cfg.Timeout)
	defer patience.Stop()
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return nil, false, ErrClosed
		}
		if n := len(h.idle); n > 0 {
			inst = h.idle[n-1]
			h.idle = h.idle[:n-1]
			inst.reaper.Stop()
			h.mu.Unlock()
			return inst, false, nil
		}
		if len(h.instances) < h.cfg.Most {
			inst, err = h.launch()
			h.mu.Unlock()
			return inst, true, err
		}
		turn := make(chan *instance, 1)
		h.waiting = append(h.waiting, turn)
		h.mu.Unlock()
		select {
		case inst = <-turn:
			if inst != nil {
				return inst, false, nil
			}
		case <-patience.C:
			h.mu.Lock()
			h.waiting = slices.DeleteFunc(h.waiting, func(c chan *instance) bool { return c == turn })
			h.mu.Unlock()
			select {
			case inst = <-turn: // it came at the same moment
				h.release(inst)
			default:
			}
			return nil, false, h.failure("", Throttled, fmt.Sprintf("all %d instances are busy", h.cfg.Most))
		}
	}
}

// launch starts an instance; mu is held, so that no more are started than may be.
func (h *Host) launch() (*instance, error) {
	h.serial++
	inst := &instance{
		id: strconv.Itoa(h.serial), generation: h.generation, began: time.Now(), ready: make(chan struct{}), work: make(chan *invocation, 1),
	}
	inst.reaper = time.AfterFunc(h.cfg.Idle, func() { h.reap(inst) })
	inst.reaper.Stop()
	h.instances[inst.id] = inst
	var err error
	inst.proc, err = process.Start(process.Config{
		Path: h.binary, Env: h.environment(inst.id), Dir: os.TempDir(), Output: h.cfg.Output,
	})
	if err != nil {
		delete(h.instances, inst.id)
		return nil, h.failure("", Exited, err.Error())
	}
	h.running.Go(func() {
		<-inst.proc.Ended()
		h.gone(inst)
	})
	return inst, nil
}

// environment is what AWS gives a function on the runtime provided.al2023.
func (h *Host) environment(id string) []string {
	env := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          h.api + "/" + h.cfg.Name + "/" + id,
		"AWS_LAMBDA_FUNCTION_NAME":        h.cfg.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(h.cfg.Memory),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + h.cfg.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      "local/[$LATEST]" + id,
		"AWS_EXECUTION_ENV":               "AWS_Lambda_provided.al2023",
		"_HANDLER":                        "bootstrap",
		"LANG":                            "en_US.UTF-8",
		"TZ":                              ":UTC",
		"PATH":                            "/usr/local/bin:/usr/bin/:/bin",
		"TMPDIR":                          os.TempDir(),
		// a function has no home; without this one, the SDK would find the developer's, and the files with credentials in it
		"HOME": os.TempDir(),
	}
	maps.Copy(env, h.cfg.Env)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// release takes back an instance that waits for its next invocation.
func (h *Host) release(inst *instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if inst == nil || h.instances[inst.id] != inst {
		h.admit()
		return
	}
	if h.closed || inst.generation != h.generation {
		inst.proc.Kill()
		return
	}
	if len(h.waiting) > 0 {
		turn := h.waiting[0]
		h.waiting = h.waiting[1:]
		turn <- inst
		return
	}
	inst.proc.Freeze()
	h.idle = append(h.idle, inst)
	inst.reaper.Reset(h.cfg.Idle)
}

// admit lets the first in line start an instance; mu is held.
func (h *Host) admit() {
	if len(h.waiting) > 0 && len(h.instances) < h.cfg.Most {
		turn := h.waiting[0]
		h.waiting = h.waiting[1:]
		turn <- nil
	}
}

// gone forgets an instance that has ended.
func (h *Host) gone(inst *instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	inst.reaper.Stop()
	delete(h.instances, inst.id)
	h.idle = slices.DeleteFunc(h.idle, func(i *instance) bool { return i == inst })
	h.admit()
}

// discard ends an instance.
func (h *Host) discard(inst *instance) {
	inst.proc.Kill()
	<-inst.proc.Ended()
}

// reap ends an instance that nobody wanted for a while.
func (h *Host) reap(inst *instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := slices.Index(h.idle, inst); n >= 0 {
		h.idle = slices.Delete(h.idle, n, n+1)
		inst.proc.Kill()
	}
}

// asks is an instance's request for an invocation; nil when it has ended or gives up.
func (h *Host) asks(ctx context.Context, inst *instance) *invocation {
	inst.mu.Lock()
	before := inst.current
	inst.current = nil
	inst.mu.Unlock()
	first := false
	inst.once.Do(func() {
		first = true
		h.count(func(s *Stats) {
			s.Inits = append(s.Inits, time.Since(inst.began))
			s.Inits = s.Inits[max(0, len(s.Inits)-keptInits):]
		})
		close(inst.ready) // whoever started it has work for it
	})
	if !first {
		h.release(inst)
	}
	if before != nil { // only now, so that a caller's next invocation finds the instance free
		close(before.over)
	}
	select {
	case inv := <-inst.work:
		inst.mu.Lock()
		inst.current = inv
		inst.mu.Unlock()
		return inv
	case <-inst.proc.Ended():
		return nil
	case <-ctx.Done():
		return nil
	}
}

// find answers an instance, and the invocation of that id when it is busy with it.
func (h *Host) find(id, request string) (*instance, *invocation) {
	h.mu.Lock()
	inst := h.instances[id]
	h.mu.Unlock()
	if inst == nil {
		return nil, nil
	}
	inst.mu.Lock()
	defer inst.mu.Unlock()
	if inst.current == nil || inst.current.id != request {
		return inst, nil
	}
	return inst, inst.current
}

// Stats answers what the function did so far.
func (h *Host) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Instances = len(h.instances)
	s.Inits = slices.Clone(s.Inits)
	return s
}

// Instances answers the processes that are alive, by their age.
func (h *Host) Instances() []Instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Instance
	for id, inst := range h.instances {
		one := Instance{ID: id, PID: inst.proc.PID()}
		inst.mu.Lock()
		if inst.current != nil {
			one.Request = inst.current.id
		}
		inst.mu.Unlock()
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Instance) int { return cmp.Or(len(a.ID)-len(b.ID), strings.Compare(a.ID, b.ID)) }) // they are numbers
	return out
}

// Kill ends an instance as if its machine had: whatever it is busy with fails.
func (h *Host) Kill(id string) {
	h.mu.Lock()
	inst := h.instances[id]
	h.mu.Unlock()
	if inst != nil {
		h.discard(inst)
	}
}

// Swap has new instances run another binary. What is busy finishes with the old one.
func (h *Host) Swap(binary string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.binary = binary
	h.generation++
	for _, inst := range h.idle {
		inst.proc.Kill()
	}
	h.idle = nil
}

// Close lets what is under way finish, and ends all instances.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	for _, inst := range h.idle {
		inst.proc.Kill()
	}
	h.idle = nil
	for _, turn := range h.waiting {
		turn <- nil
	}
	h.waiting = nil
	h.mu.Unlock()
	h.running.Wait()
}
