package aws_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/whole"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/blob/blobtest"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/queue/queuetest"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/store/storetest"
)

// platform is one table, bucket and prefix for the whole run; the suites keep apart by themselves. It needs an endpoint that is not AWS's own.
func platform(t testing.TB) whole.Platform {
	t.Helper()
	if os.Getenv("AWS_ENDPOINT_URL") == "" {
		t.Skip("no AWS_ENDPOINT_URL: `make test-aws` runs the conformance suites on an emulator (LocalStack)")
	}
	p, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var shared = sync.OnceValues(func() (whole.Platform, error) {
	name := "cordum-test-" + ids.Source{}.Hex(4)
	names := aws.Names{Table: name, Bucket: name, QueueURL: os.Getenv("AWS_ENDPOINT_URL") + "/000000000000/" + name + "-"}
	p := whole.Open(aws.FromEnv(os.Getenv), names, &store.Meter{})
	return p, p.Create(context.Background(), resources.Queues("main")...)
})

func TestTable(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Table { return platform(t).Table })
}

func TestQueues(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queue.Queues { return platform(t).Queues })
}

func TestBlobs(t *testing.T) {
	blobtest.Run(t, func(t testing.TB) blob.Store { return platform(t).Blobs }, blobtest.Options{
		Unverified: "LocalStack checks neither the signature nor the time of a presigned URL",
	})
}

// TestCreateTwice: what is there is left as it is.
func TestCreateTwice(t *testing.T) {
	p := platform(t)
	if err := p.Create(t.Context(), resources.Queues("main", "gpu")...); err != nil {
		t.Fatal(err)
	}
}
