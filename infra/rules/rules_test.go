package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/infra/rules"
)

// bad is a template with one thing that should not be, for one rule. Each stands beside the same without the defect, where that is short,
// so that the rule is seen to tell them apart.
type bad struct {
	name, rule string
	resources  string // of the template, as JSON members
	want       string // a part of the finding
	good       string // resources without the defect; "" is none
}

const (
	function = `"F":{"Type":"AWS::Lambda::Function","Properties":{"FunctionName":"p-f","Timeout":10,"MemorySize":512}}`
	source   = `"S":{"Type":"AWS::Lambda::EventSourceMapping","Properties":{"FunctionName":{"Ref":"F"},"EventSourceArn":{"Fn::GetAtt":["Q","Arn"]},
		"FunctionResponseTypes":["ReportBatchItemFailures"],"ScalingConfig":{"MaximumConcurrency":5}}}`
)

func role(statement, metadata string) string {
	return fmt.Sprintf(`"R":{"Type":"AWS::IAM::Role","Metadata":{"Reasons":{%s}},"Properties":{"Policies":[{"PolicyDocument":{"Statement":[%s]}}]}}`,
		metadata, statement)
}

func queue(id, properties string) string {
	return fmt.Sprintf(`"%s":{"Type":"AWS::SQS::Queue","Properties":{%s}}`, id, properties)
}

func bucket(properties string) string {
	return fmt.Sprintf(`"B":{"Type":"AWS::S3::Bucket","DeletionPolicy":"Retain","Properties":{%s}}`, properties)
}

func api(methods, rest string) string {
	return fmt.Sprintf(`"A":{"Type":"AWS::ApiGatewayV2::Api","Properties":{"FailOnWarnings":true,"Body":{"paths":{
		"/$default":{"x-amazon-apigateway-any-method":{"isDefaultRoute":true,"x-amazon-apigateway-integration":{"$ref":"#/c/i/f"}}}%s},
		"components":{"x-amazon-apigateway-integrations":{"f":{"uri":{"Fn::Join":["",["arn:",{"Fn::GetAtt":["F","Arn"]},"/invocations"]]}}}}}}}%s`,
		methods, rest)
}

const apiPermission = `,"P":{"Type":"AWS::Lambda::Permission","Properties":{"FunctionName":{"Ref":"F"},"Principal":"apigateway.amazonaws.com",
	"SourceArn":{"Fn::Join":["",["arn:aws:execute-api:",{"Ref":"A"},"/*"]]}}}`

func rule(target string) string {
	return fmt.Sprintf(`"E":{"Type":"AWS::Events::Rule","Properties":{"Targets":[{"Arn":{"Fn::GetAtt":["F","Arn"]}%s}]}}`, target)
}

func alarm(id, metric, dimension, value string) string {
	return fmt.Sprintf(`"%s":{"Type":"AWS::CloudWatch::Alarm","Properties":{"MetricName":%q,"Dimensions":[{"Name":%q,"Value":%q}],
		"AlarmDescription":"x docs/runbook.md#x","TreatMissingData":"missing"}}`, id, metric, dimension, value)
}

func task(container, attributes string) string {
	return fmt.Sprintf(`"T":{"Type":"AWS::ECS::TaskDefinition","Properties":{"ContainerDefinitions":[{%s}]}},
		"G":{"Type":"AWS::ElasticLoadBalancingV2::TargetGroup","Properties":{"TargetGroupAttributes":[%s]}}`, container, attributes)
}

const delay30 = `{"Key":"deregistration_delay.timeout_seconds","Value":"30"}`

