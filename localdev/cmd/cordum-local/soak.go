package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
	"github.com/cordum-serverless/cordum/localdev/skills"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// soakCmd runs a plane for long under most of what it can take, with many who listen and workers that come and go. The plane is in this process, so that
// its heap can be looked at; everybody else is in another.
type soakCmd struct {
	Duration time.Duration `default:"10m" help:"How long the load lasts."`
	Sockets  int           `default:"200" help:"How many clients listen."`
	Share    float64       `default:"0.8" help:"The part of the measured capacity that is submitted."`
	Restart  time.Duration `default:"20s" help:"How often a worker ends and another begins."`
	Growth   float64       `default:"1.5" help:"How much larger the heap may be at the end than after it was warm."`
}

// Run fails when a job was lost, an event was missed, or the heap has grown.
func (c *soakCmd) Run(ctx context.Context) error { return c.soak(ctx, os.Stdout) }

func (c *soakCmd) soak(ctx context.Context, out io.Writer) error {
	dir, remove, err := benchDir()
	if err != nil {
		return err
	}
	defer remove()
	httpAddr, grpcAddr, err := freePorts()
	if err != nil {
		return err
	}
	dev := &devCmd{HTTP: httpAddr, GRPC: grpcAddr, Data: dir}
	p, err := dev.start(ctx, os.Stderr)
	if err != nil {
		return err
	}
	defer p.close()
	fmt.Fprintf(out, "# %s %s/%s, %d cores, embedded plane, data on disk, clients and worker in another process on the same machine\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	self, err := os.Executable()
	if err != nil {
		return err
	}
	load := exec.CommandContext(ctx, self, "soak-load", "--http", httpAddr, "--grpc", grpcAddr, "--duration", c.Duration.String(),
		"--sockets", strconv.Itoa(c.Sockets), "--share", fmt.Sprint(c.Share), "--restart", c.Restart.String())
	load.Cancel = func() error { return load.Process.Signal(os.Interrupt) }
	load.Stderr = os.Stderr
	says, err := load.StdoutPipe()
	if err != nil {
		return err
	}
	if err := load.Start(); err != nil {
		return err
	}
	heap := &heapWatch{}
	for lines := bufio.NewScanner(says); lines.Scan(); {
		switch line := lines.Text(); line {
		case saysWarm:
			heap.warm = heapInUse()
		case saysEnd:
			heap.end = heapInUse()
		default:
			fmt.Fprintln(out, line)
		}
	}
	if err := load.Wait(); err != nil {
		return fmt.Errorf("the load failed: %w", err)
	}
	return heap.judge(out, c.Growth)
}

// What the load says beside its figures: that the plane is warm, and that the load is over and everybody still there.
const (
	saysWarm = "warm"
	saysEnd  = "end"
)

// heapWatch is what the plane held in its heap.
type heapWatch struct{ warm, end float64 }

func (h *heapWatch) judge(out io.Writer, growth float64) error {
	fmt.Fprintf(out, "soak heap_after_warm_up %.1f MB\nsoak heap_at_the_end %.1f MB\n", h.warm, h.end)
	switch {
	case h.warm == 0 || h.end == 0:
		return errors.New("the heap was not looked at")
	case h.end > h.warm*growth:
		return fmt.Errorf("the heap has grown from %.1f to %.1f MB", h.warm, h.end)
	}
	return nil
}

// heapInUse is what is in use after a collection, in MB; the least of three, since work is going on.
func heapInUse() float64 {
	least := 0.0
	for range 3 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if mb := float64(m.HeapAlloc) / (1 << 20); least == 0 || mb < least {
			least = mb
		}
		time.Sleep(100 * time.Millisecond)
	}
	return least
}

// soakLoadCmd is the other process: who submits, who works, who listens.
type soakLoadCmd struct {
	HTTP     string        `name:"http" required:""`
	GRPC     string        `name:"grpc" required:""`
	Duration time.Duration `required:""`
	Sockets  int           `required:""`
	Share    float64       `required:""`
	Restart  time.Duration `required:""`
}

