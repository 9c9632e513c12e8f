// Package process runs the programs that the harness hosts. They do not outlive it, whatever ends it, and Ctrl-C in a terminal reaches the harness
// alone, which ends them in its own order.
package process

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"sync"
	"time"
)

// Process is a program that was started.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// Config says what to run.
type Config struct {
	Path string
	Args []string
	Dir  string
	// Env is the whole environment.
	Env []string
	// Output gets what the program prints.
	Output io.Writer
	// Group makes signals reach the program's own children too.
	Group bool
}

// outputPatience is how long the output of a program that has ended is waited for, which its own children may hold open.
const outputPatience = time.Second

// Start runs a program.
func Start(cfg Config) (*Process, error) {
	cmd := exec.Command(cfg.Path, cfg.Args...) //nolint:noctx // it ends by Stop and Kill
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = cfg.Dir, cfg.Env, cfg.Output, cfg.Output, outputPatience
	detach(cmd)
	if err := start(cmd); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		if p.err = cmd.Wait(); errors.Is(p.err, exec.ErrWaitDelay) {
			p.err = nil
		}
		if cfg.Group {
			killGroup(p.PID())
		}
	}()
	return p, nil
}

// PID answers the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err says how the program ended; nil is exit status 0. It is to be called after Ended is closed.
func (p *Process) Err() error { return p.err }

// Kill ends the program at once, also one that is frozen.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() } // it may have ended

// Freeze stops the program where it stands, until Thaw.
func (p *Process) Freeze() { freeze(p.PID()) }

// Thaw lets it go on.
func (p *Process) Thaw() { thaw(p.PID()) }

// Stop asks the program to end, waits, and kills it when its patience is over.
func (p *Process) Stop(patience time.Duration) {
	interrupt(p.cmd.Process)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.Kill()
		<-p.ended
	}
}

// Lines writes whole lines to another writer, each after a prefix. It may be shared by all that one program prints.
func Lines(to io.Writer, prefix string) io.Writer { return &lines{to: to, prefix: prefix} }

type lines struct {
	mu     sync.Mutex
	to     io.Writer
	prefix string
	rest   []byte
}

// longest is where a line without an end is cut.
const longest = 256 * 1024

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		n := bytes.IndexByte(l.rest, '\n')
		if n < 0 && len(l.rest) < longest {
			return len(p), nil
		}
		line := l.rest
		if n >= 0 {
			line = l.rest[:n]
		}
		// one call a line, so that lines of several programs do not mix; a log that cannot be written must not stop a program
		_, _ = l.to.Write(append(append([]byte(l.prefix), line...), '\n'))
		l.rest = append([]byte(nil), l.rest[min(len(line)+1, len(l.rest)):]...)
	}
}

// Serial lets several programs write to one place.
func Serial(to io.Writer) io.Writer { return &serial{to: to} }

type serial struct {
	mu sync.Mutex
	to io.Writer
}

func (s *serial) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Write(p)
}
