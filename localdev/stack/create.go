package stack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// create makes the resources that are missing, as a deployment does.
func (s *Stack) create(ctx context.Context) error {
	if err := s.Platform.Create(ctx, resources.Queues()...); err != nil {
		return err
	}
	if err := s.keepSecret(ctx, s.secret, "CORDUM_API_KEYS", s.cfg.Keys); err != nil {
		return err
	}
	if err := s.keepSecret(ctx, s.auditKey, "CORDUM_AUDIT_KEY", auditSecret); err != nil {
		return err
	}
	return s.putFiles(ctx)
}

// auditSecret is what the local plane's audit trail is signed with. It protects nothing: whoever has the machine has it.
const auditSecret = "the-audit-trail-of-a-plane-on-localstack"

// keepSecret stores a setting in a secret.
func (s *Stack) keepSecret(ctx context.Context, secret, setting, value string) error {
	content, err := json.Marshal(map[string]string{setting: value})
	if err != nil {
		return err
	}
	client, text := secretsmanager.NewFromConfig(s.aws), string(content)
	_, err = client.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &secret, SecretString: &text})
	if _, there := errors.AsType[*secrets.ResourceExistsException](err); there {
		_, err = client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &secret, SecretString: &text})
	}
	if err != nil {
		return fmt.Errorf("stack: secret %s: %w", secret, err)
	}
	return nil
}

// seedBucket holds the files of the deployment, as the bucket of CDK's assets does.
func (s *Stack) seedBucket() string { return s.cfg.Name + "-seed" }

// files are what the plane begins with, by the property of the custom resource that names each.
func (s *Stack) files() map[string][]byte {
	files := map[string][]byte{"Policy": s.cfg.Policy, "Pools": s.cfg.Pools, "Timeouts": s.cfg.Timeouts}
	for name, otherwise := range map[string][]byte{"Policy": seed.Policy, "Pools": seed.Pools, "Timeouts": seed.Timeouts} {
		if files[name] == nil {
			files[name] = otherwise
		}
	}
	if s.cfg.Signature != nil {
		files["Signature"] = s.cfg.Signature
	}
	return files
}

func (s *Stack) putFiles(ctx context.Context) error {
	bucket := s.seedBucket()
	client := s3.NewFromConfig(s.aws, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	if _, there := errors.AsType[*types.BucketAlreadyOwnedByYou](err); err != nil && !there {
		return fmt.Errorf("stack: bucket %s: %w", bucket, err)
	}
	for name, text := range s.files() {
		if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &name, Body: bytes.NewReader(text)}); err != nil {
			return fmt.Errorf("stack: file %s: %w", name, err)
		}
	}
	return nil
}

// setUp runs the functions that a deployment runs, and makes the queues of the pools that there are then.
func (s *Stack) setUp(ctx context.Context) error {
	for _, f := range resources.Functions {
		if !f.Setup {
			continue
		}
		if err := s.deploy(ctx, f.Name); err != nil {
			return err
		}
	}
	documents := &config.Store{Table: s.Platform.Table, Blobs: s.Platform.Blobs}
	d, err := documents.Get(ctx, config.SystemScope, config.DefaultID)
	if err != nil {
		return err
	}
	settings, _, err := documents.Compile(ctx, d, nil) // what is not valid is logged by who reads it
	if err != nil {
		return fmt.Errorf("stack: stored settings: %w", err)
	}
	pools := settings.Topology.Pools()
	for _, w := range s.cfg.Workers {
		pools = append(pools, w.Pool)
	}
	return s.Platform.Queues.Ensure(ctx, resources.Queues(pools...)...)
}

// deploy invokes a function as CloudFormation does for a custom resource: it waits for what the function puts to a URL, not for its answer.
func (s *Stack) deploy(ctx context.Context, function string) error {
	said := make(chan cfn.Response, 1)
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: shutdown, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var res cfn.Response
		if err := json.NewDecoder(r.Body).Decode(&res); err != nil {
			res.Reason = "it said what is no answer to CloudFormation: " + err.Error()
		}
		select {
		case said <- res:
		default:
		}
	})}
	go func() { _ = server.Serve(l) }()   // until the end of this call
	defer func() { _ = server.Close() }() // what it has said is heard
	properties := map[string]any{"ServiceToken": function, "Bucket": s.seedBucket()}
	for name := range s.files() {
		properties[name] = name
	}
	event, err := json.Marshal(cfn.Event{
		RequestType: cfn.RequestCreate, RequestID: uuid.NewString(), ResponseURL: "http://" + l.Addr().String() + "/answer", ResourceType: "Custom::" + function,
		LogicalResourceID: function, StackID: "arn:aws:cloudformation:" + s.cfg.Region + ":" + account + ":stack/" + s.cfg.Name + "/local",
		ResourceProperties: properties,
	})
	if err != nil {
		return err
	}
	if _, err := s.hosts[function].Invoke(ctx, event); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	select {
	case res := <-said:
		if res.Status != cfn.StatusSuccess {
			return fmt.Errorf("stack: the deployment fails: %s: %s", function, cmp.Or(res.Reason, "no reason given"))
		}
		return nil
	case <-time.After(shutdown):
		return fmt.Errorf("stack: the deployment fails: %s did not answer", function)
	}
}