// Run loads the plane and judges what came of it.
func (c *soakLoadCmd) Run(ctx context.Context) error {
	s := &soak{
		cmd: c, client: &client.Client{Base: "http://" + c.HTTP, Key: localKey, Tenant: localTenant, HTTP: benchHTTP()},
		ended: map[string]string{}, acked: map[string]bool{}, waiting: map[string]chan struct{}{},
	}
	return s.run(ctx)
}

type soak struct {
	cmd    *soakLoadCmd
	client *client.Client
	clerks []*clerk
	staff  sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]bool   // jobs that were acknowledged
	ended   map[string]string // what the first client heard of the ends of jobs
	waiting map[string]chan struct{}
}

// clerk is a client that notes which events it has heard: a bit for each, since their ids follow each other.
type clerk struct {
	base        int64
	bits        []uint64
	n, again    int
	connections int
	last        string
	gaps        int
	errs        []error
	frames      atomic.Int64
}

var eventIDMember = []byte(`{"eventId":"`)

// eventID reads the id of a frame without reading the rest.
func eventID(frame []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(frame, eventIDMember)
	if !ok {
		return "", false
	}
	id, _, ok := bytes.Cut(rest, []byte(`"`))
	return string(id), ok
}

// note notes a frame, and says whether it is a new event.
func (k *clerk) note(frame []byte) bool {
	text, ok := eventID(frame)
	if !ok {
		return false
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		k.errs = append(k.errs, err)
		return false
	}
	if bytes.Contains(frame, []byte(`"stream":{`)) {
		if bytes.Contains(frame, []byte(`"gap"`)) {
			k.gaps++
		}
		if k.base == 0 {
			k.base, k.last = id, text
		}
		return false
	}
	at := int(id - k.base)
	if at < 0 {
		return false // from before it came
	}
	for at/64 >= len(k.bits) {
		k.bits = append(k.bits, 0)
	}
	if k.bits[at/64]&(1<<(at%64)) != 0 {
		k.again++
		return false
	}
	k.bits[at/64] |= 1 << (at % 64)
	k.n++
	if text > k.last {
		k.last = text
	}
	return true
}

// has says whether the event of an id was heard.
func (k *clerk) has(id int64) bool {
	at := int(id - k.base)
	return at >= 0 && at/64 < len(k.bits) && k.bits[at/64]&(1<<(at%64)) != 0
}

// listen hears until ctx ends; a connection that is lost is opened again, after the last event that was heard.
func (k *clerk) listen(ctx context.Context, c *client.Client, ready func(), heard func([]byte)) {
	for ctx.Err() == nil {
		since := k.last
		if since == "" {
			since = "now"
		}
		stream, err := c.StreamSince(ctx, since)
		if err != nil {
			rest(ctx, settlePause)
			continue
		}
		k.connections++
		for {
			frame, err := stream.Raw(ctx)
			if err != nil {
				break
			}
			if fresh := k.note(frame); k.base != 0 {
				ready()
				if fresh {
					k.frames.Add(1)
					heard(frame)
				}
			}
		}
		stream.Close()
	}
}

func (s *soak) line(name string, value float64, unit string) {
	fmt.Printf("soak %s %s %s\n", name, strconv.FormatFloat(value, 'f', 2, 64), unit)
}

