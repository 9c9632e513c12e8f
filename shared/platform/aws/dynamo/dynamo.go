// Package dynamo is the adapter of the table to DynamoDB.
package dynamo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Table is the one DynamoDB table.
type Table struct {
	client *dynamodb.Client
	name   *string
	meter  *store.Meter
}

var _ store.Table = (*Table)(nil)

// New makes the adapter of a table. meter, which may be nil, counts what DynamoDB says it bills.
func New(cfg sdk.Config, name string, meter *store.Meter) *Table {
	return &Table{client: dynamodb.NewFromConfig(cfg), name: &name, meter: meter}
}

func yes() *bool { b := true; return &b }

// Get reads one item.
func (t *Table) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if err := key.Check(); err != nil {
		return store.Item{}, err
	}
	res, err := t.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: t.name, Key: keyAttrs(key), ConsistentRead: yes(), ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes,
	})
	if err != nil {
		return store.Item{}, failure(err)
	}
	t.read(res.ConsumedCapacity)
	if res.Item == nil {
		return store.Item{}, store.ErrNotFound
	}
	return item(res.Item), nil
}

// batchKeys is the most keys of one BatchGetItem.
const batchKeys = 100

// BatchGet reads items by key; what DynamoDB leaves unprocessed is asked for again.
func (t *Table) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	found := make(map[store.Key]store.Item, len(keys))
	var order, pending []store.Key
	seen := map[store.Key]bool{}
	for _, k := range keys {
		if err := k.Check(); err != nil {
			return nil, err
		}
		if !seen[k] {
			seen[k] = true
			order = append(order, k)
		}
	}
	pending = order
	for tries := 0; len(pending) > 0; tries++ {
		n := min(len(pending), batchKeys)
		left, err := t.batch(ctx, pending[:n], found)
		if err != nil {
			return nil, err
		}
		pending = append(left, pending[n:]...)
		if len(left) > 0 {
			if tries > maxUnprocessed {
				return nil, fmt.Errorf("%w: keys stay unprocessed", store.ErrUnavailable)
			}
			if err := clock.Pause(ctx, time.Duration(tries+1)*20*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
	items := make([]store.Item, 0, len(found))
	for _, k := range order {
		if it, ok := found[k]; ok {
			items = append(items, it)
		}
	}
	return items, nil
}

// maxUnprocessed bounds how often unprocessed keys are asked for again.
const maxUnprocessed = 20

func (t *Table) batch(ctx context.Context, keys []store.Key, found map[store.Key]store.Item) ([]store.Key, error) {
	ask := types.KeysAndAttributes{ConsistentRead: yes()}
	for _, k := range keys {
		ask.Keys = append(ask.Keys, keyAttrs(k))
	}
	res, err := t.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{*t.name: ask}, ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes,
	})
	if err != nil {
		return nil, failure(err)
	}
	for i := range res.ConsumedCapacity {
		t.read(&res.ConsumedCapacity[i])
	}
	for _, raw := range res.Responses[*t.name] {
		it := item(raw)
		found[it.Key] = it
	}
	var left []store.Key
	for _, raw := range res.UnprocessedKeys[*t.name].Keys {
		left = append(left, store.Key{PK: text(raw[store.AttrPK]), SK: text(raw[store.AttrSK])})
	}
	return left, nil
}

// Query reads a page.
func (t *Table) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if err := q.Check(); err != nil {
		return store.Page{}, err
	}
	if q.From != "" && q.To != "" && q.From > q.To {
		return store.Page{}, nil
	}
	pk, sk := q.Index.KeyNames()
	in := &dynamodb.QueryInput{
		TableName: t.name, ReturnConsumedCapacity: types.ReturnConsumedCapacityIndexes,
		ExpressionAttributeNames:  map[string]string{"#p": pk},
		ExpressionAttributeValues: map[string]types.AttributeValue{":p": str(q.PK)},
	}
	forward := !q.Desc
	in.ScanIndexForward = &forward
	if q.Index != "" {
		name := string(q.Index)
		in.IndexName = &name
	} else if !q.Eventual {
		in.ConsistentRead = yes()
	}
	if q.Limit > 0 {
		n := int32(min(q.Limit, 1<<20))
		in.Limit = &n
	}
	condition := "#p = :p" + bounds(q, sk, in)
	in.KeyConditionExpression = &condition
	if q.Start != "" {
		var err error
		if in.ExclusiveStartKey, err = startKey(q); err != nil {
			return store.Page{}, err
		}
	}
	res, err := t.client.Query(ctx, in)
	if err != nil {
		return store.Page{}, failure(err)
	}
	t.read(res.ConsumedCapacity)
	page := store.Page{Next: position(res.LastEvaluatedKey)}
	for _, raw := range res.Items {
		page.Items = append(page.Items, item(raw))
	}
	return page, nil
}

func bounds(q store.Query, sk string, in *dynamodb.QueryInput) string {
	set := func(name, value string) {
		in.ExpressionAttributeNames["#s"] = sk
		in.ExpressionAttributeValues[name] = str(value)
	}
	switch {
	case q.Prefix != "":
		set(":a", q.Prefix)
		return " AND begins_with(#s, :a)"
	case q.From != "" && q.To != "":
		set(":a", q.From)
		set(":b", q.To)
		return " AND #s BETWEEN :a AND :b"
	case q.From != "":
		set(":a", q.From)
		return " AND #s >= :a"
	case q.To != "":
		set(":a", q.To)
		return " AND #s <= :a"
	}
	return ""
}

