package embedded

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// memoryShelf keeps objects in memory.
type memoryShelf struct {
	mu      sync.RWMutex
	objects map[string]memoryObject
}

type memoryObject struct {
	blob.Object

	data []byte
}

func (s *memoryShelf) put(key string, o blob.Object, body io.Reader, ifAbsent bool) error {
	data := make([]byte, o.Size)
	if _, err := io.ReadFull(body, data); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.objects[key]; there && ifAbsent {
		return blob.ErrExists
	}
	s.objects[key] = memoryObject{o, data}
	return nil
}

func (s *memoryShelf) open(key string) (blob.Object, io.ReadCloser, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, there := s.objects[key]
	if !there {
		return blob.Object{}, nil, blob.ErrNotFound
	}
	o.Metadata = maps.Clone(o.Metadata)
	return o.Object, io.NopCloser(bytes.NewReader(o.data)), nil
}

func (s *memoryShelf) remove(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}

// folderShelf keeps one file for each object, named by the hash of the key (a key may be longer than a file name, and differ from another
// one by case alone). The first line of the file is the description as JSON, the key in it; the rest are the bytes. A file is complete
// before it gets its name.
type folderShelf struct {
	dir  string
	sync bool
}

// header is the first line.
type header struct {
	Key         string            `json:"key"`
	ContentType string            `json:"content_type"`
	Class       string            `json:"class,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// unfinished is the folder of files without a name yet. What is there at the start was left by a crash.
const unfinished = "unfinished"

func newFolderShelf(dir string, sync bool) (*folderShelf, error) {
	s := &folderShelf{dir: dir, sync: sync}
	tmp := filepath.Join(dir, unfinished)
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return s, nil
}

func (s *folderShelf) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(s.dir, name[:2], name)
}

func (s *folderShelf) put(key string, o blob.Object, body io.Reader, ifAbsent bool) error {
	tmp, err := os.CreateTemp(filepath.Join(s.dir, unfinished), "")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone once it has its name
	if err := errors.Join(s.fill(tmp, key, o, body), tmp.Close()); err != nil {
		return err
	}
	path := s.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if !ifAbsent {
		err = os.Rename(tmp.Name(), path)
	} else if err = os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return blob.ErrExists
	}
	return errors.Join(err, s.syncDir(filepath.Dir(path)))
}

func (s *folderShelf) fill(f *os.File, key string, o blob.Object, body io.Reader) error {
	line, err := json.Marshal(header{key, o.ContentType, o.Class, o.Metadata})
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	if err == nil && n != o.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && s.sync {
		err = f.Sync()
	}
	return err
}

func (s *folderShelf) syncDir(dir string) error {
	if !s.sync {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// objectFile is a file behind its first line.
type objectFile struct {
	io.Reader
	io.Closer
}

func (s *folderShelf) open(key string) (blob.Object, io.ReadCloser, error) {
	f, err := os.Open(s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return blob.Object{}, nil, blob.ErrNotFound
	}
	if err != nil {
		return blob.Object{}, nil, err
	}
	r := bufio.NewReader(f)
	line, err := r.ReadBytes('\n')
	var h header
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr); err != nil {
		return blob.Object{}, nil, errors.Join(fmt.Errorf("embedded: object %s: %w", key, err), f.Close())
	}
	o := blob.Object{ContentType: h.ContentType, Class: h.Class, Metadata: h.Metadata, Size: info.Size() - int64(len(line))}
	return o, objectFile{r, f}, nil
}

func (s *folderShelf) remove(key string) error {
	if err := os.Remove(s.path(key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
