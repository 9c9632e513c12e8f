// Package build makes the binaries that the harness hosts, with the flags of a deployment, for this machine. It knows the files that each depends
// on, so that a change rebuilds what it concerns and nothing else.
package build

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Tags leave out of a function what it never uses: net/rpc, templates of gRPC's traces, and HTTP/2, which AWS's services do not speak.
const Tags = "lambda.norpc,grpcnotrace,nethttpomithttp2"

// computing are the packages whose speed matters: our own, and what moves and hashes bytes. The time of all others goes into calls over the network, or
// into what is read once: inlining makes a function a megabyte larger, and nothing faster that anybody could measure.
var computing = []string{"github.com/cordum-serverless/...", "runtime/...", "internal/...", "sync/...", "crypto/...", "hash/..."}

// flags are those of a deployment; the revision is left out, so that a commit changes no binary.
var flags = func() []string {
	all := []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-tags=" + Tags, "-gcflags=all=-l"}
	for _, pattern := range computing {
		all = append(all, "-gcflags="+pattern+"=")
	}
	return all
}()

// Target is a binary to be made of a main package.
type Target struct {
	Name string
	// Package is its import path, or its folder from the module's root, "./functions/jobs/lambda".
	Package string
}

// Builder makes binaries.
type Builder struct {
	// Arch is the processor that the binaries are for, GOARCH; "" is this machine's. It must not change after the first Build.
	Arch string

	root, out string
	targets   []Target

	mu    sync.Mutex
	deps  map[string][]string // by target: the folders of this module that it is made of
	files map[string][]string // by folder: its files that are compiled or embedded
	sums  map[string]string   // by target: of what was built
}

// New makes a builder of these targets. root is the module's folder, out where the binaries go.
func New(root, out string, targets ...Target) *Builder {
	return &Builder{root: root, out: out, targets: targets, sums: map[string]string{}}
}

func (b *Builder) arch() string { return cmp.Or(b.Arch, runtime.GOARCH) }

// Functions are the targets of all Lambda functions.
func Functions() []Target {
	var out []Target
	for _, f := range resources.Functions {
		out = append(out, Target{Name: f.Name, Package: "./functions/" + f.Name + "/lambda"})
	}
	return out
}

// Root finds the folder of the module that holds a folder.
func Root(from string) (string, error) {
	dir, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("there is no go.mod above %s: the plane's binaries are built from its source", from)
		}
		dir = parent
	}
}

// Binary is where a target's binary is.
func (b *Builder) Binary(name string) string { return filepath.Join(b.out, name, "bootstrap") }

// Build makes what is not current, and answers the names of the targets whose binary is another than before.
func (b *Builder) Build(ctx context.Context) (changed []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.list(ctx); err != nil {
		return nil, err
	}
	stale := map[Target]string{}
	for _, t := range b.targets {
		sum, err := b.sum(t)
		if err != nil {
			return nil, err
		}
		if b.sums[t.Name] == sum {
			continue
		}
		if stored, err := os.ReadFile(b.Binary(t.Name) + ".sum"); err == nil && string(stored) == sum {
			b.sums[t.Name] = sum
			continue
		}
		stale[t] = sum
	}
	var mu sync.Mutex
	var errs []error
	var building sync.WaitGroup
	turns := make(chan struct{}, max(1, runtime.NumCPU()))
	for t, sum := range stale {
		turns <- struct{}{}
		building.Go(func() {
			defer func() { <-turns }()
			other, err := b.one(ctx, t, sum)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			b.sums[t.Name] = sum
			if other {
				changed = append(changed, t.Name)
			}
		})
	}
	building.Wait()
	slices.Sort(changed)
	return changed, errors.Join(errs...)
}

