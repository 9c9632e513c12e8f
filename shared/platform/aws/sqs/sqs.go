// Package sqs is the adapter of the queues to SQS.
package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// Queues are the SQS queues of one plane: their URLs begin alike.
type Queues struct {
	client *sqs.Client
	base   string
}

var _ queue.Queues = (*Queues)(nil)

// New makes the adapter; base is what the queues' URLs begin with, up to their own names.
func New(cfg sdk.Config, base string) *Queues {
	return &Queues{client: sqs.NewFromConfig(cfg), base: base}
}

func (q *Queues) url(name string) *string {
	u := q.base + name
	return &u
}

// fullName is the queue's name within its account.
func (q *Queues) fullName(name string) *string {
	u := *q.url(name)
	u = u[strings.LastIndexByte(u, '/')+1:]
	return &u
}

// Ensure creates the queues that are missing.
func (q *Queues) Ensure(ctx context.Context, defs ...queue.Def) error {
	for _, d := range defs {
		if err := d.Check(); err != nil {
			return err
		}
	}
	for _, d := range defs {
		_, err := q.arn(ctx, d.Name)
		if errors.Is(err, queue.ErrUnknownQueue) {
			err = q.create(ctx, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (q *Queues) create(ctx context.Context, d queue.Def) error {
	attributes := map[string]string{
		"VisibilityTimeout": seconds(d.Visibility), "MessageRetentionPeriod": seconds(d.Retention), "ReceiveMessageWaitTimeSeconds": "0",
	}
	if d.FIFO {
		attributes["FifoQueue"] = "true"
	}
	if d.DeadLetter != "" {
		arn, err := q.arn(ctx, d.DeadLetter)
		if errors.Is(err, queue.ErrUnknownQueue) {
			return fmt.Errorf("%w: queue %s: there is no dead-letter queue %s", queue.ErrInvalid, d.Name, d.DeadLetter)
		}
		if err != nil {
			return err
		}
		policy, err := json.Marshal(map[string]any{"deadLetterTargetArn": arn, "maxReceiveCount": d.MaxReceives})
		if err != nil {
			return fmt.Errorf("queue %s: %w", d.Name, err)
		}
		attributes["RedrivePolicy"] = string(policy)
	}
	_, err := q.client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: q.fullName(d.Name), Attributes: attributes})
	if _, ok := errors.AsType[*types.QueueNameExists](err); ok { // with other attributes: it is left as it is
		return nil
	}
	if err != nil {
		return queueFailure(d.Name, err)
	}
	return nil
}

func (q *Queues) arn(ctx context.Context, name string) (string, error) {
	res, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: q.url(name), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
	})
	if err != nil {
		return "", queueFailure(name, err)
	}
	return res.Attributes[string(types.QueueAttributeNameQueueArn)], nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int(whole(d))) }

// whole rounds up to seconds, so that what is to be hidden a little is hidden.
func whole(d time.Duration) int32 { return int32(math.Ceil(d.Seconds())) }

