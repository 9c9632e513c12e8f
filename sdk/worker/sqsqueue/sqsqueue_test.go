package sqsqueue_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/sqsqueue"
)

const address = "https://sqs.eu-central-1.amazonaws.com/123456789012/cordum-pool-main"

// service is SQS's side of the wire: what it was asked, and what it answers.
type service struct {
	t     *testing.T
	calls []call
	// answer answers a call; nil is an empty answer.
	answer func(call) (status int, body any)
}

type call struct {
	action string
	in     struct {
		QueueURL                                                string `json:"QueueUrl"`
		MaxNumberOfMessages, WaitTimeSeconds, VisibilityTimeout int
		ReceiptHandle                                           string
		Entries                                                 []struct{ ID, ReceiptHandle, MessageBody string }
	}
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	c := call{action: strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &c.in); err != nil {
		return nil, err
	}
	if c.in.QueueURL != address || !strings.Contains(r.Header.Get("Authorization"), "Credential=AKID/") {
		s.t.Errorf("%s to %q with %q", c.action, c.in.QueueURL, r.Header.Get("Authorization"))
	}
	s.calls = append(s.calls, c)
	status, body := 200, any(map[string]any{})
	if s.answer != nil {
		status, body = s.answer(c)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: r,
	}, nil
}

func (s *service) queue() *sqsqueue.Queue {
	return sqsqueue.New(aws.Config{
		Region: "eu-central-1", HTTPClient: &http.Client{Transport: s},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		}),
	}, address)
}

