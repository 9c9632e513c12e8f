package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// control is the stack of all functions and of what starts them.
type control struct {
	stack     awscdk.Stack
	p         Params
	lambdas   string
	wheres    wheres
	sockets   awsapigatewayv2.CfnApi
	http      awsapigatewayv2.CfnApi
	missed    awssqs.Queue
	functions map[string]awslambda.CfnFunction
	logGroups []string
}

func newControl(s awscdk.Stack, p Params, from Sources, d data) *control {
	c := &control{stack: s, p: p, lambdas: from.Lambdas, functions: map[string]awslambda.CfnFunction{}}
	c.sockets = newSocketAPI(s, p)
	files := c.seedFiles()
	c.wheres = wheres{p: p, secrets: d.secrets, auditKey: d.auditKey, socketAPI: *c.sockets.Ref(), seedFiles: files.arns()}
	c.missed = newMissed(s, p)
	for _, f := range resources.Functions {
		c.addFunction(f)
	}
	for _, f := range resources.Functions {
		c.addCause(f, files)
	}
	c.http = c.addHTTP()
	c.addAlarms()
	c.addDashboard()
	c.addQuery()
	c.addOutputs()
	return c
}

// addCause lets happen what starts a function. Routes come with the API's document.
func (c *control) addCause(f resources.Function, files seedFiles) {
	for _, source := range resources.SourcesOf(f.Name) {
		c.addSource(f, source)
	}
	switch {
	case f.Sockets:
		c.addSockets(f)
	case f.Every > 0:
		c.addSchedule(f)
	case f.Setup:
		c.addSetup(f, files)
	}
}

func (c *control) addSource(f resources.Function, source resources.Source) {
	awslambda.NewCfnEventSourceMapping(c.stack, new("Source"+camel(source.Queue)), &awslambda.CfnEventSourceMappingProps{
		FunctionName: c.functions[f.Name].Ref(), EventSourceArn: new(c.p.queueARN(source.Queue)), BatchSize: num(source.Batch),
		FunctionResponseTypes: strs("ReportBatchItemFailures"),
		// a backlog must not take the account's concurrency away from the routes
		ScalingConfig: &awslambda.CfnEventSourceMapping_ScalingConfigProperty{MaximumConcurrency: num(c.p.SourceConcurrency)},
	})
}

// addQuery saves a query that follows one job through the logs of everything.
func (c *control) addQuery() {
	groups := c.logGroups
	if c.p.Grpc {
		groups = append(groups, c.p.containerLogGroup())
	}
	awslogs.NewCfnQueryDefinition(c.stack, new("JobsWay"), &awslogs.CfnQueryDefinitionProps{
		Name: new("cordum/" + c.p.Stage + "/a job's way"), LogGroupNames: strs(groups...),
		QueryString: new("fields @timestamp, @log, level, msg, error, requestId, @message\n| filter @message like /JOB_ID/\n| sort @timestamp asc\n| limit 1000"),
	})
}

func (c *control) addOutputs() {
	p := c.p
	output(c.stack, "ApiUrl", p.httpURL(c.http), "REST, without the edge")
	output(c.stack, "StreamUrl", "wss://"+p.apiHost(*c.sockets.Ref())+"/"+socketStage, "WebSocket, without the edge")
	output(c.stack, "QueueUrls", p.queueURL(), "what the URLs of all queues begin with")
	output(c.stack, "InboxUrl", p.queueURL()+resources.Inbox, "where workers with AWS credentials send their results")
	output(c.stack, "DashboardUrl", "https://"+p.Region+".console.aws.amazon.com/cloudwatch/home?region="+p.Region+"#dashboards/dashboard/"+p.dashboardName(),
		"how the plane is")
}

func (p Params) apiHost(id string) string { return id + ".execute-api." + p.Region + "." + suffix() }

func (p Params) httpURL(api awsapigatewayv2.CfnApi) string { return "https://" + p.apiHost(*api.Ref()) }