// one builds a target and answers whether its binary is another than before.
func (b *Builder) one(ctx context.Context, t Target, sum string) (other bool, err error) {
	path := b.Binary(t.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return false, err
	}
	fresh := path + ".new"
	args := append(append([]string{"build"}, flags...), "-o", fresh, t.Package)
	if text, err := b.golang(ctx, args...); err != nil {
		return false, fmt.Errorf("%s: %w\n%s", t.Name, err, text)
	}
	before, _ := digest(path) // "" when there is none
	after, err := digest(fresh)
	if err != nil {
		return false, err
	}
	if err := os.Rename(fresh, path); err != nil { // what runs keeps the old one
		return false, err
	}
	return before != after, os.WriteFile(path+".sum", []byte(sum), 0o644)
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (b *Builder) golang(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOARCH="+b.arch())
	if b.Arch != "" { // for AWS; otherwise for this machine
		cmd.Env = append(cmd.Env, "GOOS=linux")
	}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return problems.String(), fmt.Errorf("go %s: %w", args[0], err)
	}
	return out.String(), nil
}

// list finds out which files of this module each target is made of.
func (b *Builder) list(ctx context.Context) error {
	args := []string{"list", "-e", "-deps", "-tags=" + Tags, "-json=ImportPath,Dir,Deps,GoFiles,EmbedFiles,Standard,Module"}
	for _, t := range b.targets {
		args = append(args, t.Package)
	}
	text, err := b.golang(ctx, args...)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	own, err := packages(text)
	if err != nil {
		return err
	}
	b.deps, b.files = map[string][]string{}, map[string][]string{}
	for _, p := range own {
		b.files[p.Dir] = slices.Concat(p.GoFiles, p.EmbedFiles)
		for _, t := range b.targets {
			if filepath.Join(b.root, t.Package) == p.Dir || p.ImportPath == t.Package {
				b.deps[t.Name] = p.folders(own)
			}
		}
	}
	for _, t := range b.targets {
		if b.deps[t.Name] == nil {
			return fmt.Errorf("there is no package %s", t.Package)
		}
	}
	return nil
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath, Dir           string
	Deps, GoFiles, EmbedFiles []string
	Standard                  bool
	Module                    *struct{ Main bool }
}

// packages reads the packages of this module from go list's output.
func packages(text string) (map[string]pkg, error) {
	own := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var p pkg
		if err := d.Decode(&p); err != nil {
			if errors.Is(err, io.EOF) {
				return own, nil
			}
			return nil, err
		}
		if !p.Standard && p.Module != nil && p.Module.Main {
			own[p.ImportPath] = p
		}
	}
}

// folders answers the folders of the module that a package is made of.
func (p pkg) folders(own map[string]pkg) []string {
	dirs := []string{p.Dir}
	for _, d := range p.Deps {
		if q, ok := own[d]; ok {
			dirs = append(dirs, q.Dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// sum is a fingerprint of all that a target is made of.
func (b *Builder) sum(t Target) (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, runtime.Version(), b.arch(), flags, t.Package) // a hash takes everything
	stat := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
		return nil
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := stat(filepath.Join(b.root, name)); err != nil {
			return "", err
		}
	}
	for _, dir := range b.deps[t.Name] {
		for _, f := range b.files[dir] {
			if err := stat(filepath.Join(dir, f)); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Stamp is a fingerprint of everything that any target is made of, the names of the files in its folders included. When it is the same as before,
// there is nothing to build. It is quick: it looks, and reads nothing.
func (b *Builder) Stamp() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	add := func(path string) {
		if info, err := os.Stat(path); err == nil {
			all = append(all, fmt.Sprint(path, info.Size(), info.ModTime().UnixNano()))
		}
	}
	add(filepath.Join(b.root, "go.mod"))
	add(filepath.Join(b.root, "go.sum"))
	for dir, files := range b.files {
		entries, _ := os.ReadDir(dir) // a folder that has gone has no entries, which is another stamp
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
				add(filepath.Join(dir, e.Name()))
			}
		}
		for _, f := range files {
			if !strings.HasSuffix(f, ".go") {
				add(filepath.Join(dir, f))
			}
		}
	}
	slices.SortFunc(all, cmp.Compare[string])
	sum := sha256.Sum256([]byte(strings.Join(all, "\n")))
	return hex.EncodeToString(sum[:])
}
