package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/localdev/process"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// containers stand in for the Fargate service and its load balancer: so many processes of the gRPC container, each replaced when it dies.
type containers struct {
	stack    *Stack
	balancer *balancer

	mu      sync.Mutex
	closed  bool
	tasks   []*task
	serial  int
	running sync.WaitGroup
}

// task is one process.
type task struct {
	name string
	addr string
	proc *process.Process
	// leaving says that its end is wanted.
	leaving bool
}

const (
	// startPatience is how long a container may take until it listens, restartPause the rest before one that died is replaced.
	startPatience = 20 * time.Second
	restartPause  = time.Second
)

func (s *Stack) startContainers(ctx context.Context) (*containers, error) {
	l, err := listen(ctx, s.cfg.GRPC)
	if err != nil {
		return nil, err
	}
	c := &containers{stack: s, balancer: newBalancer(l)}
	for range s.cfg.Containers {
		if _, err := c.launch(ctx); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// launch starts a container and waits until it listens.
func (c *containers) launch(ctx context.Context) (*task, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errors.New("stack: closed")
	}
	c.serial++
	t := &task{name: fmt.Sprintf("%s/%d", containerName, c.serial), addr: addr}
	c.mu.Unlock()
	s := c.stack
	env := s.environment(containerName, resources.Container.Grants)
	env["GATEWAY_GRPC_ADDR"], env["HOME"], env["TMPDIR"], env["PATH"] = addr, os.TempDir(), os.TempDir(), "/usr/local/bin:/usr/bin:/bin"
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	t.proc, err = process.Start(process.Config{
		Path: s.builder.Binary(containerName), Env: list, Dir: os.TempDir(), Output: process.Lines(s.output, fmt.Sprintf("%-12s ", t.name)),
	})
	if err != nil {
		return nil, fmt.Errorf("stack: container: %w", err)
	}
	if err := c.await(ctx, t); err != nil {
		t.proc.Kill()
		return nil, err
	}
	c.mu.Lock()
	c.tasks = append(c.tasks, t)
	c.mu.Unlock()
	c.balancer.add(t.addr)
	c.running.Go(func() { c.mind(t) })
	return t, nil
}

func (c *containers) await(ctx context.Context, t *task) error {
	deadline := time.Now().Add(startPatience)
	for time.Now().Before(deadline) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", t.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.proc.Ended():
			return fmt.Errorf("stack: the gRPC container ended while it started: %w", errors.Join(t.proc.Err(), errors.New("its log says why")))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("stack: the gRPC container does not listen on %s after %s", t.addr, startPatience)
}

// mind replaces a container that dies.
func (c *containers) mind(t *task) {
	<-t.proc.Ended()
	c.balancer.remove(t.addr)
	c.mu.Lock()
	c.tasks = slices.DeleteFunc(c.tasks, func(o *task) bool { return o == t })
	wanted := t.leaving || c.closed
	c.mu.Unlock()
	if wanted {
		return
	}
	c.stack.log.Error("gRPC container died; another takes its place", "container", t.name, "error", t.proc.Err())
	for {
		time.Sleep(restartPause)
		c.mu.Lock()
		closed := c.closed
		c.mu.Unlock()
		if closed {
			return
		}
		_, err := c.launch(context.Background())
		if err == nil {
			return
		}
		c.stack.log.Error("gRPC container not started", "error", err)
	}
}

// replace starts as many new containers as there are, and has the old ones leave, as a deployment does.
func (c *containers) replace(ctx context.Context) error {
	c.mu.Lock()
	old := slices.Clone(c.tasks)
	c.mu.Unlock()
	for _, t := range old {
		if _, err := c.launch(ctx); err != nil {
			return err
		}
		c.drain(t)
	}
	return nil
}

// drain has a container leave: no new connections, then SIGTERM.
func (c *containers) drain(t *task) {
	c.mu.Lock()
	t.leaving = true
	c.mu.Unlock()
	c.balancer.remove(t.addr)
	t.proc.Stop(resources.Container.Stop)
}

func (c *containers) close() {
	c.mu.Lock()
	c.closed = true
	tasks := slices.Clone(c.tasks)
	c.mu.Unlock()
	var stopping sync.WaitGroup
	for _, t := range tasks {
		stopping.Go(func() { t.proc.Stop(shutdown) })
	}
	stopping.Wait()
	c.running.Wait()
	c.balancer.close()
}

// Containers answers the addresses of the gRPC containers that run, the oldest first.
func (s *Stack) Containers() []string {
	s.containers.mu.Lock()
	defer s.containers.mu.Unlock()
	var out []string
	for _, t := range s.containers.tasks {
		out = append(out, t.addr)
	}
	return out
}

// Drain stops a container as a deployment does, and returns when it has left. No other takes its place.
func (s *Stack) Drain(addr string) {
	if t := s.containers.at(addr); t != nil {
		s.containers.drain(t)
	}
}

// KillContainer ends a container as if its machine had. Another takes its place.
func (s *Stack) KillContainer(addr string) {
	if t := s.containers.at(addr); t != nil {
		t.proc.Kill()
		<-t.proc.Ended()
	}
}

// AddContainer starts one more.
func (s *Stack) AddContainer(ctx context.Context) (addr string, err error) {
	t, err := s.containers.launch(ctx)
	if err != nil {
		return "", err
	}
	return t.addr, nil
}

func (c *containers) at(addr string) *task {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := slices.IndexFunc(c.tasks, func(t *task) bool { return t.addr == addr }); n >= 0 {
		return c.tasks[n]
	}
	return nil
}

func freeAddr(ctx context.Context) (string, error) {
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close() // only its number is wanted
}

// balancer hands each connection to one of several addresses in turn, as a network load balancer does.
type balancer struct {
	listener net.Listener

	mu      sync.Mutex
	targets []string
	next    int
	open    map[net.Conn]struct{}
	running sync.WaitGroup
}

func newBalancer(l net.Listener) *balancer {
	b := &balancer{listener: l, open: map[net.Conn]struct{}{}}
	b.running.Go(b.serve)
	return b
}

func (b *balancer) addr() string { return b.listener.Addr().String() }

func (b *balancer) add(target string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.targets = append(b.targets, target)
}

func (b *balancer) remove(target string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.targets = slices.DeleteFunc(b.targets, func(t string) bool { return t == target })
}

func (b *balancer) serve() {
	for {
		in, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.carry(in) })
	}
}