// Send sends in batches of at most ten messages and 256 KB.
func (q *Queues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	for i, m := range msgs {
		if err := m.Check(name); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	if len(msgs) == 0 {
		return nil
	}
	u := q.url(name)
	partial := &queue.PartialError{}
	for from := 0; from < len(msgs); {
		to, size := from, 0
		for to < len(msgs) && to-from < queue.MaxBatch && (to == from || size+len(msgs[to].Body) <= queue.MaxBody) {
			size += len(msgs[to].Body)
			to++
		}
		q.batch(ctx, name, u, msgs, from, to, partial)
		from = to
	}
	switch len(partial.Failed) {
	case 0:
		return nil
	case len(msgs):
		return partial.Err
	}
	slices.Sort(partial.Failed)
	return partial
}

func (q *Queues) batch(ctx context.Context, name string, u *string, msgs []queue.Message, from, to int, partial *queue.PartialError) {
	in := &sqs.SendMessageBatchInput{QueueUrl: u}
	for i := from; i < to; i++ {
		id, m := strconv.Itoa(i), msgs[i]
		e := types.SendMessageBatchRequestEntry{Id: &id, MessageBody: &m.Body, DelaySeconds: whole(m.Delay)}
		if m.Group != "" {
			e.MessageGroupId, e.MessageDeduplicationId = &m.Group, &m.Dedup
		}
		in.Entries = append(in.Entries, e)
	}
	res, err := q.client.SendMessageBatch(ctx, in)
	if err != nil {
		partial.Err = queueFailure(name, err)
		for i := from; i < to; i++ {
			partial.Failed = append(partial.Failed, i)
		}
		return
	}
	for _, f := range res.Failed {
		i, _ := strconv.Atoi(sdk.ToString(f.Id)) // our own number
		partial.Failed = append(partial.Failed, i)
		partial.Err = fmt.Errorf("%w: %s: %s", queue.ErrUnavailable, sdk.ToString(f.Code), sdk.ToString(f.Message))
	}
}

// Receive answers messages.
func (q *Queues) Receive(ctx context.Context, name string, most int, wait, visibility time.Duration) ([]queue.Received, error) {
	if err := queue.CheckReceive(most, wait, visibility); err != nil {
		return nil, err
	}
	u := q.url(name)
	in := &sqs.ReceiveMessageInput{
		QueueUrl: u, MaxNumberOfMessages: int32(most), WaitTimeSeconds: whole(wait),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameMessageGroupId,
		},
	}
	if visibility > 0 {
		in.VisibilityTimeout = whole(visibility)
	}
	res, err := q.client.ReceiveMessage(ctx, in)
	if err != nil {
		return nil, queueFailure(name, err)
	}
	var out []queue.Received
	for _, m := range res.Messages {
		count, _ := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
		sent, _ := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
		out = append(out, queue.Received{
			ID: sdk.ToString(m.MessageId), Body: sdk.ToString(m.Body), Receipt: sdk.ToString(m.ReceiptHandle), Group: m.Attributes["MessageGroupId"], Receives: count,
			SentAt: time.UnixMilli(sent),
		})
	}
	return out, nil
}

// Delete acknowledges messages, ten at a time.
func (q *Queues) Delete(ctx context.Context, name string, receipts ...string) error {
	if slices.Contains(receipts, "") {
		return fmt.Errorf("%w: empty receipt", queue.ErrInvalid)
	}
	u := q.url(name)
	for chunk := range slices.Chunk(receipts, queue.MaxBatch) {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: u}
		for i, r := range chunk {
			id := strconv.Itoa(i)
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: &id, ReceiptHandle: &r})
		}
		res, err := q.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			return queueFailure(name, err)
		}
		for _, f := range res.Failed {
			if !f.SenderFault { // a receipt that is no longer valid is the sender's
				return fmt.Errorf("%w: %s: %s", queue.ErrUnavailable, sdk.ToString(f.Code), sdk.ToString(f.Message))
			}
		}
	}
	return nil
}

// Extend hides a message for longer, or gives it back.
func (q *Queues) Extend(ctx context.Context, name, receipt string, d time.Duration) error {
	if err := queue.CheckVisibility(d); err != nil {
		return err
	}
	if receipt == "" {
		return fmt.Errorf("%w: empty receipt", queue.ErrInvalid)
	}
	u := q.url(name)
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: u, ReceiptHandle: &receipt, VisibilityTimeout: whole(d)})
	var api smithy.APIError
	if errors.As(err, &api) && stale(api.ErrorCode()) {
		return nil
	}
	if err != nil {
		return queueFailure(name, err)
	}
	return nil
}

func stale(code string) bool {
	for _, c := range []string{"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"} {
		if strings.Contains(code, c) {
			return true
		}
	}
	return false
}

// Depth adds up what waits, is hidden and is delayed.
func (q *Queues) Depth(ctx context.Context, name string) (int, error) {
	u := q.url(name)
	wanted := []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	}
	res, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: u, AttributeNames: wanted})
	if err != nil {
		return 0, queueFailure(name, err)
	}
	total := 0
	for _, a := range wanted {
		n, _ := strconv.Atoi(res.Attributes[string(a)])
		total += n
	}
	return total, nil
}

func queueFailure(name string, err error) error {
	var missing *types.QueueDoesNotExist
	var api smithy.APIError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &missing):
		return fmt.Errorf("%w: %s", queue.ErrUnknownQueue, name)
	case errors.As(err, &api) && strings.Contains(api.ErrorCode(), "NonExistentQueue"):
		return fmt.Errorf("%w: %s", queue.ErrUnknownQueue, name)
	}
	return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
}
