//go:build !unix

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lockFile names the process that has the directory. Where there is no flock, it is there as long as the process is.
const lockFile = "lock"

type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		holder, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%w; if that process has crashed, remove %s", inUse(dir, strings.TrimSpace(string(holder))), path)
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) release() error { return errors.Join(l.file.Close(), os.Remove(l.file.Name())) }
