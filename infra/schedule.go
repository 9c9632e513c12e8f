package infra

import (
	"fmt"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Missed takes the runs of schedules that did not happen or failed: nobody reads it but an operator whom its alarm calls.
const Missed = "missed"

func newMissed(s awscdk.Stack, p Params) awssqs.Queue {
	return awssqs.NewQueue(s, new("Missed"), &awssqs.QueueProps{
		QueueName: new(p.queueName(Missed)), Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: yes, RetentionPeriod: days(14),
	})
}

// addSchedule runs a function at an interval. A run that fails is not tried again: the next one is due.
func (c *control) addSchedule(f resources.Function) {
	id := camel(f.Name)
	function := c.functions[f.Name]
	rule := awsevents.NewCfnRule(c.stack, new(id+"Schedule"), &awsevents.CfnRuleProps{
		Name: new(c.p.functionName(f.Name)), Description: new("runs functions/" + f.Name), ScheduleExpression: new(rate(f.Every)),
		Targets: []any{&awsevents.CfnRule_TargetProperty{
			Id: new(f.Name), Arn: function.AttrArn(),
			DeadLetterConfig: &awsevents.CfnRule_DeadLetterConfigProperty{Arn: c.missed.QueueArn()},
			RetryPolicy: &awsevents.CfnRule_RetryPolicyProperty{
				MaximumEventAgeInSeconds: num(int(max(f.Every, time.Minute) / time.Second)), MaximumRetryAttempts: num(1),
			},
		}},
	})
	c.permit(f, "Schedule", "events.amazonaws.com", *rule.AttrArn())
	c.missed.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: new("Schedule" + id), Actions: strs("sqs:SendMessage"), Resources: &[]*string{c.missed.QueueArn()},
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(new("events.amazonaws.com"), nil)},
		Conditions: &map[string]any{"ArnEquals": map[string]any{"aws:SourceArn": rule.AttrArn()}},
	}))
	awslambda.NewCfnEventInvokeConfig(c.stack, new(id+"Invoke"), &awslambda.CfnEventInvokeConfigProps{
		FunctionName: function.Ref(), Qualifier: new("$LATEST"), MaximumRetryAttempts: num(0), MaximumEventAgeInSeconds: num(60),
		DestinationConfig: &awslambda.CfnEventInvokeConfig_DestinationConfigProperty{
			OnFailure: &awslambda.CfnEventInvokeConfig_OnFailureProperty{Destination: c.missed.QueueArn()},
		},
	})
}

// rate writes an interval as EventBridge does, which knows whole minutes.
func rate(every time.Duration) string {
	if every <= time.Minute {
		return "rate(1 minute)"
	}
	return fmt.Sprintf("rate(%d minutes)", every/time.Minute)
}

// permit lets a service start a function on behalf of one source.
func (c *control) permit(f resources.Function, cause, principal, sourceARN string) {
	awslambda.NewCfnPermission(c.stack, new(camel(f.Name)+cause+"Permission"), &awslambda.CfnPermissionProps{
		Action: new("lambda:InvokeFunction"), FunctionName: c.functions[f.Name].Ref(), Principal: new(principal), SourceArn: new(sourceARN),
	})
}
