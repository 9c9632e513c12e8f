//go:build unix

package process

import (
	"os"
	"syscall"
)

// The program of a signal may have ended, and then there is nothing to do.

func freeze(pid int) { _ = syscall.Kill(pid, syscall.SIGSTOP) }

func thaw(pid int) { _ = syscall.Kill(pid, syscall.SIGCONT) }

func interrupt(p *os.Process) { _ = p.Signal(syscall.SIGTERM) }

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
