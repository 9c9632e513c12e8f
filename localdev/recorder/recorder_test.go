package recorder

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// aws stands for an emulator: it takes everything and says as little as a client accepts.
type aws struct {
	mu   sync.Mutex
	came []string
}

func (a *aws) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.ReadAll(r.Body)
	a.mu.Lock()
	a.came = append(a.came, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Amz-Target"))
	a.mu.Unlock()
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB") || strings.HasPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS") {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	}
	if r.Header.Get("X-Amz-Target") != "" {
		_, _ = io.WriteString(w, "{}")
	}
}

func (a *aws) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.came)
}

func open(t *testing.T) (*Recorder, *aws, sdk.Config) {
	t.Helper()
	upstream := &aws{}
	server := httptest.NewServer(upstream)
	r, err := Open(Config{
		Endpoint: server.URL, Names: Names{Table: "plane", Bucket: "plane", QueuePrefix: "plane-", Secret: "plane/env", AuditKey: "plane/audit"},
		Management: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(); server.Close() })
	return r, upstream, sdk.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("jobs", "s", ""), BaseEndpoint: &r.URL,
		RequestChecksumCalculation: sdk.RequestChecksumCalculationWhenSupported,
	}
}

var (
	theTable  = resources.Target{Kind: resources.TheTable}
	theBucket = resources.Target{Kind: resources.TheBucket}
	ctx       = objects("ctx")
)

func objects(prefix string) resources.Target {
	return resources.Target{Kind: resources.Objects, Name: prefix}
}

func queueNamed(name string) resources.Target {
	return resources.Target{Kind: resources.AQueue, Name: name}
}

func other(name string) resources.Target { return resources.Target{Kind: Other, Name: name} }

