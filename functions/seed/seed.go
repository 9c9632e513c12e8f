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
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// resourceID is the same for all deployments of a stack: an update replaces nothing.
const resourceID = "cordum-seed"

// Beginning is what a plane begins with beside the files.
type Beginning struct {
	// Catalog is for a plane without a catalog of packs; nil for none.
	Catalog *marketplace.Catalog
	// Admin is for a plane without an administrator who is a user; nil for nobody.
	Admin *user.First
	Users *user.Users
}

// Handler serves CloudFormation's custom resource. Its properties are Bucket, and the keys of the files in it: Policy, Pools, Timeouts, and Signature
// where the policy is signed. What an operator has changed since stays; a policy file that has changed takes effect. A file that is not valid fails the
// deployment with the reason and changes nothing, as does a policy without the signature that the plane's key wants. Deleting the resource leaves
// everything as it is.
func Handler(d *dispatch.Dispatcher, b Beginning, open func(bucket string) blob.Store) cfn.CustomResourceLambdaFunction {
	return cfn.LambdaWrap(func(ctx context.Context, e cfn.Event) (string, map[string]any, error) {
		if e.RequestType == cfn.RequestDelete {
			return resourceID, nil, nil
		}
		if err := apply(ctx, d, seed.Files{Catalog: b.Catalog}, open, e.ResourceProperties); err != nil {
			return resourceID, nil, err
		}
		made, err := b.Admin.Make(ctx, b.Users)
		if made {
			d.Log.InfoContext(ctx, "first administrator made", "username", b.Admin.Name, "tenant", b.Admin.Tenant)
		}
		return resourceID, nil, err
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
