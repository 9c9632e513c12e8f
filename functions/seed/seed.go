// Package seed is the function that a deployment runs: it stores the policy, pools and timeouts of the deployment's files, once.
package seed

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/cfn"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/marketplace"
	"github.com/cordum-serverless/cordum/shared/core/seed"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// resourceID is the same for all deployments of a stack: an update replaces nothing.
const resourceID = "cordum-seed"

// Handler serves CloudFormation's custom resource. Its properties are Bucket, and the keys of the files in it: Policy, Pools, Timeouts, and Signature
// where the policy is signed. A plane without a catalog of packs gets this one, unless it is nil. What an operator has changed since stays; a policy
// file that has changed takes effect. A file that is not valid fails the deployment with the reason and changes nothing, as does a policy without the
// signature that the plane's key wants. Deleting the resource leaves everything as it is.
func Handler(d *dispatch.Dispatcher, catalog *marketplace.Catalog, open func(bucket string) blob.Store) cfn.CustomResourceLambdaFunction {
	return cfn.LambdaWrap(func(ctx context.Context, e cfn.Event) (string, map[string]any, error) {
		if e.RequestType == cfn.RequestDelete {
			return resourceID, nil, nil
		}
		return resourceID, nil, apply(ctx, d, seed.Files{Catalog: catalog}, open, e.ResourceProperties)
	})
}

func apply(ctx context.Context, d *dispatch.Dispatcher, files seed.Files, open func(bucket string) blob.Store, properties map[string]any) error {
	text := func(name string) string {
		s, _ := properties[name].(string)
		return s
	}
	bucket := open(text("Bucket"))
	for _, f := range []struct {
		property string
		into     *[]byte
	}{{"Policy", &files.Policy}, {"Pools", &files.Pools}, {"Timeouts", &files.Timeouts}, {"Signature", &files.Signature}} {
		if f.into == &files.Signature && text(f.property) == "" {
			continue // it is not signed
		}
		content, _, err := bucket.Get(ctx, text(f.property), 0)
		if err != nil {
			return fmt.Errorf("%s file: %w", f.property, err)
		}
		*f.into = content
	}
	pools, err := seed.Apply(ctx, &config.Store{Table: d.Jobs.Table, Blobs: d.Jobs.Blobs}, d.Policy, files, d.Clock.Now())
	if err != nil {
		return err
	}
	d.Log.InfoContext(ctx, "seeded", "pools", pools)
	return nil
}