// TestRequests: what the SDK sends is understood as IAM understands it.
func TestRequests(t *testing.T) {
	s, n := sdk.String, func(s string) string { return "http://localhost/000000000000/" + s }
	key := map[string]ddb.AttributeValue{"pk": &ddb.AttributeValueMemberS{Value: "a"}}
	type uses map[string]resources.Target
	for _, c := range []struct {
		name string
		do   func(ctx context.Context, c sdk.Config) error
		want uses
	}{
		{"get", func(ctx context.Context, c sdk.Config) error {
			_, err := dynamodb.NewFromConfig(c).GetItem(ctx, &dynamodb.GetItemInput{TableName: s("plane"), Key: key})
			return err
		}, uses{"dynamodb:GetItem": theTable}},
		{"get elsewhere", func(ctx context.Context, c sdk.Config) error {
			_, err := dynamodb.NewFromConfig(c).GetItem(ctx, &dynamodb.GetItemInput{TableName: s("another"), Key: key})
			return err
		}, uses{"dynamodb:GetItem": other("another")}},
		{"get by ARN", func(ctx context.Context, c sdk.Config) error {
			arn := "arn:aws:dynamodb:us-east-1:000000000000:table/plane"
			_, err := dynamodb.NewFromConfig(c).GetItem(ctx, &dynamodb.GetItemInput{TableName: &arn, Key: key})
			return err
		}, uses{"dynamodb:GetItem": theTable}},
		{"query", func(ctx context.Context, c sdk.Config) error {
			_, err := dynamodb.NewFromConfig(c).Query(ctx, &dynamodb.QueryInput{TableName: s("plane"), KeyConditionExpression: s("a = b")})
			return err
		}, uses{"dynamodb:Query": theTable}},
		{"query an index", func(ctx context.Context, c sdk.Config) error {
			_, err := dynamodb.NewFromConfig(c).Query(ctx, &dynamodb.QueryInput{
				TableName: s("plane"), IndexName: s("by_due"), KeyConditionExpression: s("a = b"),
			})
			return err
		}, uses{"dynamodb:Query": {Kind: resources.AnIndex, Name: "by_due"}}},
		{"batch", func(ctx context.Context, c sdk.Config) error {
			_, err := dynamodb.NewFromConfig(c).BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
				RequestItems: map[string]ddb.KeysAndAttributes{"plane": {Keys: []map[string]ddb.AttributeValue{key}}},
			})
			return err
		}, uses{"dynamodb:BatchGetItem": theTable}},
		{"transaction", func(ctx context.Context, c sdk.Config) error {
			_, err := dynamodb.NewFromConfig(c).TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []ddb.TransactWriteItem{
				{Put: &ddb.Put{TableName: s("plane"), Item: key}}, {Delete: &ddb.Delete{TableName: s("plane"), Key: key}},
				{Update: &ddb.Update{TableName: s("plane"), Key: key, UpdateExpression: s("SET a = b")}},
				{ConditionCheck: &ddb.ConditionCheck{TableName: s("plane"), Key: key, ConditionExpression: s("a = b")}},
			}})
			return err
		}, uses{
			"dynamodb:PutItem": theTable, "dynamodb:DeleteItem": theTable, "dynamodb:UpdateItem": theTable, "dynamodb:ConditionCheckItem": theTable,
		}},
		{"send a batch", func(ctx context.Context, c sdk.Config) error {
			_, err := sqs.NewFromConfig(c).SendMessageBatch(ctx, &sqs.SendMessageBatchInput{
				QueueUrl: s(n("plane-inbox")), Entries: []sqstypes.SendMessageBatchRequestEntry{{Id: s("0"), MessageBody: s("b")}},
			})
			return err
		}, uses{"sqs:SendMessage": queueNamed("inbox")}},
		{"receive", func(ctx context.Context, c sdk.Config) error {
			_, err := sqs.NewFromConfig(c).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: s(n("plane-events.fifo"))})
			return err
		}, uses{"sqs:ReceiveMessage": queueNamed("events.fifo")}},
		{"another plane's queue", func(ctx context.Context, c sdk.Config) error {
			_, err := sqs.NewFromConfig(c).GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: s("theirs-inbox")})
			return err
		}, uses{"sqs:GetQueueUrl": other("theirs-inbox")}},
		{"put an object with a class", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).PutObject(ctx, &s3.PutObjectInput{Bucket: s("plane"), Key: s("ctx/a/b"), Body: strings.NewReader("x"), Tagging: s("class=short")})
			return err
		}, uses{"s3:PutObject": ctx, "s3:PutObjectTagging": ctx}},
		{"get an object", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).GetObject(ctx, &s3.GetObjectInput{Bucket: s("plane"), Key: s("policy/x")})
			return err
		}, uses{"s3:GetObject": objects("policy")}},
		{"head is get", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).HeadObject(ctx, &s3.HeadObjectInput{Bucket: s("plane"), Key: s("policy/x")})
			return err
		}, uses{"s3:GetObject": objects("policy")}},
		{"delete an object", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s("plane"), Key: s("res/x")})
			return err
		}, uses{"s3:DeleteObject": objects("res")}},
		{"copy an object", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).CopyObject(ctx, &s3.CopyObjectInput{Bucket: s("plane"), Key: s("res/x"), CopySource: s("plane/ctx/y")})
			return err
		}, uses{"s3:PutObject": objects("res"), "s3:GetObject": ctx}},
		{"list", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: s("plane")})
			return err
		}, uses{"s3:ListBucket": theBucket}},
		{"another bucket", func(ctx context.Context, c sdk.Config) error {
			_, err := pathStyle(c).HeadObject(ctx, &s3.HeadObjectInput{Bucket: s("theirs"), Key: s("k")})
			return err
		}, uses{"s3:GetObject": other("theirs/k")}},
		{"secret", func(ctx context.Context, c sdk.Config) error {
			_, err := secretsmanager.NewFromConfig(c).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: s("plane/env")})
			return err
		}, uses{"secretsmanager:GetSecretValue": {Kind: resources.TheSecret}}},
		{"the audit trail's secret", func(ctx context.Context, c sdk.Config) error {
			_, err := secretsmanager.NewFromConfig(c).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: s("plane/audit")})
			return err
		}, uses{"secretsmanager:GetSecretValue": {Kind: resources.TheAuditKey}}},
		{"another secret", func(ctx context.Context, c sdk.Config) error {
			_, err := secretsmanager.NewFromConfig(c).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: s("theirs")})
			return err
		}, uses{"secretsmanager:GetSecretValue": other("theirs")}},
		{"presigned", func(ctx context.Context, c sdk.Config) error {
			req, err := s3.NewPresignClient(pathStyle(c)).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: s("plane"), Key: s("res/x")})
			if err != nil {
				return err
			}
			res, err := http.Get(req.URL)
			if err == nil {
				_ = res.Body.Close()
			}
			return err
		}, uses{"s3:GetObject": objects("res")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, upstream, cfg := open(t)
			if err := c.do(t.Context(), cfg); err != nil {
				if _, ok := errors.AsType[smithy.APIError](err); ok { // the stand-in's answers are thin
					t.Fatal(err)
				}
			}
			got := uses{}
			for _, u := range r.Used() {
				if u.Caller != "jobs" || u.Times != 1 {
					t.Errorf("%+v", u)
				}
				got[u.Action] = u.On
			}
			if !reflect.DeepEqual(got, c.want) || upstream.times() != 1 {
				t.Errorf("understood as %v, want %v; %d requests came", got, c.want, upstream.times())
			}
		})
	}
}