// position writes where a page ended: DynamoDB's key, as JSON in base64.
func position(last map[string]types.AttributeValue) string {
	if len(last) == 0 {
		return ""
	}
	key := make(map[string]string, len(last))
	for name, v := range last {
		key[name] = text(v)
	}
	b, err := json.Marshal(key)
	if err != nil {
		panic("aws: position: " + err.Error()) // strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// startKey reads a position; one that is not of this index and partition is refused before DynamoDB sees it.
func startKey(q store.Query) (map[string]types.AttributeValue, error) {
	b, err := base64.RawURLEncoding.DecodeString(q.Start)
	if err != nil {
		return nil, store.ErrBadStart
	}
	var key map[string]string
	if json.Unmarshal(b, &key) != nil {
		return nil, store.ErrBadStart
	}
	want := []string{store.AttrPK, store.AttrSK}
	pk, sk := q.Index.KeyNames()
	if q.Index != "" {
		want = append(want, pk, sk)
	}
	out := make(map[string]types.AttributeValue, len(want))
	for _, name := range want {
		if key[name] == "" {
			return nil, store.ErrBadStart
		}
		out[name] = str(key[name])
	}
	if len(key) != len(want) || key[pk] != q.PK {
		return nil, store.ErrBadStart
	}
	return out, nil
}

// failure maps what DynamoDB says to the port's errors.
func failure(err error) error {
	var conflict *types.TransactionConflictException
	var api smithy.APIError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &conflict):
		return fmt.Errorf("%w: %w", store.ErrConflict, err)
	case errors.As(err, &api):
		switch api.ErrorCode() {
		case "ValidationException":
			if tooLarge(api.ErrorMessage()) {
				return fmt.Errorf("%w: %w", store.ErrTooLarge, err)
			}
			return fmt.Errorf("%w: %w", store.ErrInvalid, err)
		case "TransactionInProgressException":
			return fmt.Errorf("%w: %w", store.ErrConflict, err)
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

func (t *Table) read(c *types.ConsumedCapacity) {
	if t.meter == nil || c == nil || c.CapacityUnits == nil {
		return
	}
	t.meter.Reads.Add(1)
	t.meter.ReadUnits.Add(int64(*c.CapacityUnits * 2))
}

func (t *Table) wrote(cs ...types.ConsumedCapacity) {
	if t.meter == nil {
		return
	}
	t.meter.Writes.Add(1)
	for _, c := range cs {
		if c.CapacityUnits != nil {
			t.meter.WriteUnits.Add(int64(*c.CapacityUnits))
		}
	}
}

// Attribute values.

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func value(v any) types.AttributeValue {
	switch v := v.(type) {
	case string:
		return str(v)
	case int64:
		return num(v)
	case bool:
		return &types.AttributeValueMemberBOOL{Value: v}
	case []byte:
		if v == nil {
			v = []byte{} // the SDK writes nothing at all for nil, which is refused
		}
		return &types.AttributeValueMemberB{Value: v}
	default:
		panic(fmt.Sprintf("aws: value of type %T passed the port's check", v))
	}
}

func text(v types.AttributeValue) string {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func number(v types.AttributeValue) int64 {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		return 0
	}
	i, _ := strconv.ParseInt(n.Value, 10, 64) // only we write numbers
	return i
}

func keyAttrs(k store.Key) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{store.AttrPK: str(k.PK), store.AttrSK: str(k.SK)}
}

// attrs is an item as DynamoDB stores it.
func attrs(i store.Item) map[string]types.AttributeValue {
	out := keyAttrs(i.Key)
	for name, v := range i.Attrs {
		out[name] = value(v)
	}
	for index, k := range i.Index {
		if k != (store.Key{}) {
			pk, sk := index.KeyNames()
			out[pk], out[sk] = str(k.PK), str(k.SK)
		}
	}
	if i.Expires != 0 {
		out[store.AttrExpires] = num(i.Expires)
	}
	return out
}

// item reads what DynamoDB answers.
func item(raw map[string]types.AttributeValue) store.Item {
	i := store.Item{Key: store.Key{PK: text(raw[store.AttrPK]), SK: text(raw[store.AttrSK])}, Expires: number(raw[store.AttrExpires]), Attrs: store.Attrs{}}
	known := map[string]bool{store.AttrPK: true, store.AttrSK: true, store.AttrExpires: true}
	for _, index := range store.Indexes {
		pk, sk := index.KeyNames()
		known[pk], known[sk] = true, true
		if k := (store.Key{PK: text(raw[pk]), SK: text(raw[sk])}); k != (store.Key{}) {
			if i.Index == nil {
				i.Index = map[store.Index]store.Key{}
			}
			i.Index[index] = k
		}
	}
	for name, v := range raw {
		if known[name] {
			continue
		}
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			i.Attrs[name] = v.Value
		case *types.AttributeValueMemberN:
			i.Attrs[name] = number(v)
		case *types.AttributeValueMemberBOOL:
			i.Attrs[name] = v.Value
		case *types.AttributeValueMemberB:
			if v.Value == nil {
				v.Value = []byte{}
			}
			i.Attrs[name] = v.Value
		}
	}
	return i
}
