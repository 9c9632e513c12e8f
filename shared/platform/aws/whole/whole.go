// Package whole makes all of a plane's adapters to AWS, and what they stand on where it is missing: for emulators and tests. Functions open those
// that they use.
package whole

import (
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/aws/sqs"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Platform is the adapters of one plane.
type Platform struct {
	Table  *dynamo.Table
	Queues *sqs.Queues
	Blobs  *s3.Blobs
}

// Open makes the adapters. The meter may be nil.
func Open(cfg sdk.Config, names aws.Names, meter *store.Meter) Platform {
	return Platform{Table: dynamo.New(cfg, names.Table, meter), Queues: sqs.New(cfg, names.QueueURL), Blobs: s3.New(cfg, names.Bucket)}
}

// Create makes the table, the bucket and the queues that are missing.
func (p Platform) Create(ctx context.Context, queues ...queue.Def) error {
	if err := p.Table.Create(ctx); err != nil {
		return err
	}
	if err := p.Blobs.Create(ctx); err != nil {
		return err
	}
	return p.Queues.Ensure(ctx, queues...)
}