func (s *soak) run(ctx context.Context) error {
	working, dismiss := context.WithCancel(ctx)
	defer func() { dismiss(); s.staff.Wait() }()
	for i := range 2 {
		s.staff.Go(func() { s.employ(working, i) })
	}
	if err := s.gather(working); err != nil {
		return err
	}
	began := time.Now()
	capacity, err := s.capacity(ctx, min(s.cmd.Duration/4, 20*time.Second))
	if err != nil {
		return err
	}
	s.line("capacity", capacity, "jobs_per_s")
	warm := time.AfterFunc(min(s.cmd.Duration/4, time.Minute), func() { fmt.Println(saysWarm) })
	defer warm.Stop()
	loaded := time.Now()
	if err := s.load(ctx, capacity*s.cmd.Share); err != nil {
		return err
	}
	fmt.Println(saysEnd)
	s.mu.Lock()
	n := len(s.acked)
	s.mu.Unlock()
	s.line("load", float64(n)/time.Since(began).Seconds(), "jobs_per_s")
	s.line("load_lasted", time.Since(loaded).Seconds(), "s")
	if err := s.settle(ctx); err != nil {
		return err
	}
	dismiss()
	s.staff.Wait()
	return s.judge()
}

// gather has everybody listen, and waits until they do.
func (s *soak) gather(ctx context.Context) error {
	var there sync.WaitGroup
	for i := range s.cmd.Sockets {
		k := &clerk{}
		s.clerks = append(s.clerks, k)
		there.Add(1)
		var once sync.Once
		heard := func([]byte) {}
		if i == 0 {
			heard = s.hear
		}
		s.staff.Go(func() {
			defer once.Do(there.Done)
			k.listen(ctx, s.client, func() { once.Do(there.Done) }, heard)
		})
	}
	there.Wait()
	return ctx.Err()
}

// hear reads what the first client is told.
func (s *soak) hear(frame []byte) {
	f, err := client.ParseFrame(frame)
	if err != nil || f.Kind != "jobResult" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[f.JobID] = f.Status
	if c := s.waiting[f.JobID]; c != nil {
		close(c)
		delete(s.waiting, f.JobID)
	}
}

// submit submits a job; done is closed when its end is heard, where wait says so.
func (s *soak) submit(ctx context.Context, wait bool) (done <-chan struct{}, err error) {
	r, err := s.client.Submit(ctx, benchBody)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked[r.JobID] = true
	if !wait {
		return nil, nil
	}
	c := make(chan struct{})
	if s.ended[r.JobID] != "" {
		close(c)
	} else {
		s.waiting[r.JobID] = c
	}
	return c, nil
}

// capacity is how many jobs a second go from their submission to their end while everybody listens: 16 clients submit one after the other.
func (s *soak) capacity(ctx context.Context, d time.Duration) (float64, error) {
	var n atomic.Int64
	errs := make([]error, 16)
	var submitting sync.WaitGroup
	began := time.Now()
	for i := range errs {
		submitting.Go(func() {
			for time.Since(began) < d && ctx.Err() == nil {
				done, err := s.submit(ctx, true)
				if err != nil {
					errs[i] = err
					return
				}
				select {
				case <-done:
					n.Add(1)
				case <-time.After(silence):
					continue // its worker has gone; it is looked at in the end
				case <-ctx.Done():
				}
			}
		})
	}
	submitting.Wait()
	return float64(n.Load()) / time.Since(began).Seconds(), errors.Join(errors.Join(errs...), ctx.Err())
}

// load submits so many jobs a second.
func (s *soak) load(ctx context.Context, perSecond float64) error {
	if perSecond <= 0 {
		return errors.New("the plane has no capacity")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, 64)
	var failed atomic.Pointer[error]
	var submitting sync.WaitGroup
	began := time.Now()
	for n := 0; time.Since(began) < s.cmd.Duration && ctx.Err() == nil; n++ {
		rest(ctx, time.Until(began.Add(time.Duration(float64(n)/perSecond*float64(time.Second)))))
		slots <- struct{}{}
		submitting.Go(func() {
			defer func() { <-slots }()
			if _, err := s.submit(ctx, false); err != nil && ctx.Err() == nil {
				failed.CompareAndSwap(nil, &err)
				cancel()
			}
		})
	}
	submitting.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("submit: %w", *err)
	}
	return nil
}

