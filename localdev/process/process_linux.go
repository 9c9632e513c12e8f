package process

import (
	"os/exec"
	"runtime"
	"syscall"
)

// The kernel kills a child when the thread that started it ends, not the process: so one thread that never ends starts them all.
var starts = func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
}()

func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func start(cmd *exec.Cmd) error {
	err := make(chan error, 1)
	starts <- func() { err <- cmd.Start() }
	return <-err
}
