package infra

import (
	"crypto/sha256"
	"encoding/hex"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/jsii-runtime-go"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// seedFiles are the policy, pools and timeouts files, and the policy's signature where it has one, as assets in the bucket of the account's CDK
// bootstrap.
type seedFiles struct {
	policy, pools, timeouts awss3assets.Asset
	signature               awss3assets.Asset // nil: the policy is not signed
	hash                    string
}

// seedFiles uploads them where a function of the list wants them.
func (c *control) seedFiles() seedFiles {
	wanted := false
	for _, f := range resources.Functions {
		wanted = wanted || f.Setup
	}
	if !wanted {
		return seedFiles{}
	}
	asset := func(id, path string) awss3assets.Asset {
		return awss3assets.NewAsset(c.stack, new(id), &awss3assets.AssetProps{Path: new(path)})
	}
	files := seedFiles{
		policy: asset("PolicyFile", c.p.Policy), pools: asset("PoolsFile", c.p.Pools), timeouts: asset("TimeoutsFile", c.p.Timeouts),
		hash: hashOf(c.p.Policy, c.p.Pools, c.p.Timeouts, c.p.PolicySignature),
	}
	if c.p.PolicySignature != "" {
		files.signature = asset("PolicySignature", c.p.PolicySignature)
	}
	return files
}

func (f seedFiles) arns() []string {
	if f.policy == nil {
		return nil
	}
	var arns []string
	for _, a := range []awss3assets.Asset{f.policy, f.pools, f.timeouts, f.signature} {
		if a == nil {
			continue
		}
		arns = append(arns, "arn:"+partition()+":s3:::"+*a.S3BucketName()+"/"+*a.S3ObjectKey())
	}
	return arns
}

// hashOf changes with any of the files. They have been read before: what cannot be read any more counts as empty.
func hashOf(files ...string) string {
	h := sha256.New()
	for _, f := range files {
		text, _ := os.ReadFile(f)
		sum := sha256.Sum256(text)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// addSetup has a deployment run a function when the plane is new and whenever the files have changed.
func (c *control) addSetup(f resources.Function, files seedFiles) {
	properties := map[string]any{
		"Bucket": files.policy.S3BucketName(), "Policy": files.policy.S3ObjectKey(), "Pools": files.pools.S3ObjectKey(),
		"Timeouts": files.timeouts.S3ObjectKey(), "Hash": files.hash,
		"Catalog": c.p.PackCatalog, // the function has it from its environment; it runs again when it is another one
	}
	if files.signature != nil {
		properties["Signature"] = files.signature.S3ObjectKey()
	}
	awscdk.NewCustomResource(c.stack, new(camel(f.Name)+"Run"), &awscdk.CustomResourceProps{
		ServiceToken: c.functions[f.Name].AttrArn(), ResourceType: new("Custom::Cordum" + camel(f.Name)),
		ServiceTimeout: awscdk.Duration_Seconds(jsii.Number(f.Timeout.Seconds() * 2)),
		Properties:     &properties,
	})
}
