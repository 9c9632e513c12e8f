//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockFile names the process that has the directory. The lock is flock's: it ends with the process, however that ends.
const lockFile = "lock"

type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		return nil, errors.Join(inUse(dir, strings.TrimSpace(string(holder))), f.Close())
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), writePID(f))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: lock %s: %w", path, err), f.Close())
	}
	return &dirLock{f}, nil
}

// release leaves the file: removing it would let two processes hold locks of one name.
func (l *dirLock) release() error { return l.file.Close() }