func pathStyle(c sdk.Config) *s3.Client {
	return s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
}

func TestManagement(t *testing.T) {
	r, upstream, _ := open(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/local/@connections/abc%3D", strings.NewReader("x"))
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=broadcast/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host, Signature=0")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK || upstream.times() != 0 {
		t.Fatal(res, err, upstream.times())
	}
	_ = res.Body.Close()
	want := Use{"broadcast", "execute-api:ManageConnections", resources.Target{Kind: resources.Connections}, 1}
	if got := r.Used(); len(got) != 1 || got[0] != want {
		t.Errorf("%v", got)
	}
}

func TestFaults(t *testing.T) {
	get := func(c sdk.Config) error {
		_, err := dynamodb.NewFromConfig(c).GetItem(context.Background(), &dynamodb.GetItemInput{
			TableName: sdk.String("plane"), Key: map[string]ddb.AttributeValue{"pk": &ddb.AttributeValueMemberS{Value: "mine"}},
		}, func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })
		return err
	}
	t.Run("throttle", func(t *testing.T) {
		r, upstream, cfg := open(t)
		struck, lift := r.Inject(Fault{Caller: "jobs", Actions: []string{"dynamodb:*"}, On: theTable, Throttle: true})
		err := get(cfg)
		if _, ok := errors.AsType[*ddb.ProvisionedThroughputExceededException](err); !ok || upstream.times() != 0 || struck() != 1 {
			t.Errorf("%v, %d requests came", err, upstream.times())
		}
		lift()
		if err := get(cfg); err != nil {
			t.Error(err)
		}
	})
	t.Run("somebody else", func(t *testing.T) {
		r, _, cfg := open(t)
		for _, f := range []Fault{
			{Caller: "inbox"}, {Actions: []string{"sqs:*"}}, {Actions: []string{"dynamodb:PutItem"}}, {On: ctx}, {Contains: "yours"},
		} {
			f.Fail = true
			r.Inject(f)
		}
		if err := get(cfg); err != nil {
			t.Error(err)
		}
	})
	t.Run("fail twice, every second", func(t *testing.T) {
		r, _, cfg := open(t)
		r.Inject(Fault{Fail: true, Times: 2, Every: 2, Contains: "mine"})
		var got []bool
		for range 7 {
			got = append(got, get(cfg) == nil)
		}
		if want := []bool{true, false, true, false, true, true, true}; !reflect.DeepEqual(got, want) {
			t.Errorf("%v", got)
		}
	})
	t.Run("lose", func(t *testing.T) {
		r, upstream, cfg := open(t)
		r.Inject(Fault{Lose: true, Times: 1})
		if err := get(cfg); err == nil || upstream.times() != 1 {
			t.Errorf("%v, %d requests came", err, upstream.times())
		}
	})
	t.Run("delay, before and after", func(t *testing.T) {
		r, upstream, cfg := open(t)
		var before, after int
		r.Inject(Fault{Delay: 50 * time.Millisecond, Before: func() { before = upstream.times() + 1 }, After: func() { after = upstream.times() }})
		began := time.Now()
		if err := get(cfg); err != nil || time.Since(began) < 50*time.Millisecond {
			t.Error(err, time.Since(began))
		}
		time.Sleep(20 * time.Millisecond)
		if before != 1 || after != 1 {
			t.Error(before, after)
		}
	})
	t.Run("other services", func(t *testing.T) {
		r, _, cfg := open(t)
		r.Inject(Fault{Throttle: true})
		once := func(o *sqs.Options) { o.RetryMaxAttempts = 1 }
		_, err := sqs.NewFromConfig(cfg).SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: sdk.String("http://x/0/plane-q"), MessageBody: sdk.String("b")}, once)
		if _, ok := errors.AsType[*sqstypes.RequestThrottled](err); !ok {
			t.Error(err)
		}
		_, err = pathStyle(cfg).GetObject(t.Context(), &s3.GetObjectInput{Bucket: sdk.String("plane"), Key: sdk.String("ctx/x")},
			func(o *s3.Options) { o.RetryMaxAttempts = 1 })
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "SlowDown" {
			t.Error(err)
		}
	})
}

