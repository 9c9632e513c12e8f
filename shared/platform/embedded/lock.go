package embedded

import (
	"errors"
	"fmt"
	"os"
)

// ErrInUse says that another process, or another Open of this one, has the directory.
var ErrInUse = errors.New("embedded: directory is in use")

func inUse(dir, pid string) error {
	if pid == "" {
		pid = "unknown"
	}
	return fmt.Errorf("%w: %s belongs to process %s; stop it, or choose another directory", ErrInUse, dir, pid)
}

func writePID(f *os.File) error {
	_, err := fmt.Fprintln(f, os.Getpid())
	return err
}
