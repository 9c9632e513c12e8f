package infra

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	cf "github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3deployment"
	"github.com/aws/constructs-go/constructs/v10"
	swagger "github.com/swaggo/files/v2"

	"github.com/cordum-serverless/cordum/docs/api"
)

// page is the API page as files.
type page struct {
	folder string
	policy string // its Content-Security-Policy
}

// writePage asks the page's own handler for all its files, so that it is the same here as on the laptop.
func writePage(folder string) (page, error) {
	handler := api.Handler()
	p := page{folder: folder}
	files := []string{"cordum.swagger.json"}
	err := fs.WalkDir(swagger.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) != ".map" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return p, fmt.Errorf("the API page: %w", err)
	}
	for _, name := range files {
		url := "/" + name
		if name == "index.html" {
			url = "/"
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), http.MethodGet, url, nil))
		if answer.Code != http.StatusOK {
			return p, fmt.Errorf("the API page: %s answers %d", url, answer.Code)
		}
		p.policy = answer.Header().Get("Content-Security-Policy")
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return p, err
		}
		if err := os.WriteFile(path, answer.Body.Bytes(), 0o644); err != nil {
			return p, err
		}
	}
	return p, nil
}

// publish copies the page into its bucket at deployment, by CDK's own function, with a role of ours.
func (e *edge) publish(bucket awss3.Bucket, p page, front cf.Distribution) {
	archive := awss3assets.NewAsset(e.stack, new("Page"), &awss3assets.AssetProps{Path: new(p.folder)})
	log := newLog(e.stack, "PublishLog", "/cordum/"+e.p.Stage+"/publish", e.p)
	r := &role{}
	r.allow("Log", "streams of its own log group", []string{"logs:CreateLogStream", "logs:PutLogEvents"}, *log.AttrArn())
	r.allow("Page", "the files of the page, in a bucket that has nothing else", []string{"s3:PutObject", "s3:DeleteObject", "s3:GetObject"},
		*bucket.ArnForObjects(new("docs/*")))
	r.allow("Bucket", "", []string{"s3:ListBucket"}, *bucket.BucketArn())
	r.allow("Archive", "", []string{"s3:GetObject"}, *archive.Bucket().ArnForObjects(archive.S3ObjectKey()))
	r.allow("Front", "", []string{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"},
		"arn:"+partition()+":cloudfront::"+account()+":distribution/"+*front.DistributionId())
	made := r.make(e.stack, "PublishRole", "What copies the API page may do", "lambda.amazonaws.com")
	publish := awss3deployment.NewBucketDeployment(e.stack, new("Publish"), &awss3deployment.BucketDeploymentProps{
		Sources:           &[]awss3deployment.ISource{awss3deployment.Source_Bucket(archive.Bucket(), archive.S3ObjectKey())},
		DestinationBucket: bucket, DestinationKeyPrefix: new("docs"), MemoryLimit: num(512),
		Distribution: front, DistributionPaths: strs("/docs/*"), RetainOnDelete: no, Prune: yes, Role: fixed(e.stack, "PublishRoleOf", made),
		LogGroup: awslogs.LogGroup_FromLogGroupName(e.stack, new("PublishLogName"), log.Ref()),
	})
	explainHelpers(publish, "CDK's own program, in Python, for deployments alone")
}

// explainHelpers says of the functions that CDK has added why they are not like ours.
func explainHelpers(near constructs.Construct, reason string) {
	for _, c := range *awscdk.Stack_Of(near).Node().FindAll(constructs.ConstructOrder_PREORDER) {
		if f, ok := c.(awslambda.CfnFunction); ok {
			explain(f, map[string]any{"runtime": reason})
		}
	}
}