func TestCompare(t *testing.T) {
	function := func(grants ...resources.Grant) []resources.Function {
		return []resources.Function{{Name: "jobs", Grants: grants}}
	}
	allow := func(on resources.Target, why string, actions ...string) resources.Grant {
		return resources.Grant{Actions: actions, On: on, Unproven: why}
	}
	use := func(action string, on resources.Target) Use { return Use{"jobs", action, on, 1} }
	pools, deliveries := resources.Target{Kind: resources.AllPools}, resources.Target{Kind: resources.AllDeliveries}
	for _, c := range []struct {
		name      string
		functions []resources.Function
		container resources.ContainerDef
		used      []Use
		want      []string
	}{
		{"all used", function(allow(theTable, "", "dynamodb:GetItem")), resources.ContainerDef{}, []Use{use("dynamodb:GetItem", theTable)}, nil},
		{"not granted", function(), resources.ContainerDef{}, []Use{use("dynamodb:GetItem", theTable)},
			[]string{"jobs: dynamodb:GetItem on table: " + string(NotGranted)}},
		{"another resource", function(allow(ctx, "", "s3:GetObject")), resources.ContainerDef{}, []Use{use("s3:GetObject", ctx), use("s3:GetObject", objects("res"))},
			[]string{"jobs: s3:GetObject on objects res: " + string(NotGranted)}},
		{"never used", function(allow(theTable, "", "dynamodb:GetItem", "dynamodb:PutItem")), resources.ContainerDef{}, []Use{use("dynamodb:GetItem", theTable)},
			[]string{"jobs: dynamodb:PutItem on table: " + string(NeverUsed)}},
		{"unproven", function(allow(theBucket, "why", "s3:ListBucket")), resources.ContainerDef{}, nil, nil},
		{"unproven, used", function(allow(theBucket, "why", "s3:ListBucket")), resources.ContainerDef{}, []Use{use("s3:ListBucket", theBucket)},
			[]string{"jobs: s3:ListBucket on bucket: " + string(ProvenAfter) + ` ("why")`}},
		{"unproven and proven", function(allow(theBucket, "why", "s3:ListBucket"), allow(theBucket, "", "s3:ListBucket")), resources.ContainerDef{},
			[]Use{use("s3:ListBucket", theBucket)}, nil},
		{"all pools", function(allow(pools, "", "sqs:SendMessage"), allow(deliveries, "", "sqs:SendMessage")), resources.ContainerDef{},
			[]Use{use("sqs:SendMessage", queueNamed("pool-a")), use("sqs:SendMessage", queueNamed("pool-b")), use("sqs:SendMessage", queueNamed("delivery-3"))}, nil},
		{"no pool", function(allow(pools, "", "sqs:SendMessage")), resources.ContainerDef{}, []Use{use("sqs:SendMessage", queueNamed("inbox"))}, []string{
			"jobs: sqs:SendMessage on queue inbox: " + string(NotGranted), "jobs: sqs:SendMessage on pools: " + string(NeverUsed),
		}},
		{"the container, and others", nil, resources.ContainerDef{Grants: []resources.Grant{allow(theTable, "", "dynamodb:GetItem")}},
			[]Use{{"grpc", "dynamodb:GetItem", theTable, 1}, {"grpc", "dynamodb:Scan", theTable, 1}, {"demo-worker", "dynamodb:Scan", theTable, 1}},
			[]string{"grpc: dynamodb:Scan on table: " + string(NotGranted)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range Compare(c.functions, c.container, c.used) {
				got = append(got, f.String())
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}
