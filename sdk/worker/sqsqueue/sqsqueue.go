// Package sqsqueue has the queues of a polling worker on Amazon SQS: a pool's queue, and the plane's inbox.
//
// The credentials need, on the pool's queue, sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility; on the inbox, sqs:SendMessage.
package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Queue is one SQS queue. All methods may be called at once.
type Queue struct {
	client *sqs.Client
	url    string
}

var (
	_ worker.Queue  = (*Queue)(nil)
	_ worker.Sender = (*Queue)(nil)
)

const (
	// wait is how long a receive waits for the first message: the longest that SQS offers.
	wait = 20 * time.Second
	// batch and batchBytes are the most messages of one call, and the most bytes of their bodies.
	batch      = 10
	batchBytes = 256 * 1024
	// tries is how often what SQS could not do for a part of a batch is tried, tryPause the rest before the second time; it doubles.
	tries    = 3
	tryPause = 100 * time.Millisecond
)

// New makes a queue of an address, "https://sqs.eu-central-1.amazonaws.com/123456789012/cordum-pool-main". Region, credentials and retries are
// those of cfg; options change the client, such as its endpoint.
func New(cfg aws.Config, url string, options ...func(*sqs.Options)) *Queue {
	return &Queue{client: sqs.NewFromConfig(cfg, options...), url: url}
}

// Receive answers up to most messages, waiting up to 20 seconds for the first.
func (q *Queue) Receive(ctx context.Context, most int, hidden time.Duration) ([]worker.Message, error) {
	res, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: int32(min(most, batch)), WaitTimeSeconds: seconds(wait), VisibilityTimeout: seconds(hidden),
	})
	if err != nil {
		return nil, fmt.Errorf("sqsqueue: receive: %w", err)
	}
	messages := make([]worker.Message, len(res.Messages))
	for i, m := range res.Messages {
		messages[i] = worker.Message{ID: aws.ToString(m.MessageId), Body: aws.ToString(m.Body), Receipt: aws.ToString(m.ReceiptHandle)}
	}
	return messages, nil
}

// Delete takes messages out. A receipt that is no longer valid is passed over: somebody else has the message now.
func (q *Queue) Delete(ctx context.Context, messages ...worker.Message) error {
	return inBatches(ctx, "delete", messages, func(worker.Message) int { return 0 }, func(ctx context.Context, ms []worker.Message) ([]types.BatchResultErrorEntry, error) {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
		for i, m := range ms {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: position(i), ReceiptHandle: aws.String(m.Receipt)})
		}
		res, err := q.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(res.Failed, func(f types.BatchResultErrorEntry) bool { return f.SenderFault }), nil
	})
}

// Return hides a message for a time from now on, at most 12 hours; 0 gives it back. A receipt that is no longer valid is passed over.
func (q *Queue) Return(ctx context.Context, m worker.Message, hidden time.Duration) error {
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &q.url, ReceiptHandle: &m.Receipt, VisibilityTimeout: seconds(hidden),
	})
	if err != nil && !stale(err) {
		return fmt.Errorf("sqsqueue: return: %w", err)
	}
	return nil
}

// stale says whether SQS refuses because the message is not in the caller's hands any more.
func stale(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"}, api.ErrorCode())
}

// Send stores bodies, in batches that SQS takes. What SQS could not store of a batch is tried again; when some of it is refused in the end, the
// error says how many.
func (q *Queue) Send(ctx context.Context, bodies ...string) error {
	return inBatches(ctx, "send", bodies, func(b string) int { return len(b) }, func(ctx context.Context, bs []string) ([]types.BatchResultErrorEntry, error) {
		in := &sqs.SendMessageBatchInput{QueueUrl: &q.url}
		for i, b := range bs {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: position(i), MessageBody: &b})
		}
		res, err := q.client.SendMessageBatch(ctx, in)
		if err != nil {
			return nil, err
		}
		return res.Failed, nil
	})
}

// inBatches does something with all items, as many at once as SQS takes, and again with those that failed.
func inBatches[T any](
	ctx context.Context, what string, items []T, size func(T) int, do func(context.Context, []T) ([]types.BatchResultErrorEntry, error),
) error {
	var failed error
	for rest := items; len(rest) > 0; {
		n, bytes := 0, 0
		for n < len(rest) && n < batch && (n == 0 || bytes+size(rest[n]) <= batchBytes) {
			bytes += size(rest[n])
			n++
		}
		if err := again(ctx, what, rest[:n], do); err != nil {
			failed = errors.Join(failed, err)
		}
		rest = rest[n:]
	}
	return failed
}

// again does one batch, and what failed of it through no fault of ours a few times more.
func again[T any](ctx context.Context, what string, items []T, do func(context.Context, []T) ([]types.BatchResultErrorEntry, error)) error {
	for try := 1; ; try++ {
		failed, err := do(ctx, items)
		if err != nil {
			return fmt.Errorf("sqsqueue: %s: %w", what, err)
		}
		if len(failed) == 0 {
			return nil
		}
		hopeless := slices.IndexFunc(failed, func(f types.BatchResultErrorEntry) bool { return f.SenderFault })
		if hopeless >= 0 || try == tries {
			f := failed[max(hopeless, 0)]
			return fmt.Errorf("sqsqueue: %s: %d of %d messages failed, one with %s: %s", what, len(failed), len(items), aws.ToString(f.Code), aws.ToString(f.Message))
		}
		var left []T
		for _, f := range failed {
			if i, err := strconv.Atoi(aws.ToString(f.Id)); err == nil && i >= 0 && i < len(items) {
				left = append(left, items[i])
			}
		}
		items = left
		select {
		case <-time.After(tryPause << (try - 1)):
		case <-ctx.Done():
			return fmt.Errorf("sqsqueue: %s: %d messages failed: %w", what, len(left), ctx.Err())
		}
	}
}

func position(i int) *string { return aws.String(strconv.Itoa(i)) }

// seconds rounds up, so that what is to be hidden a little is hidden.
func seconds(d time.Duration) int32 { return int32(math.Ceil(d.Seconds())) }
