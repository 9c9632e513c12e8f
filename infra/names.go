package infra

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
)

// Names are told, not generated, wherever another stack, an operator or a worker needs them: so no stack holds on to another's exports, a
// table can be replaced by one restored from a backup, and dashboards, queries and the guide are plain text.

// prefix is what every name of a plane begins with.
func (p Params) prefix() string { return "cordum-" + p.Stage + "-" }

func (p Params) tableName() string {
	if p.Table != "" {
		return p.Table
	}
	return p.prefix() + "table"
}

// bucketName carries the account, since names of buckets are the world's.
func (p Params) bucketName() string { return p.prefix() + account() + "-" + p.Region }

func (p Params) queueName(queue string) string { return p.prefix() + queue }

func (p Params) functionName(function string) string { return p.prefix() + function }

func (p Params) logGroup(function string) string { return "/aws/lambda/" + p.functionName(function) }

func (p Params) containerLogGroup() string { return "/cordum/" + p.Stage + "/grpc" }

func (p Params) topicName() string { return p.prefix() + "alarms" }

// clusterName is the name of the cluster, of its only service, and of the load balancer.
func (p Params) clusterName() string { return p.prefix() + "grpc" }

// queueURL is what the URLs of the plane's queues begin with.
func (p Params) queueURL() string {
	return fmt.Sprintf("https://sqs.%s.%s/%s/%s", p.Region, suffix(), account(), p.prefix())
}

// arn names a resource of the plane's account and region.
func (p Params) arn(service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", partition(), service, p.Region, account(), resource)
}

func (p Params) tableARN() string             { return p.arn("dynamodb", "table/"+p.tableName()) }
func (p Params) queueARN(queue string) string { return p.arn("sqs", p.queueName(queue)) }
func (p Params) topicARN() string             { return p.arn("sns", p.topicName()) }
func (p Params) bucketARN() string            { return "arn:" + partition() + ":s3:::" + p.bucketName() }

// What is known at deployment only. (Asking for it starts CDK's Node, so it is not asked for before it is needed.)
func account() string   { return *awscdk.Aws_ACCOUNT_ID() }
func partition() string { return *awscdk.Aws_PARTITION() }
func suffix() string    { return *awscdk.Aws_URL_SUFFIX() }
