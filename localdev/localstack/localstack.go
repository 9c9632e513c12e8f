// Package localstack starts LocalStack: with Docker where there is a working daemon, and as programs of this machine otherwise.
package localstack

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/localdev/process"
)

//go:embed host.sh
var hostScript []byte

//go:embed compose.yaml
var composeFile []byte

// Config says where. The zero value works.
type Config struct {
	// Dir keeps what is installed, for the next time; "" is cordum/localstack in the user's cache folder.
	Dir string
	// Port is where it listens, on this machine alone; 0 is 4566.
	Port int
	// Output gets what the installation and LocalStack print; nil is nobody.
	Output io.Writer
	// Say tells a person what goes on; nil is nobody.
	Say func(string)
}

// LocalStack is a running one.
type LocalStack struct {
	// URL is its endpoint, AWS_ENDPOINT_URL.
	URL string
	// Found says that it ran already; Stop leaves it alone then.
	Found bool

	stop func()
}

const defaultPort = 4566

var errNothing = errors.New("exit status 0")

// upPatience is how long LocalStack may take to come up once it is installed.
const upPatience = 3 * time.Minute

// Start finds LocalStack on its port, or starts it. The first time it is installed, which takes minutes.
func Start(ctx context.Context, cfg Config) (*LocalStack, error) {
	cfg.Port = cmp.Or(cfg.Port, defaultPort)
	if cfg.Say == nil {
		cfg.Say = func(string) {}
	}
	if cfg.Output == nil {
		cfg.Output = io.Discard
	}
	l := &LocalStack{URL: "http://localhost:" + strconv.Itoa(cfg.Port), stop: func() {}}
	if Healthy(ctx, l.URL) {
		cfg.Say("LocalStack runs already on " + l.URL)
		l.Found = true
		return l, nil
	}
	if free(ctx, cfg.Port) != nil {
		return nil, fmt.Errorf("localstack: port %d is in use by another program; choose another one", cfg.Port)
	}
	if cfg.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("localstack: where to install: %w", err)
		}
		cfg.Dir = filepath.Join(cache, "cordum", "localstack")
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, err
	}
	if exec.CommandContext(ctx, "docker", "info").Run() == nil {
		return l, l.compose(ctx, cfg)
	}
	return l, l.host(ctx, cfg)
}

// Stop ends it, unless it was found running. What it holds is gone.
func (l *LocalStack) Stop() { l.stop() }

// Healthy says whether a LocalStack answers at an endpoint.
func Healthy(ctx context.Context, endpoint string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_localstack/health", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }() // it was read
	var health struct {
		Services map[string]string `json:"services"`
	}
	if json.NewDecoder(res.Body).Decode(&health) != nil {
		return false
	}
	return res.StatusCode == http.StatusOK && health.Services["dynamodb"] != ""
}

func free(ctx context.Context, port int) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return l.Close()
}

func (l *LocalStack) compose(ctx context.Context, cfg Config) error {
	cfg.Say("starting LocalStack with Docker")
	file := filepath.Join(cfg.Dir, "compose.yaml")
	if err := os.WriteFile(file, composeFile, 0o644); err != nil {
		return err
	}
	docker := func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "-f", file}, args...)...)
		cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(cfg.Port))
		var problems bytes.Buffer
		cmd.Stdout, cmd.Stderr = cfg.Output, io.MultiWriter(cfg.Output, &problems)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("localstack: docker compose %s: %w\n%s", args[0], err, problems.String())
		}
		return nil
	}
	l.stop = func() { _ = docker(context.Background(), "down", "--volumes") } // Docker says what is wrong with it
	return docker(ctx, "up", "--detach", "--wait")
}

// agentJar is the last file that an installation makes.
const agentJar = "fs/var/lib/localstack/lib/dynamodb-local/2/ddb-local-loader-0.1.jar"

func (l *LocalStack) host(ctx context.Context, cfg Config) error {
	for _, tool := range []string{"bash", "python3", "java", "javac", "jar", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("localstack: without Docker it needs %s, which is not there: install Docker, or bash, Python 3.10 to 3.12 with venv, "+
				"a JDK (17 or newer) and Maven", tool)
		}
	}
	script := filepath.Join(cfg.Dir, "host.sh")
	if err := os.WriteFile(script, hostScript, 0o755); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(cfg.Dir, agentJar))
	if err != nil {
		cfg.Say("installing LocalStack into " + cfg.Dir + ": about two minutes, once")
	} else {
		cfg.Say("starting LocalStack from " + cfg.Dir)
	}
	var tail tail
	p, err := process.Start(process.Config{
		Path: "bash", Args: []string{script, cfg.Dir, strconv.Itoa(cfg.Port)}, Env: os.Environ(), Output: io.MultiWriter(cfg.Output, &tail), Group: true,
	})
	if err != nil {
		return fmt.Errorf("localstack: %w", err)
	}
	l.stop = func() { p.Stop(stopPatience) }
	installed := time.Now()
	for !Healthy(ctx, l.URL) {
		if _, err := os.Stat(filepath.Join(cfg.Dir, agentJar)); err != nil {
			installed = time.Now() // downloads take as long as they take
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("localstack: it ended while it started (%w); what it said last:\n%s", cmp.Or(p.Err(), errNothing), tail.String())
		case <-ctx.Done():
			l.stop()
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if time.Since(installed) > upPatience {
			l.stop()
			return fmt.Errorf("localstack: it does not answer after %s\n%s", upPatience, tail.String())
		}
	}
	return nil
}

// stopPatience is how long LocalStack may take to end.
const stopPatience = 10 * time.Second

// tail keeps the last of what was written.
type tail struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.Write(p)
	if n := t.kept.Len() - tailSize; n > 0 {
		t.kept.Next(n)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept.String()
}
