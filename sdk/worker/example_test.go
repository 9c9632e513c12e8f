package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/internal/fakeplane"
)

// A worker connects to the plane's gRPC address and is handed jobs for as long as it runs.
func ExampleNew() {
	address, streams, stop := examplePlane() // stands for your plane
	defer stop()
	w, err := worker.New(worker.Config{Target: address, APIKey: "wk-1", Pool: "main", Insecure: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Handle("job.*", func(ctx context.Context, job *worker.Job) (any, error) {
		var in struct{ Prompt string }
		if err := job.DecodeContext(ctx, &in); err != nil {
			return nil, err
		}
		job.Progress(50, "half done")
		fmt.Println("the job asks for:", in.Prompt)
		return map[string]bool{"ok": true}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the plane hands out a job, takes the result, and then the process is told to stop
		s := <-streams
		s.job("job-1")
		for p := range s.in {
			if r := p.GetJobResult(); r != nil {
				fmt.Println(r.GetJobId(), r.GetStatus(), r.GetResultPtr())
				s.acknowledge("job-1")
				cancel()
			}
		}
	}()
	fmt.Println("run:", w.Run(ctx))
	// Output:
	// the job asks for: p of job-1
	// job-1 JOB_STATUS_SUCCEEDED redis://res:job-1
	// run: <nil>
}

func examplePlane() (address string, streams chan *stream, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	p := &plane{streams: make(chan *stream, 1), stored: make(chan *cordumv1.WriteResultRequest, 1)}
	server := grpc.NewServer()
	cordumv1.RegisterWorkersServer(server, p)
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), p.streams, server.Stop
}

// A polling worker takes jobs off the pool's queue, claims them over REST, and sends their results to the inbox.
func ExampleNewPolling() {
	plane := fakeplane.New() // stands for your plane and its queues
	w, err := worker.NewPolling(worker.PollingConfig{
		URL: "https://api.example.com", APIKey: fakeplane.Key, Pool: "main",
		Queue: plane, // sqsqueue.New(awsConfig, poolURL)
		Inbox: plane, // sqsqueue.New(awsConfig, inboxURL)
		HTTP:  plane.Client(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.Handle("job.*", func(context.Context, *worker.Job) (any, error) {
		defer cancel() // one job is enough for an example
		return map[string]bool{"ok": true}, nil
	})
	plane.Submit("job-1")
	fmt.Println("run:", w.Run(ctx))
	fmt.Println(plane.Job("job-1").State, string(plane.Job("job-1").Output))
	// Output:
	// run: <nil>
	// SUCCEEDED {"ok":true}
}

// RunBatch is for messages that something else received: here two, of which one comes twice.
func ExamplePolling_RunBatch() {
	plane := fakeplane.New() // stands for your plane and its inbox
	w, err := worker.NewPolling(worker.PollingConfig{
		URL: "https://api.example.com", APIKey: fakeplane.Key, Pool: "main", Inbox: plane, HTTP: plane.Client(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Handle("job.*", func(context.Context, *worker.Job) (any, error) { return "done", nil })
	plane.Submit("job-1")
	plane.Submit("job-2")
	again, err := w.RunBatch(context.Background(), worker.Batch{
		Messages: []worker.Message{
			{ID: "m-1", Body: `{"job":"job-1","attempt":1}`},
			{ID: "m-2", Body: `{"job":"job-2","attempt":1}`},
		},
		Until: time.Now().Add(time.Minute),
	})
	fmt.Println("to come again:", len(again), err)
	fmt.Println(plane.Job("job-1").State, plane.Job("job-1").Taken, plane.Job("job-2").State, plane.Job("job-2").Taken)
	// Output:
	// to come again: 0 <nil>
	// SUCCEEDED 1 SUCCEEDED 1
}
