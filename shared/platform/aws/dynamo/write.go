package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Write applies one operation, or several as a transaction.
func (t *Table) Write(ctx context.Context, ops ...store.Op) error {
	if err := store.CheckOps(ops); err != nil {
		return err
	}
	if len(ops) == 1 && ops[0].Kind != store.OpCheck {
		_, err := t.one(ctx, ops[0])
		return err
	}
	return t.transact(ctx, ops)
}

// Update applies one Update and answers the item afterwards.
func (t *Table) Update(ctx context.Context, op store.Op) (store.Item, error) {
	if err := store.CheckOps([]store.Op{op}); err != nil {
		return store.Item{}, err
	}
	if op.Kind != store.OpUpdate {
		return store.Item{}, fmt.Errorf("%w: Update takes an update", store.ErrInvalid)
	}
	return t.one(ctx, op)
}

func (t *Table) one(ctx context.Context, op store.Op) (store.Item, error) {
	e := newExpression()
	condition := e.condition(op.Cond)
	const old = types.ReturnValuesOnConditionCheckFailureAllOld
	const units = types.ReturnConsumedCapacityIndexes
	var after map[string]types.AttributeValue
	var used *types.ConsumedCapacity
	var err error
	switch op.Kind {
	case store.OpPut:
		var res *dynamodb.PutItemOutput
		res, err = t.client.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: t.name, Item: attrs(op.Item), ConditionExpression: condition, ExpressionAttributeNames: e.names(),
			ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old, ReturnConsumedCapacity: units,
		})
		if err == nil {
			used = res.ConsumedCapacity
		}
	case store.OpUpdate:
		update := e.update(op)
		var res *dynamodb.UpdateItemOutput
		res, err = t.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: t.name, Key: keyAttrs(op.Key), UpdateExpression: update, ConditionExpression: condition, ExpressionAttributeNames: e.names(),
			ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old, ReturnConsumedCapacity: units,
			ReturnValues: types.ReturnValueAllNew,
		})
		if err == nil {
			used, after = res.ConsumedCapacity, res.Attributes
		}
	default:
		var res *dynamodb.DeleteItemOutput
		res, err = t.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: t.name, Key: keyAttrs(op.Key), ConditionExpression: condition, ExpressionAttributeNames: e.names(),
			ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old, ReturnConsumedCapacity: units,
		})
		if err == nil {
			used = res.ConsumedCapacity
		}
	}
	if refused, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
		return store.Item{}, conditionError(0, refused.Item)
	}
	if err != nil {
		return store.Item{}, failure(err)
	}
	if used != nil {
		t.wrote(*used)
	}
	return item(after), nil
}

func conditionError(op int, raw map[string]types.AttributeValue) error {
	failed := &store.ConditionError{Op: op}
	if len(raw) > 0 {
		old := item(raw)
		failed.Old = &old
	}
	return failed
}

func (t *Table) transact(ctx context.Context, ops []store.Op) error {
	in := &dynamodb.TransactWriteItemsInput{ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes}
	for _, op := range ops {
		in.TransactItems = append(in.TransactItems, t.part(op))
	}
	res, err := t.client.TransactWriteItems(ctx, in)
	if cancelled, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		return because(cancelled)
	}
	if err != nil {
		return failure(err)
	}
	t.wrote(res.ConsumedCapacity...)
	return nil
}

func (t *Table) part(op store.Op) types.TransactWriteItem {
	e := newExpression()
	condition := e.condition(op.Cond)
	const old = types.ReturnValuesOnConditionCheckFailureAllOld
	switch op.Kind {
	case store.OpPut:
		return types.TransactWriteItem{Put: &types.Put{
			TableName: t.name, Item: attrs(op.Item), ConditionExpression: condition, ExpressionAttributeNames: e.names(),
			ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old,
		}}
	case store.OpUpdate:
		update := e.update(op)
		if update == nil { // a transaction takes no update that changes nothing; setting the key's own absence of change does the same
			noop := "REMOVE " + e.name("_none")
			update = &noop
		}
		return types.TransactWriteItem{Update: &types.Update{
			TableName: t.name, Key: keyAttrs(op.Key), UpdateExpression: update, ConditionExpression: condition,
			ExpressionAttributeNames: e.names(), ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old,
		}}
	case store.OpDelete:
		return types.TransactWriteItem{Delete: &types.Delete{
			TableName: t.name, Key: keyAttrs(op.Key), ConditionExpression: condition, ExpressionAttributeNames: e.names(),
			ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old,
		}}
	default:
		return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
			TableName: t.name, Key: keyAttrs(op.Key), ConditionExpression: condition, ExpressionAttributeNames: e.names(),
			ExpressionAttributeValues: e.values(), ReturnValuesOnConditionCheckFailure: old,
		}}
	}
}

// because finds out why a transaction was cancelled: a condition, a conflict, or input that DynamoDB refuses.
func because(c *types.TransactionCanceledException) error {
	var worst error
	for i, r := range c.CancellationReasons {
		code, message := sdk.ToString(r.Code), sdk.ToString(r.Message)
		switch code {
		case "", "None":
		case "ConditionalCheckFailed":
			return conditionError(i, r.Item)
		case "TransactionConflict":
			worst = fmt.Errorf("%w: operation %d", store.ErrConflict, i)
		case "ValidationError":
			if tooLarge(message) {
				return fmt.Errorf("%w: operation %d: %s", store.ErrTooLarge, i, message)
			}
			return fmt.Errorf("%w: operation %d: %s", store.ErrInvalid, i, message)
		case "ItemCollectionSizeLimitExceeded":
			return fmt.Errorf("%w: operation %d: %s", store.ErrTooLarge, i, message)
		default:
			if worst == nil {
				worst = fmt.Errorf("%w: operation %d: %s: %s", store.ErrUnavailable, i, code, message)
			}
		}
	}
	if worst == nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, c)
	}
	return worst
}

func tooLarge(message string) bool {
	return strings.Contains(message, "maximum allowed size") || strings.Contains(message, "size limit") || strings.Contains(message, "size has exceeded")
}
