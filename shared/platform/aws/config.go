// Package aws is what the adapters to AWS have in common: how a process is configured, and where its plane's state is. Each service has a package
// of its own, so that a function carries the clients of those that it uses and of no others. AWS_ENDPOINT_URL alone decides whether it is AWS or an
// emulator that answers.
package aws

import (
	"errors"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Names say where a plane's state is. They come from the function's environment.
type Names struct {
	// Table is CORDUM_TABLE, Bucket CORDUM_BUCKET.
	Table, Bucket string
	// QueueURL is CORDUM_QUEUE_URL: what the URLs of all queues begin with, "https://sqs.eu-west-1.amazonaws.com/123456789012/cordum-prod-". A
	// queue's URL is that and its name: nothing has to be asked for it.
	QueueURL string
	// PushEndpoint is CORDUM_PUSH_ENDPOINT, the stage of the WebSocket API; "" for functions that push nothing.
	PushEndpoint string
}

// NamesFromEnv reads them; all but the push endpoint are required.
func NamesFromEnv(getenv func(string) string) (Names, error) {
	n := Names{
		Table: getenv("CORDUM_TABLE"), Bucket: getenv("CORDUM_BUCKET"), QueueURL: getenv("CORDUM_QUEUE_URL"),
		PushEndpoint: getenv("CORDUM_PUSH_ENDPOINT"),
	}
	if n.Table == "" || n.Bucket == "" || n.QueueURL == "" {
		return n, errors.New("CORDUM_TABLE, CORDUM_BUCKET and CORDUM_QUEUE_URL must name the plane's table, bucket and queues")
	}
	return n, nil
}

// FromEnv is the configuration of a process whose region, credentials and endpoint are in its environment, as Lambda gives them. A process that
// has to look for credentials elsewhere loads its configuration with the SDK's package config, which takes more than a megabyte of a binary.
func FromEnv(getenv func(string) string) sdk.Config {
	cfg := sdk.Config{
		Region: getenv("AWS_REGION"),
		Credentials: credentials.NewStaticCredentialsProvider(
			getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN")),
		RequestChecksumCalculation: sdk.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: sdk.ResponseChecksumValidationWhenSupported,
	}
	if u := getenv("AWS_ENDPOINT_URL"); u != "" {
		cfg.BaseEndpoint = &u
	}
	return cfg
}
