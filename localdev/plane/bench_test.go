package plane_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Benchmarks of the plane without sockets: one request through the gateway, the event's bytes, the function, the store. `make bench` measures
// the whole, with real HTTP and gRPC.

func benchPlane(b *testing.B) *plane.Plane {
	b.Helper()
	cfg := config()
	cfg.Dir = b.TempDir()
	p, err := plane.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	return p
}

func request(b *testing.B, p *plane.Plane, method, path, body string) string {
	req := httptest.NewRequest(method, path, bytes.NewReader([]byte(body)))
	req.Header.Set("X-API-Key", "k-admin")
	req.Header.Set("X-Tenant-ID", "default")
	rec := httptest.NewRecorder()
	p.HTTP.ServeHTTP(rec, req)
	if rec.Code != 200 {
		b.Fatal(rec.Code, rec.Body)
	}
	return rec.Body.String()
}

const benchSubmission = `{"topic":"job.test.work","prompt":"hash it","context":{"text":"abc"},"labels":{"run":"bench"}}`

const benchQuestion = `{"job_id":"job-1","topic":"job.test.boxed","labels":{"env":"test"},"principal_id":"maya","meta":{"risk_tags":["network"],"capability":"x"}}`

func BenchmarkEvaluate(b *testing.B) {
	p := benchPlane(b)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			request(b, p, "POST", "/api/v1/policy/evaluate", benchQuestion)
		}
	})
}

func BenchmarkSubmit(b *testing.B) {
	p := benchPlane(b)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			request(b, p, "POST", "/api/v1/jobs", benchSubmission)
		}
	})
}

func BenchmarkGetJob(b *testing.B) {
	p := benchPlane(b)
	var ids []string
	for range 1000 {
		var id, rest string
		fmt.Sscanf(request(b, p, "POST", "/api/v1/jobs", benchSubmission), `{"job_id":%q,%s`, &id, &rest)
		ids = append(ids, id)
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			request(b, p, "GET", "/api/v1/jobs/"+ids[int(n.Add(1))%len(ids)], "")
		}
	})
}

func BenchmarkStatus(b *testing.B) {
	p := benchPlane(b)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			request(b, p, "GET", "/api/v1/status", "")
		}
	})
}

// BenchmarkRoundTrip is a job from its submission to its result, with a worker of the SDK over an in-memory connection.
func BenchmarkRoundTrip(b *testing.B) {
	p := benchPlane(b)
	p.Start()
	l := bufconn.Listen(1 << 20)
	go func() { _ = p.GRPC.Serve(l) }()
	done := make(chan string, 1000)
	w, err := worker.New(worker.Config{
		Target: "passthrough:///plane", APIKey: "k-worker", Pool: "main", MaxParallel: 64, Insecure: true, Logger: slog.New(slog.DiscardHandler),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })},
	})
	if err != nil {
		b.Fatal(err)
	}
	w.Handle("job.test.*", func(ctx context.Context, job *worker.Job) (any, error) {
		if _, err := job.Context(ctx); err != nil {
			return nil, err
		}
		done <- job.ID
		return map[string]bool{"ok": true}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			request(b, p, "POST", "/api/v1/jobs", benchSubmission)
			<-done
		}
	})
}