// settle waits until the end of every job was heard, or none is any more.
func (s *soak) settle(ctx context.Context) error {
	const patience = 3 * time.Minute // a worker that vanished is missed after half a minute, and its jobs are handed out again
	left, since := -1, time.Now()
	for ctx.Err() == nil {
		s.mu.Lock()
		missing := 0
		for id := range s.acked {
			if s.ended[id] == "" {
				missing++
			}
		}
		s.mu.Unlock()
		if missing != left {
			left, since = missing, time.Now()
		}
		if missing == 0 || time.Since(since) > patience {
			rest(ctx, 2*time.Second) // for the last frames to reach everybody
			return nil
		}
		rest(ctx, 100*time.Millisecond)
	}
	return ctx.Err()
}

func (s *soak) judge() error {
	var errs []error
	states := map[string]int{}
	lost := 0
	for id := range s.acked {
		st := s.ended[id]
		if states[st]++; st == "" {
			lost++
			if j, err := s.client.Get(context.Background(), id); err != nil || !j.Ended() {
				errs = append(errs, fmt.Errorf("job %s was acknowledged and has not ended: %s %w", id, j.State, err))
			}
		}
	}
	s.line("jobs", float64(len(s.acked)), "jobs")
	for _, st := range slices.Sorted(maps.Keys(states)) {
		s.line("jobs_"+strings.ToLower(or(st, "unheard")), float64(states[st]), "jobs")
	}
	if lost > 0 {
		errs = append(errs, fmt.Errorf("of %d jobs the end was not heard", lost))
	}
	first, last := int64(0), int64(0)
	for _, k := range s.clerks {
		if k.base == 0 {
			continue
		}
		first = max(first, k.base+1)
		last = max(last, k.base+int64(len(k.bits))*64)
	}
	missed, events, again, reconnects, gaps := 0, 0, 0, 0, 0
	for id := first; id <= last; id++ {
		n := 0
		for _, k := range s.clerks {
			if k.has(id) {
				n++
			}
		}
		if n > 0 {
			events++
			missed += len(s.clerks) - n
		}
	}
	frames := int64(0)
	for _, k := range s.clerks {
		again += k.again
		reconnects += k.connections - 1
		gaps += k.gaps
		frames += k.frames.Load()
		errs = append(errs, k.errs...)
	}
	s.line("events", float64(events), "events")
	s.line("frames", float64(frames), "frames")
	s.line("frames_again", float64(again), "frames")
	s.line("reconnects", float64(reconnects), "connections")
	s.line("gaps", float64(gaps), "connections")
	s.line("events_missed", float64(missed), "events")
	if missed > 0 || gaps > 0 {
		errs = append(errs, fmt.Errorf("clients missed %d events and were told of %d gaps", missed, gaps))
	}
	return errors.Join(errs[:min(len(errs), 10)]...)
}

// employ is one place for a worker: life after life; every second one vanishes without a word.
func (s *soak) employ(ctx context.Context, place int) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	life := s.cmd.Restart * 2 // of two places, each in its turn
	for n := 0; ctx.Err() == nil; n++ {
		d := life
		if n == 0 && place == 1 {
			d = life * 3 / 2
		}
		drain := 5 * time.Second
		if n%2 == 1 {
			drain = -time.Second
		}
		living, end := context.WithTimeout(ctx, d)
		w, err := worker.New(worker.Config{
			Target: s.cmd.GRPC, APIKey: localWorkerKey, ID: fmt.Sprint("soak-", place), Pool: "demo", MaxParallel: 32, Insecure: true, Logger: log,
			Labels: map[string]string{"region": "local"}, DrainTimeout: drain,
		})
		if err == nil {
			skills.Register(w, skills.Options{})
			err = w.Run(living)
		}
		end()
		if err != nil && ctx.Err() == nil {
			rest(ctx, settlePause)
		}
	}
}
