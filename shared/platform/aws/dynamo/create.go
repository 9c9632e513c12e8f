package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// tableWait is how long a new table may take.
const tableWait = 2 * time.Minute

// Create makes the table with its indexes unless it is there. CDK does so for a deployment; this is for emulators and tests.
func (t *Table) Create(ctx context.Context) error {
	in := &dynamodb.CreateTableInput{TableName: t.name, BillingMode: types.BillingModePayPerRequest, KeySchema: schema(store.AttrPK, store.AttrSK)}
	in.AttributeDefinitions = append(in.AttributeDefinitions, keyDefs(store.AttrPK, store.AttrSK)...)
	for _, index := range resources.Indexes {
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName: sdk.String(string(index.Name)), KeySchema: schema(index.PK, index.SK),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		})
		in.AttributeDefinitions = append(in.AttributeDefinitions, keyDefs(index.PK, index.SK)...)
	}
	if _, err := t.client.CreateTable(ctx, in); err != nil {
		if _, there := errors.AsType[*types.ResourceInUseException](err); there {
			return nil
		}
		return fmt.Errorf("aws: create table %s: %w", *t.name, err)
	}
	waiter := dynamodb.NewTableExistsWaiter(t.client)
	if err := waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: t.name}, tableWait); err != nil {
		return fmt.Errorf("aws: table %s: %w", *t.name, err)
	}
	_, err := t.client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               t.name,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: sdk.String(store.AttrExpires), Enabled: sdk.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("aws: time to live of table %s: %w", *t.name, err)
	}
	return nil
}

func schema(pk, sk string) []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: sdk.String(pk), KeyType: types.KeyTypeHash}, {AttributeName: sdk.String(sk), KeyType: types.KeyTypeRange},
	}
}

func keyDefs(names ...string) []types.AttributeDefinition {
	var out []types.AttributeDefinition
	for _, n := range names {
		out = append(out, types.AttributeDefinition{AttributeName: sdk.String(n), AttributeType: types.ScalarAttributeTypeS})
	}
	return out
}