// sent answers a SendMessageBatch: all stored but those whose body is in failed, which maps a body to whether it is the sender's fault.
func sent(c call, failed map[string]bool) (int, any) {
	var ok, bad []map[string]any
	for _, e := range c.in.Entries {
		if fault, is := failed[e.MessageBody]; is {
			bad = append(bad, map[string]any{"Id": e.ID, "Code": "X", "Message": "no", "SenderFault": fault})
			continue
		}
		sum := md5.Sum([]byte(e.MessageBody))
		ok = append(ok, map[string]any{"Id": e.ID, "MessageId": "m" + e.ID, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
	}
	return 200, map[string]any{"Successful": ok, "Failed": bad}
}

func bodies(c call) (all []string) {
	for _, e := range c.in.Entries {
		all = append(all, e.MessageBody)
	}
	return all
}

func TestReceive(t *testing.T) {
	s := &service{t: t, answer: func(call) (int, any) {
		sum := md5.Sum([]byte("{}"))
		return 200, map[string]any{"Messages": []map[string]string{
			{"MessageId": "m1", "Body": "{}", "ReceiptHandle": "r1", "MD5OfBody": hex.EncodeToString(sum[:])},
		}}
	}}
	got, err := s.queue().Receive(t.Context(), 7, 1500*time.Millisecond)
	if err != nil || !slices.Equal(got, []worker.Message{{ID: "m1", Body: "{}", Receipt: "r1"}}) {
		t.Errorf("%v, %v", got, err)
	}
	c := s.calls[0]
	if c.action != "ReceiveMessage" || c.in.MaxNumberOfMessages != 7 || c.in.WaitTimeSeconds != 20 || c.in.VisibilityTimeout != 2 {
		t.Errorf("%+v", c)
	}
	s.answer = nil
	if got, err := s.queue().Receive(t.Context(), 1, time.Minute); err != nil || len(got) != 0 {
		t.Errorf("an empty queue: %v, %v", got, err)
	}
}

func TestReturn(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		kind   string
		fails  bool
	}{
		"given back": {200, "", false}, "deleted since": {400, "com.amazonaws.sqs#ReceiptHandleIsInvalid", false},
		"visible since": {400, "com.amazonaws.sqs#MessageNotInflight", false}, "forbidden": {403, "AccessDeniedException", true},
	} {
		s := &service{t: t, answer: func(call) (int, any) { return c.status, map[string]string{"__type": c.kind, "message": "no"} }}
		err := s.queue().Return(t.Context(), worker.Message{Receipt: "r"}, 0)
		if (err != nil) != c.fails || s.calls[0].in.ReceiptHandle != "r" || s.calls[0].in.VisibilityTimeout != 0 {
			t.Errorf("%s: %v, %+v", name, err, s.calls[0])
		}
	}
}

func TestSendInBatches(t *testing.T) {
	s := &service{t: t, answer: func(c call) (int, any) { return sent(c, nil) }}
	var all []string
	for i := range 23 {
		all = append(all, fmt.Sprint("body ", i))
	}
	if err := s.queue().Send(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range s.calls {
		got = append(got, bodies(c)...)
	}
	if len(s.calls) != 3 || !slices.Equal(got, all) {
		t.Errorf("%d calls of %v", len(s.calls), got)
	}
	s.calls = nil
	large := strings.Repeat("x", 100_000)
	if err := s.queue().Send(t.Context(), large, large, large); err != nil || len(s.calls) != 2 {
		t.Errorf("%v after %d calls: what one call cannot carry takes two", err, len(s.calls))
	}
	if err := s.queue().Send(t.Context()); err != nil || len(s.calls) != 2 {
		t.Errorf("nothing to send: %v", err)
	}
}

func TestAPartOfABatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := &service{t: t, answer: func(c call) (int, any) {
			tries++
			if tries < 3 {
				return sent(c, map[string]bool{"b": false})
			}
			return sent(c, nil)
		}}
		if err := s.queue().Send(t.Context(), "a", "b", "c"); err != nil {
			t.Error(err)
		}
		if len(s.calls) != 3 || !slices.Equal(bodies(s.calls[0]), []string{"a", "b", "c"}) || !slices.Equal(bodies(s.calls[2]), []string{"b"}) {
			t.Errorf("%+v", s.calls)
		}
		for name, fault := range map[string]bool{"the service's fault": false, "ours": true} {
			s := &service{t: t, answer: func(c call) (int, any) { return sent(c, map[string]bool{"b": fault}) }}
			err := s.queue().Send(t.Context(), "a", "b")
			want := 3
			if fault {
				want = 1 // again would be of no use
			}
			if err == nil || len(s.calls) != want {
				t.Errorf("%s: %v after %d calls", name, err, len(s.calls))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		s = &service{t: t, answer: func(c call) (int, any) { cancel(); return sent(c, map[string]bool{"a": false}) }}
		if err := s.queue().Send(ctx, "a"); err == nil || len(s.calls) != 1 {
			t.Errorf("after its context's end: %v, %d calls", err, len(s.calls))
		}
	})
}

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := true
		s := &service{t: t, answer: func(c call) (int, any) {
			return 200, map[string]any{"Failed": []map[string]any{{"Id": c.in.Entries[len(c.in.Entries)-1].ID, "Code": "ReceiptHandleIsInvalid", "SenderFault": fault}}}
		}}
		ms := []worker.Message{{Receipt: "a"}, {Receipt: "b"}}
		if err := s.queue().Delete(t.Context(), ms...); err != nil || len(s.calls) != 1 {
			t.Errorf("a receipt that is no longer valid: %v, %d calls", err, len(s.calls))
		}
		fault = false
		if err := s.queue().Delete(t.Context(), ms...); err == nil || len(s.calls) != 4 || s.calls[2].in.Entries[0].ReceiptHandle != "b" {
			t.Errorf("one that SQS could not delete: %v, %+v", err, s.calls)
		}
	})
}

func TestTheServiceIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{t: t, answer: func(call) (int, any) { return 403, map[string]string{"__type": "AccessDenied", "message": "no"} }}
		q := s.queue()
		if _, err := q.Receive(t.Context(), 1, time.Second); err == nil {
			t.Error("receive")
		}
		if err := q.Send(t.Context(), "a"); err == nil {
			t.Error("send")
		}
		if err := q.Delete(t.Context(), worker.Message{Receipt: "r"}); err == nil {
			t.Error("delete")
		}
	})
}