// carry connects a client with the first target that answers.
func (b *balancer) carry(in net.Conn) {
	b.mu.Lock()
	var order []string
	if n := len(b.targets); n > 0 {
		b.next = (b.next + 1) % n
		order = slices.Concat(b.targets[b.next:], b.targets[:b.next])
	}
	b.mu.Unlock()
	for _, target := range order {
		out, err := net.DialTimeout("tcp", target, time.Second) //nolint:noctx // it is this machine, and bounded
		if err != nil {
			continue
		}
		b.join(in, out)
		return
	}
	_ = in.Close() // nobody is there: the client tries again
}

// join copies in both directions until one side ends.
func (b *balancer) join(in, out net.Conn) {
	b.mu.Lock()
	b.open[in], b.open[out] = struct{}{}, struct{}{}
	b.mu.Unlock()
	var copying sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		copying.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // an end, whatever its cause, ends both
			_ = in.Close()
			_ = out.Close()
		})
	}
	copying.Wait()
	b.mu.Lock()
	delete(b.open, in)
	delete(b.open, out)
	b.mu.Unlock()
}

func (b *balancer) close() {
	_ = b.listener.Close() // it is only listening
	b.mu.Lock()
	for c := range b.open {
		_ = c.Close() // likewise: its other side sees it
	}
	b.mu.Unlock()
	b.running.Wait()
}
