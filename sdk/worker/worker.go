// Package worker is the runtime of a worker process: it announces what it can take, runs handlers for the jobs that it is handed, and brings their
// results back. It reconnects by itself; no job is run twice because of that, and no result is lost.
//
// Jobs come in three ways, and a handler does not see which: New makes a worker with a stream to the plane, NewPolling one that reads the pool's
// queue, and package lambdaworker makes one of a Lambda function.
//
// docs/AGENT_PROTOCOL.md describes what goes over the wire.
package worker

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Handler does a job. What it answers is the job's result, as JSON; []byte and json.RawMessage are taken as they are, nil is success without
// a payload. An error fails the job with its text; an *Error also gives it a code. The context ends when the job is cancelled, when its
// deadline passes, and when the worker must stop at once.
type Handler func(ctx context.Context, job *Job) (any, error)

// Error is a failure with a code for programs.
type Error struct {
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Message }

// Config is what a worker is made of. Target, APIKey and Pool are required.
type Config struct {
	// Target is the plane's gRPC address, "localhost:8080".
	Target string
	// APIKey is a key of role worker that names the pool.
	APIKey string
	// ID names the worker; "" is a random one. A worker that is restarted under the same id takes its unfinished jobs up again.
	ID   string
	Pool string
	// MaxParallel is how many jobs run at one time; 0 is 4.
	MaxParallel int
	// Labels, Capabilities, Region and Type are announced. Jobs with placement labels go to workers that carry them.
	Labels       map[string]string
	Capabilities []string
	Region, Type string
	// Load, when set, is asked for the machine's load in percent with every heartbeat. A worker at 90 or more gets no jobs.
	Load func() (cpu, gpu, memory float32)
	// Heartbeat is how often the worker tells that it lives; 0 is every 5 seconds. After 30 seconds of silence its jobs go to others.
	Heartbeat time.Duration
	// DrainTimeout is how long Run waits for running jobs when it is told to stop; 0 is 30 seconds. A negative one does not even say
	// good-bye: the plane finds out by itself.
	DrainTimeout time.Duration
	// TLS secures the connection, see the function TLS; nil is the system's roots. Insecure does without.
	TLS         *tls.Config
	Insecure    bool
	DialOptions []grpc.DialOption
	// SigningKey, on P-256, signs every packet; nil signs none. A plane that was told the public key of this worker's ID drops what is not signed.
	SigningKey *ecdsa.PrivateKey
	// Logger gets what an operator should know; nil is slog.Default.
	Logger *slog.Logger
}

// Defaults and limits.
const (
	defaultParallel  = 4
	defaultHeartbeat = 5 * time.Second
	defaultDrain     = 30 * time.Second
	// resendAfter is how long a result waits for its acknowledgement before it is sent again.
	resendAfter = 5 * time.Second
	maxBackoff  = 30 * time.Second
	// urgent is the longest rest of a worker that holds jobs: after half a minute of silence they go to others.
	urgent = 4 * time.Second
	// connectTimeout is how long a connection may take to come about.
	connectTimeout = 10 * time.Second
)

// Worker runs handlers for jobs that come over a stream. Make it with New, add handlers, then Run it, once.
type Worker struct {
	executor

	cfg  Config
	link *link // the present connection, nil when there is none; guarded by mu
}

// New checks the configuration.
func New(cfg Config) (*Worker, error) {
	for name, v := range map[string]string{"Target": cfg.Target, "APIKey": cfg.APIKey, "Pool": cfg.Pool} {
		if v == "" {
			return nil, fmt.Errorf("worker: Config.%s is required", name)
		}
	}
	if !printable(cfg.APIKey) {
		return nil, errUnprintable
	}
	if err := signable(cfg.SigningKey); err != nil {
		return nil, err
	}
	if cfg.MaxParallel < 0 {
		return nil, fmt.Errorf("worker: Config.MaxParallel is %d; it must not be negative", cfg.MaxParallel)
	}
	cfg.Heartbeat = or(cfg.Heartbeat, defaultHeartbeat)
	cfg.DrainTimeout = or(cfg.DrainTimeout, defaultDrain)
	w := &Worker{cfg: cfg}
	w.init(profile{
		id: or(cfg.ID, uuid.NewString()), pool: cfg.Pool, region: cfg.Region, kind: cfg.Type, parallel: or(cfg.MaxParallel, defaultParallel),
		labels: cfg.Labels, capabilities: cfg.Capabilities, load: cfg.Load,
	}, or(cfg.Logger, slog.Default()), w)
	return w, nil
}

var errUnprintable = errors.New("worker: APIKey holds a character that no header takes, perhaps the end of a line")

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Run works until ctx ends; then it takes no more jobs, finishes what runs within the drain timeout, and returns nil. It returns early only
// when the plane will never let it in: a bad key, or a pool that the key does not name.
func (w *Worker) Run(ctx context.Context) error {
	conn, err := w.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight any more
	ctx, refused := context.WithCancel(ctx)
	stop, kill := context.WithCancel(context.Background()) // outlives ctx by the drain
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		w.drain(stop)
		kill()
	}()
	defer w.handling.Wait()
	defer w.abandon()
	defer func() { refused(); <-drained }()
	for failures := 0; ; failures++ {
		began := time.Now()
		err := w.session(stop, conn)
		if stop.Err() != nil {
			return nil
		}
		if final(err) {
			kill()
			return fmt.Errorf("worker: the plane refuses this worker: %w", err)
		}
		if time.Since(began) > maxBackoff {
			failures = 0
		}
		wait := w.backoff(failures)
		if ctx.Err() == nil {
			w.log.Warn("connection lost; connecting again", "in", wait.String(), "error", err)
		}
		select {
		case <-time.After(wait):
		case <-stop.Done():
			return nil
		}
	}
}

// final says whether trying again is of no use.
func final(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented:
		return true
	default:
		return false
	}
}

// backoff doubles from half a second, with jitter, so that workers do not come back all at once.
func backoff(failures int) time.Duration {
	d := min(500*time.Millisecond<<min(failures, 10), maxBackoff)
	return d/2 + rand.N(d/2)
}

// backoff is shorter while there are jobs to be lost.
func (e *executor) backoff(failures int) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.jobs)+len(e.unacked) > 0 {
		return min(backoff(failures), urgent/2+rand.N(urgent/2))
	}
	return backoff(failures)
}

func (w *Worker) dial() (*grpc.ClientConn, error) {
	creds := credentials.NewTLS(w.cfg.TLS)
	if w.cfg.Insecure {
		creds = insecure.NewCredentials()
	}
	again := grpcbackoff.DefaultConfig
	again.MaxDelay = urgent
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	}, w.cfg.DialOptions...)
	conn, err := grpc.NewClient(w.cfg.Target, opts...)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	return conn, nil
}

// maxMessage is the largest message: a payload with room around it.
const maxMessage = 16 << 20

func (w *Worker) credentials(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-api-key", w.cfg.APIKey)
}

// drain ends the worker's life: no more jobs, what runs may finish, results are acknowledged, the plane is told good-bye.
func (w *Worker) drain(stop context.Context) {
	if w.cfg.DrainTimeout < 0 {
		return
	}
	w.startDraining()
	if l := w.present(); l != nil {
		_ = l.send(w.beat()) // tells that there is no room; a broken stream tells it too
	}
	if left := w.empty(stop.Done(), w.cfg.DrainTimeout); left > 0 {
		return
	}
	if l := w.present(); l != nil {
		l.leave()
	}
}
