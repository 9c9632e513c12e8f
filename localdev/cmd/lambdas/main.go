// Command lambdas builds every Lambda function as it is deployed, and prints what each weighs and how soon a new instance answers.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/localdev/build"
	"github.com/cordum-serverless/cordum/localdev/lambdahost"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := flag.String("out", "build", "folder that the binaries go into")
	size := flag.Bool("size", false, "print a table of sizes and cold starts")
	starts := flag.Int("starts", 20, "how many new instances are timed for each function")
	flag.Parse()
	if err := run(ctx, *out, *size, *starts); err != nil {
		fmt.Fprintln(os.Stderr, "lambdas:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, size bool, starts int) error {
	root, err := build.Root(".")
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	deployed := build.New(root, filepath.Join(out, "lambdas"), build.Functions()...)
	deployed.Arch = "arm64"
	changed, err := deployed.Build(ctx)
	if err != nil {
		return err
	}
	if !size {
		fmt.Printf("%d functions in %s, %d of them new\n", len(resources.Functions), filepath.Join(out, "lambdas"), len(changed))
		return nil
	}
	native := build.New(root, filepath.Join(out, "native"), build.Functions()...)
	if _, err := native.Build(ctx); err != nil {
		return err
	}
	return table(ctx, os.Stdout, deployed, native, starts)
}

// mega is what AWS means by a megabyte of a function.
const mega = 1 << 20

// table prints a line for each function. Times are of this machine and its own binaries.
func table(ctx context.Context, to io.Writer, deployed, native *build.Builder, starts int) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "function\tbinary MB\tzip MB\tmemory MB\tready ms\tfirst answer ms\t")
	tooLarge := 0
	for _, f := range resources.Functions {
		s, err := build.SizeOf(deployed.Binary(f.Name))
		if err != nil {
			return err
		}
		over := ""
		if s.Binary > build.MaxBinary || s.Zip > build.MaxZip {
			over = " too large"
			tooLarge++
		}
		ready, answer, err := coldStarts(ctx, f, native.Binary(f.Name), starts)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%d\t%s\t%s\t%s\n", f.Name, float64(s.Binary)/mega, float64(s.Zip)/mega, f.Memory, ms(ready), ms(answer), over)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if tooLarge > 0 {
		return fmt.Errorf("%d functions weigh more than %d MB, or %d MB zipped", tooLarge, build.MaxBinary/mega, build.MaxZip/mega)
	}
	return nil
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000)
}

// coldStarts times new instances, one after the other: from the start of the process until it asks for work, and until its first answer. They are
// medians. What has no answer without the services behind it has none here either.
func coldStarts(ctx context.Context, f resources.Function, binary string, n int) (ready, answer time.Duration, err error) {
	api, err := lambdahost.Listen()
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = api.Close() }() // every instance has ended
	event, answers := firstEvent(f)
	var readies, firsts []time.Duration
	for range n {
		h := api.Host(lambdahost.Config{Name: f.Name, Binary: binary, Memory: f.Memory, Timeout: f.Timeout, Env: map[string]string{
			"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_LAMBDA_LOG_FORMAT": "JSON",
			"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "CORDUM_TABLE": "none", "CORDUM_BUCKET": "none", "CORDUM_QUEUE_URL": "http://127.0.0.1:1/0/none-",
			"CORDUM_PUSH_ENDPOINT": "http://127.0.0.1:1/none", "CORDUM_API_KEY": "none",
		}, Output: io.Discard})
		began := time.Now()
		if _, err := h.Invoke(ctx, event); err != nil && answers {
			return 0, 0, err
		}
		firsts = append(firsts, time.Since(began))
		readies = append(readies, h.Stats().Inits...)
		h.Close()
	}
	if !answers {
		firsts = nil
	}
	return median(readies), median(firsts), nil
}

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// firstEvent is what a function can answer by itself: a request without a credential, a batch of nothing.
func firstEvent(f resources.Function) (event []byte, answers bool) {
	var e any
	switch {
	case f.Service != "" || f.Default:
		e = request(f)
	case f.Sockets:
		e = events.APIGatewayWebsocketProxyRequest{RequestContext: events.APIGatewayWebsocketProxyRequestContext{EventType: "CONNECT", ConnectionID: "c"}}
	case len(resources.SourcesOf(f.Name)) > 0:
		e = events.SQSEvent{Records: []events.SQSMessage{}}
	default:
		return []byte("{}"), false
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // these are our own
	}
	return text, true
}

func request(f resources.Function) events.APIGatewayV2HTTPRequest {
	method, path := "GET", "/api/v1/nowhere"
	for _, r := range routes.All() {
		if r.Service() == f.Service {
			method, path = r.Method, strings.NewReplacer("{", "", "}", "", "=**", "").Replace(r.Path)
			break
		}
	}
	var e events.APIGatewayV2HTTPRequest
	e.Version, e.RawPath, e.Headers = "2.0", path, map[string]string{"host": "localhost"}
	e.RequestContext.HTTP.Method, e.RequestContext.HTTP.Path, e.RequestContext.HTTP.SourceIP = method, path, "127.0.0.1"
	e.RequestContext.DomainName = "localhost"
	return e
}
