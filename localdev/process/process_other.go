//go:build !linux && !darwin

package process

import "os/exec"

func detach(*exec.Cmd) {}

func start(cmd *exec.Cmd) error { return cmd.Start() }