func many(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"R%d":{"Type":"AWS::Some::Thing"}`, i)
	}
	return strings.Join(parts, ",")
}

var fixtures = []bad{
	{"any action", "no wildcards without a reason", role(`{"Sid":"All","Effect":"Allow","Action":"dynamodb:*","Resource":"arn:x"}`, ``),
		"wildcard dynamodb:*", role(`{"Sid":"All","Effect":"Allow","Action":"dynamodb:*","Resource":"arn:x"}`, `"All":"because"`)},
	{"any resource", "no wildcards without a reason", role(`{"Sid":"All","Effect":"Allow","Action":["a:B"],"Resource":["*"]}`, `"Other":"because"`), `statement "All" has the wildcard *`, ``},
	{"any object, in a joined ARN", "no wildcards without a reason", role(`{"Effect":"Allow","Action":"s3:GetObject","Resource":{"Fn::Join":["",[{"Ref":"B"},"/*"]]}}`, ``),
		"wildcard ${B}/*", ``},
	{"all but one action", "no wildcards without a reason", role(`{"Sid":"N","Effect":"Allow","NotAction":"a:B","Resource":"arn:x"}`, ``), "all but", ``},
	{"AWS's own policy", "no wildcards without a reason", `"R":{"Type":"AWS::IAM::Role","Properties":{"ManagedPolicyArns":["arn:aws:iam::aws:policy/X"]}}`, "AWS may change", ``},
	{"two functions, one role", "one role a function", `"F":{"Type":"AWS::Lambda::Function","Properties":{"Role":{"Ref":"R"}}},
		"G":{"Type":"AWS::Lambda::Function","Properties":{"Role":{"Ref":"R"}}}`, "shares its role with F",
		`"F":{"Type":"AWS::Lambda::Function","Properties":{"Role":{"Ref":"R"}}},"G":{"Type":"AWS::Lambda::Function","Properties":{"Role":{"Ref":"S"}}}`},
	{"reason for nothing", "one role a function", role(`{"Sid":"A","Effect":"Allow","Action":"a:B","Resource":"arn:x"}`, `"B":"because"`), `a reason for "B"`,
		role(`{"Sid":"A","Effect":"Allow","Action":"a:B","Resource":"arn:x"}`, `"A":"because"`)},
	{"bucket without a block", "no public access", bucket(`"PublicAccessBlockConfiguration":{"BlockPublicAcls":true,"BlockPublicPolicy":true,"IgnorePublicAcls":true}`),
		"RestrictPublicBuckets is not set", bucket(`"PublicAccessBlockConfiguration":{"BlockPublicAcls":true,"BlockPublicPolicy":true,"IgnorePublicAcls":true,"RestrictPublicBuckets":true}`)},
	{"bucket for everybody", "no public access", `"P":{"Type":"AWS::S3::BucketPolicy","Properties":{"PolicyDocument":{"Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"s3:GetObject"}]}}}`,
		"allows s3:GetObject to everybody", ``},
	{"queue for everybody", "no public access", `"P":{"Type":"AWS::SQS::QueuePolicy","Properties":{"PolicyDocument":{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage"}]}}}`,
		"to everybody", ``},
	{"function for any API", "no public access", `"P":{"Type":"AWS::Lambda::Permission","Properties":{"Principal":"apigateway.amazonaws.com"}}`, "more than one source", ``},
	{"function with a URL", "no public access", `"U":{"Type":"AWS::Lambda::Url","Properties":{"AuthType":"NONE"}}`, "URL of its own", ``},
	{"open port", "no public access", `"G":{"Type":"AWS::EC2::SecurityGroup","Properties":{"SecurityGroupIngress":[{"CidrIp":"0.0.0.0/0"}]}}`, "open to the world",
		`"G":{"Type":"AWS::EC2::SecurityGroup","Metadata":{"Reasons":{"public":"because"}},"Properties":{"SecurityGroupIngress":[{"CidrIp":"0.0.0.0/0"}]}}`},
	{"container with an address", "no public access", `"S":{"Type":"AWS::ECS::Service","Properties":{"NetworkConfiguration":{"AwsvpcConfiguration":{"AssignPublicIp":"ENABLED"}}}}`,
		"public addresses", ``},
	{"key in the environment", "no plain secrets", `"F":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"CORDUM_API_KEY":"abc"}}}}`, "CORDUM_API_KEY is in plain sight",
		`"F":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"CORDUM_SECRET":{"Fn::ImportValue":"x"}}}}}`},
	{"password in a container", "no plain secrets", `"T":{"Type":"AWS::ECS::TaskDefinition","Properties":{"ContainerDefinitions":[{"Environment":[{"Name":"PASSWORD","Value":"x"}]}]}}`,
		"PASSWORD is in plain sight", ``},
	{"plain queue", "encryption", queue("Q", ``), "messages are not encrypted", queue("Q", `"SqsManagedSseEnabled":true`)},
	{"plain bucket", "encryption", bucket(``), "objects are not encrypted", ``},
	{"plain topic", "encryption", `"T":{"Type":"AWS::SNS::Topic","Properties":{}}`, "without a reason", ``},
	{"plain listener", "encryption", `"B":{"Type":"AWS::ElasticLoadBalancingV2::LoadBalancer","Properties":{"Scheme":"internet-facing"}},
		"L":{"Type":"AWS::ElasticLoadBalancingV2::Listener","Properties":{"Protocol":"TCP","LoadBalancerArn":{"Ref":"B"}}}`, "plain text",
		`"B":{"Type":"AWS::ElasticLoadBalancingV2::LoadBalancer","Properties":{"Scheme":"internal"}},
		"L":{"Type":"AWS::ElasticLoadBalancingV2::Listener","Properties":{"Protocol":"TCP","LoadBalancerArn":{"Ref":"B"}}}`},
	{"plain viewers", "encryption", `"D":{"Type":"AWS::CloudFront::Distribution","Properties":{"DistributionConfig":{"DefaultCacheBehavior":{"ViewerProtocolPolicy":"allow-all"}}}}`,
		"plain HTTP", ``},
	{"bucket over HTTP", "TLS only", bucket(``), "without TLS", bucket(``) + `,"P":{"Type":"AWS::S3::BucketPolicy","Properties":{"Bucket":{"Ref":"B"},"PolicyDocument":{"Statement":[
		{"Effect":"Deny","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}}}`},
	{"queue over HTTP", "TLS only", queue("Q", ``), "without TLS", ``},
	{"table without a way back", "recovery", `"T":{"Type":"AWS::DynamoDB::Table","DeletionPolicy":"Retain","Properties":{"DeletionProtectionEnabled":true,"TimeToLiveSpecification":{"Enabled":true}}}`,
		"point-in-time", ``},
	{"table that can be deleted", "recovery", `"T":{"Type":"AWS::DynamoDB::Table","Properties":{"PointInTimeRecoverySpecification":{"PointInTimeRecoveryEnabled":true},"TimeToLiveSpecification":{"Enabled":true}}}`,
		"not protected", ``},
	{"table that grows", "recovery", `"T":{"Type":"AWS::DynamoDB::Table","Properties":{}}`, "do not expire", ``},
	{"bucket that goes", "recovery", `"B":{"Type":"AWS::S3::Bucket","DeletionPolicy":"Delete","Properties":{}}`, "goes with its stack", ``},
	{"bucket without versions", "recovery", bucket(``), "versions and a lifecycle", bucket(`"VersioningConfiguration":{"Status":"Enabled"},"LifecycleConfiguration":{"Rules":[{}]}`)},
	{"log for ever", "retention of logs", `"L":{"Type":"AWS::Logs::LogGroup","Properties":{}}`, "for ever", `"L":{"Type":"AWS::Logs::LogGroup","Properties":{"RetentionInDays":30}}`},
	{"function without a log", "retention of logs", function, "no log group", ``},
	{"container without a log", "retention of logs", task(`"Name":"c"`, ``), "container c has no log group", ``},
	{"function without a timeout", "sizes of functions", `"F":{"Type":"AWS::Lambda::Function","Properties":{"MemorySize":128}}`, "no timeout", ``},
	{"function without a trace", "sizes of functions", `"F":{"Type":"AWS::Lambda::Function","Properties":{"MemorySize":128,"Timeout":3,"Runtime":"provided.al2023","Architectures":["arm64"],"LoggingConfig":{"LogFormat":"JSON"}}}`,
		"TracingConfig", `"F":{"Type":"AWS::Lambda::Function","Properties":{"MemorySize":128,"Timeout":3,"Runtime":"provided.al2023","Architectures":["arm64"],"TracingConfig":{"Mode":"Active"},"LoggingConfig":{"LogFormat":"JSON"}}}`},
	{"root", "containers", task(`"StopTimeout":120,"ReadonlyRootFilesystem":true,"User":"0"`, delay30), "is root", task(`"StopTimeout":120,"ReadonlyRootFilesystem":true,"User":"65532"`, delay30)},
	{"no time to leave", "containers", task(`"StopTimeout":30,"ReadonlyRootFilesystem":true,"User":"65532"`, delay30), "killed after 30 s", ``},
	{"too many", "containers", `"S":{"Type":"AWS::ApplicationAutoScaling::ScalableTarget","Properties":{"MaxCapacity":9}}`, "more containers than the 8", ``},
	{"seen again while it runs", "visibility", strings.Join([]string{function, source, queue("Q", `"VisibilityTimeout":59`)}, ","), "hides messages for 59 s, while p-f may take 10 s",
		strings.Join([]string{function, source, queue("Q", `"VisibilityTimeout":60`)}, ",")},
	{"queue from elsewhere", "visibility", strings.Join([]string{function, source}, ","), "not in the app", ``},
	{"whole batches", "partial batches", `"S":{"Type":"AWS::Lambda::EventSourceMapping","Properties":{"ScalingConfig":{"MaximumConcurrency":5}}}`, "fails as a whole", source},
	{"without a limit", "partial batches", `"S":{"Type":"AWS::Lambda::EventSourceMapping","Properties":{"FunctionResponseTypes":["ReportBatchItemFailures"]}}`, "has no limit", ``},
	{"no dead letters", "dead letters", queue("Q", `"QueueName":"q"`), "nowhere to go",
		queue("Q", `"RedrivePolicy":{"deadLetterTargetArn":{"Fn::GetAtt":["D","Arn"]},"maxReceiveCount":3}`) + "," + queue("D", ``)},
	{"FIFO into standard", "dead letters", queue("Q", `"FifoQueue":true,"RedrivePolicy":{"deadLetterTargetArn":{"Fn::GetAtt":["D","Arn"]}}`) + "," + queue("D", ``), "other kind", ``},
	{"schedule without a trace", "dead letters", function + "," + rule(``), "cannot be started", ``},
	{"run without a trace", "dead letters", function + "," + rule(`,"DeadLetterConfig":{"Arn":{"Fn::GetAtt":["D","Arn"]}}`) + "," + queue("D", ``), "a run that fails", ``},
	{"unwatched queue", "alarms", queue("Q", `"QueueName":"p-q"`), "no alarm on ApproximateAgeOfOldestMessage",
		queue("Q", `"QueueName":"p-q"`) + "," + alarm("A", "ApproximateAgeOfOldestMessage", "QueueName", "p-q")},
	{"another queue's alarm", "alarms", queue("Q", `"QueueName":"p-q"`) + "," + alarm("A", "ApproximateAgeOfOldestMessage", "QueueName", "p-r"), "no alarm on", ``},
	{"unwatched dead letters", "alarms", queue("Q", `"QueueName":"p-q","RedrivePolicy":{"deadLetterTargetArn":{"Fn::GetAtt":["D","Arn"]}}`) + "," + queue("D", ``) + "," +
		alarm("A", "ApproximateAgeOfOldestMessage", "QueueName", "p-q"), "no alarm on ApproximateNumberOfMessagesVisible", ``},
	{"unwatched function", "alarms", function + "," + alarm("A", "Errors", "FunctionName", "p-f") + "," + alarm("C", "Duration", "FunctionName", "p-f"), "no alarm on Throttles", ``},
	{"unwatched schedule", "alarms", function + "," + rule(``), "no alarm on Invocations", ``},
	{"alarm without words", "alarms", `"A":{"Type":"AWS::CloudWatch::Alarm","Properties":{"AlarmDescription":"help"}}`, "what to do", ``},
	{"route to nowhere", "routes", function + "," + api(`,"/x":{"get":{"x-amazon-apigateway-integration":{"$ref":"#/c/i/g"}}}`, apiPermission), "get /x leads to no function",
		function + "," + api(``, apiPermission)},
	{"route that is not let in", "routes", function + "," + api(``, ``), "may not start", ``},
	{"function without a cause", "routes", function, "nothing starts it", ``},
	{"no default route", "routes", `"A":{"Type":"AWS::ApiGatewayV2::Api","Properties":{"FailOnWarnings":true,"Body":{"paths":{}}}}`, "no default route", ``},
	{"warnings passed over", "routes", `"A":{"Type":"AWS::ApiGatewayV2::Api","Properties":{"Body":{"paths":{}}}}`, "passed over", ``},
	{"missing queue", "definitions", queue("Q", `"QueueName":"p-inbox"`), "the queue is defined and not made", ``},
	{"queue of its own", "definitions", queue("Q", `"QueueName":"p-mine"`), "made and not defined", ``},
	{"another visibility", "definitions", queue("Q", `"QueueName":"p-inbox","VisibilityTimeout":30`), "VisibilityTimeout is 30, defined is 60", ``},
	{"another way for dead letters", "definitions", queue("Q", `"QueueName":"p-inbox"`), "dead letters go to , defined is dead-letters", ``},
	{"table without indexes", "definitions", `"T":{"Type":"AWS::DynamoDB::Table","Properties":{}}`, "GlobalSecondaryIndexes is <nil>", ``},
	{"classes forgotten", "definitions", bucket(``), "objects of class short are kept for 0 days", ``},
	{"function of its own", "definitions", function, "made and not listed", ``},
	{"function of another size", "definitions", `"F":{"Type":"AWS::Lambda::Function","Properties":{"FunctionName":"p-jobs","Timeout":900,"MemorySize":128}}`, "Timeout is 900", ``},
	{"container of another size", "definitions", `"T":{"Type":"AWS::ECS::TaskDefinition","Properties":{"Cpu":"256","Memory":"512"}}`, "Cpu is 256, defined is 512", ``},
	{"container without its rights", "definitions", `"T":{"Type":"AWS::ECS::TaskDefinition","Properties":{"TaskRoleArn":{"Ref":"R"}}},` + role(``, ``), "sqs:ReceiveMessage is granted and not allowed", ``},
	{"more than is granted", "definitions", `"F":{"Type":"AWS::Lambda::Function","Properties":{"FunctionName":"p-jobs","Role":{"Fn::GetAtt":["R","Arn"]}}},` +
		role(`{"Effect":"Allow","Action":"dynamodb:Scan","Resource":"arn:x"}`, ``), "dynamodb:Scan is allowed and not granted", ``},
	{"too large", "few resources", many(401), "too many", many(400)},
}

func TestEveryRuleFindsItsDefect(t *testing.T) {
	all := map[string]rules.Rule{}
	tried := map[string]bool{}
	for _, r := range rules.All("p-", nil) {
		all[r.Name] = r.Check
	}
	for _, f := range fixtures {
		t.Run(f.rule+"/"+f.name, func(t *testing.T) {
			tried[f.rule] = true
			if found := check(t, all[f.rule], f.resources); !strings.Contains(found, f.want) {
				t.Errorf("want %q, found %s", f.want, found)
			}
			if f.good == "" {
				return
			}
			if found := check(t, all[f.rule], f.good); strings.Contains(found, f.want) {
				t.Errorf("the good one is found as well: %s", found)
			}
		})
	}
	for name := range all {
		if !tried[name] {
			t.Errorf("rule %q has no bad fixture", name)
		}
	}
}

func check(t *testing.T, rule rules.Rule, resources string) string {
	t.Helper()
	s, err := rules.Parse("t", []byte(`{"Resources":{`+resources+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(rule(rules.App{Stacks: []rules.Stack{s}}))
}

func TestLoadRefusesAnEmptyFolder(t *testing.T) {
	if _, err := rules.Load(t.TempDir()); err == nil {
		t.Error("nothing to check is no success")
	}
}
