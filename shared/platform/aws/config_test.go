package aws_test

import (
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/aws"
)

func TestNamesFromEnv(t *testing.T) {
	env := map[string]string{"CORDUM_TABLE": "t"}
	if _, err := aws.NamesFromEnv(func(n string) string { return env[n] }); err == nil {
		t.Error("a plane without a bucket was accepted")
	}
	env["CORDUM_BUCKET"], env["CORDUM_QUEUE_URL"] = "b", "p-"
	if n, err := aws.NamesFromEnv(func(n string) string { return env[n] }); err != nil || n.Table != "t" || n.Bucket != "b" || n.QueueURL != "p-" {
		t.Errorf("%+v, %v", n, err)
	}
}
