package infra

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// check says what is missing of that from which the plane is made.
func (from Sources) check(p Params) error {
	if _, err := os.Stat(filepath.Join(from.Root, dockerfile+".dockerignore")); p.Grpc && err != nil {
		return fmt.Errorf("the gRPC service's image: %w", err)
	}
	for _, f := range resources.Functions {
		if _, err := os.Stat(filepath.Join(from.Lambdas, f.Name, "bootstrap")); err != nil {
			return fmt.Errorf("function %s is not built (%w): run `make lambdas`", f.Name, err)
		}
	}
	return nil
}

// addFunction makes a function with its log and its role.
func (c *control) addFunction(f resources.Function) {
	id := camel(f.Name)
	log := newLog(c.stack, id+"Log", c.p.logGroup(f.Name), c.p)
	code := awss3assets.NewAsset(c.stack, new(id+"Code"), &awss3assets.AssetProps{Path: new(filepath.Join(c.lambdas, f.Name))})
	env := environment(c.wheres, f.Grants)
	maps.Copy(env, c.p.packs(f))
	function := awslambda.NewCfnFunction(c.stack, new(id), &awslambda.CfnFunctionProps{
		FunctionName: new(c.p.functionName(f.Name)), Description: new("functions/" + f.Name), Role: c.addRole(f).AttrArn(),
		Code:    &awslambda.CfnFunction_CodeProperty{S3Bucket: code.S3BucketName(), S3Key: code.S3ObjectKey()},
		Runtime: new("provided.al2023"), Handler: new("bootstrap"), Architectures: strs("arm64"),
		MemorySize: num(f.Memory), Timeout: num(int(f.Timeout / time.Second)),
		Environment:   &awslambda.CfnFunction_EnvironmentProperty{Variables: &env},
		TracingConfig: &awslambda.CfnFunction_TracingConfigProperty{Mode: new("Active")},
		LoggingConfig: &awslambda.CfnFunction_LoggingConfigProperty{
			LogFormat: new("JSON"), LogGroup: log.Ref(), ApplicationLogLevel: new("INFO"), SystemLogLevel: new("INFO"),
		},
		RecursiveLoop: new(recursion(f)),
	})
	c.functions[f.Name] = function
	c.logGroups = append(c.logGroups, c.p.logGroup(f.Name))
}

// packs is what a function is told of where packs come from.
func (p Params) packs(f resources.Function) map[string]*string {
	env := map[string]*string{}
	if f.Fetches && p.PackHosts != "" {
		env["CORDUM_MARKETPLACE_HOSTS"] = new(p.PackHosts)
	}
	switch {
	case !f.Setup || p.PackCatalog == "":
	case p.PackCatalog == NoCatalog:
		env["CORDUM_PACK_CATALOG_DEFAULT_DISABLED"] = new("yes")
	default:
		env["CORDUM_PACK_CATALOG_URL"] = new(p.PackCatalog)
	}
	return env
}

// recursion answers "Allow" for a function that may wake itself through its queue: Lambda takes the seventeenth round of the same job for a
// runaway loop, and would dead-letter it. Rounds end by attempts and deadlines.
func recursion(f resources.Function) string {
	if reaches(f.Name, f.Name, map[string]bool{}) {
		return "Allow"
	}
	return "Terminate"
}

// reaches says whether a message of one function may start another, over any number of queues.
func reaches(from, to string, seen map[string]bool) bool {
	if seen[from] {
		return false
	}
	seen[from] = true
	f, _ := resources.FunctionNamed(from)
	for _, g := range f.Grants {
		for _, s := range resources.Sources {
			if g.On.Kind == resources.AQueue && g.On.Name == s.Queue && (s.Function == to || reaches(s.Function, to, seen)) {
				return true
			}
		}
	}
	return false
}

func newLog(s awscdk.Stack, id, name string, p Params) awslogs.CfnLogGroup {
	return awslogs.NewCfnLogGroup(s, new(id), &awslogs.CfnLogGroupProps{LogGroupName: new(name), RetentionInDays: num(p.LogDays)})
}

// addRole makes the role of one function: the shared list's grants, its log, its trace, its queues, and nothing else.
func (c *control) addRole(f resources.Function) awsiam.CfnRole {
	r := &role{}
	r.allow("Log", "streams of its own log group", []string{"logs:CreateLogStream", "logs:PutLogEvents"},
		c.p.arn("logs", "log-group:"+c.p.logGroup(f.Name)+":*"))
	r.allow("Trace", "X-Ray knows no resources", []string{"xray:PutTraceSegments", "xray:PutTelemetryRecords"}, "*")
	for _, s := range resources.SourcesOf(f.Name) {
		r.allow("Source"+camel(s.Queue), "", resources.TakesFromSource, c.p.queueARN(s.Queue))
	}
	if f.Every > 0 {
		r.allow("Missed", "", []string{"sqs:SendMessage"}, *c.missed.QueueArn())
	}
	r.grant(f.Grants, c.wheres.at)
	return r.make(c.stack, camel(f.Name)+"Role", "What functions/"+f.Name+" may do", "lambda.amazonaws.com")
}

func (r *role) make(s awscdk.Stack, id, description, service string) awsiam.CfnRole {
	statements := make([]any, len(r.statements))
	for i, st := range r.statements {
		statements[i] = st.json()
	}
	made := awsiam.NewCfnRole(s, new(id), &awsiam.CfnRoleProps{
		Description: new(description),
		AssumeRolePolicyDocument: map[string]any{"Version": policyVersion, "Statement": []any{map[string]any{
			"Effect": "Allow", "Principal": map[string]any{"Service": service}, "Action": "sts:AssumeRole",
		}}},
		Policies: []any{&awsiam.CfnRole_PolicyProperty{
			PolicyName: new("grants"), PolicyDocument: map[string]any{"Version": policyVersion, "Statement": statements},
		}},
	})
	if r.reasons != nil {
		explain(made, r.reasons)
	}
	return made
}

const policyVersion = "2012-10-17"

// explain writes reasons into a resource's metadata: by statement for policies, by rule for the rest. The rules of infra/rules ask for them.
func explain(r awscdk.CfnResource, reasons map[string]any) { r.AddMetadata(new("Reasons"), reasons) }

// defaultOf answers the resource that a construct is made around.
func defaultOf(c constructs.Construct) awscdk.CfnResource {
	r, _ := c.Node().DefaultChild().(awscdk.CfnResource)
	return r
}
