package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Names say where a plane's state is. They come from the function's environment.
type Names struct {
	// Table is CORDUM_TABLE, Bucket CORDUM_BUCKET, QueuePrefix CORDUM_QUEUE_PREFIX.
	Table, Bucket, QueuePrefix string
	// PushEndpoint is CORDUM_PUSH_ENDPOINT, the stage of the WebSocket API; "" for functions that push nothing.
	PushEndpoint string
}

// NamesFromEnv reads them; table and bucket are required.
func NamesFromEnv(getenv func(string) string) (Names, error) {
	n := Names{
		Table: getenv("CORDUM_TABLE"), Bucket: getenv("CORDUM_BUCKET"), QueuePrefix: getenv("CORDUM_QUEUE_PREFIX"),
		PushEndpoint: getenv("CORDUM_PUSH_ENDPOINT"),
	}
	if n.Table == "" || n.Bucket == "" {
		return n, errors.New("CORDUM_TABLE and CORDUM_BUCKET must name the plane's table and bucket")
	}
	return n, nil
}

// Platform is the adapters of one plane.
type Platform struct {
	Table       *Table
	Queues      *Queues
	Blobs       *Blobs
	Connections *Connections // nil without a push endpoint

	names  Names
	dynamo *dynamodb.Client
	bucket *s3.Client
}

// Open makes the adapters with the SDK's own configuration: region and credentials of the environment, and its AWS_ENDPOINT_URL.
func Open(ctx context.Context, names Names, meter *store.Meter) (*Platform, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("aws: configuration: %w", err)
	}
	p := &Platform{
		names: names, dynamo: dynamodb.NewFromConfig(cfg),
		// an emulator has no name for each bucket
		bucket: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }),
	}
	p.Table = NewTable(p.dynamo, names.Table, meter)
	p.Queues = NewQueues(sqs.NewFromConfig(cfg), names.QueuePrefix)
	p.Blobs = NewBlobs(p.bucket, names.Bucket)
	if names.PushEndpoint != "" {
		p.Connections = NewConnections(apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) {
			o.BaseEndpoint = &names.PushEndpoint
		}))
	}
	return p, nil
}

// Create makes the table, the bucket and the queues that are missing. CDK does so for a deployment; this is for emulators and tests.
func (p *Platform) Create(ctx context.Context, queues ...queue.Def) error {
	if err := p.createTable(ctx); err != nil {
		return err
	}
	_, err := p.bucket.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &p.names.Bucket})
	if err != nil && !exists(err) {
		return fmt.Errorf("aws: create bucket %s: %w", p.names.Bucket, err)
	}
	return p.Queues.Ensure(ctx, queues...)
}

// tableWait is how long a new table may take.
const tableWait = 2 * time.Minute

func exists(err error) bool {
	var api interface{ ErrorCode() string }
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "BucketAlreadyOwnedByYou", "BucketAlreadyExists", "ResourceInUseException":
		return true
	}
	return false
}

func (p *Platform) createTable(ctx context.Context) error {
	in := &dynamodb.CreateTableInput{TableName: &p.names.Table, BillingMode: dynamotypes.BillingModePayPerRequest, KeySchema: schema(store.AttrPK, store.AttrSK)}
	in.AttributeDefinitions = append(in.AttributeDefinitions, keyDefs(store.AttrPK, store.AttrSK)...)
	for _, index := range resources.Indexes {
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, dynamotypes.GlobalSecondaryIndex{
			IndexName: sdk.String(string(index.Name)), KeySchema: schema(index.PK, index.SK),
			Projection: &dynamotypes.Projection{ProjectionType: dynamotypes.ProjectionTypeKeysOnly},
		})
		in.AttributeDefinitions = append(in.AttributeDefinitions, keyDefs(index.PK, index.SK)...)
	}
	if _, err := p.dynamo.CreateTable(ctx, in); err != nil {
		if exists(err) {
			return nil
		}
		return fmt.Errorf("aws: create table %s: %w", p.names.Table, err)
	}
	waiter := dynamodb.NewTableExistsWaiter(p.dynamo)
	if err := waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &p.names.Table}, tableWait); err != nil {
		return fmt.Errorf("aws: table %s: %w", p.names.Table, err)
	}
	_, err := p.dynamo.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &p.names.Table,
		TimeToLiveSpecification: &dynamotypes.TimeToLiveSpecification{AttributeName: sdk.String(store.AttrExpires), Enabled: sdk.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("aws: time to live of table %s: %w", p.names.Table, err)
	}
	return nil
}

func schema(pk, sk string) []dynamotypes.KeySchemaElement {
	return []dynamotypes.KeySchemaElement{
		{AttributeName: sdk.String(pk), KeyType: dynamotypes.KeyTypeHash}, {AttributeName: sdk.String(sk), KeyType: dynamotypes.KeyTypeRange},
	}
}

func keyDefs(names ...string) []dynamotypes.AttributeDefinition {
	var out []dynamotypes.AttributeDefinition
	for _, n := range names {
		out = append(out, dynamotypes.AttributeDefinition{AttributeName: sdk.String(n), AttributeType: dynamotypes.ScalarAttributeTypeS})
	}
	return out
}
