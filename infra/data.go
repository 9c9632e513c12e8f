package infra

import (
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

type data struct {
	stack awscdk.Stack
	// secrets are the ARNs of what functions read as their environment.
	secrets []string
	// auditKey is the ARN of the secret that signs the audit trail: the sealer's alone.
	auditKey string
	// edgeSecret is the ARN of the one that CloudFront proves itself with; "" without the edge.
	edgeSecret string
}

func newData(s awscdk.Stack, p Params) data {
	if p.Table == "" {
		addTable(s, p)
	}
	addBucket(s, p)
	addQueues(s, p)
	d := data{stack: s, secrets: []string{addSecret(s, p)}, auditKey: addAuditKey(s)}
	if p.Edge {
		d.edgeSecret = addEdgeSecret(s)
		d.secrets = append(d.secrets, d.edgeSecret)
	}
	return d
}

func addTable(s awscdk.Stack, p Params) {
	table := awsdynamodb.NewTable(s, new("Table"), &awsdynamodb.TableProps{
		TableName: new(p.tableName()), PartitionKey: text(resources.PK), SortKey: text(resources.SK), TimeToLiveAttribute: new(resources.Expires),
		BillingMode:                      awsdynamodb.BillingMode_PAY_PER_REQUEST,
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: yes},
		DeletionProtection:               yes,
		RemovalPolicy:                    awscdk.RemovalPolicy_RETAIN,
	})
	for _, i := range resources.Indexes {
		table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
			IndexName: new(string(i.Name)), PartitionKey: text(i.PK), SortKey: text(i.SK), ProjectionType: awsdynamodb.ProjectionType_KEYS_ONLY,
		})
	}
}

func text(attribute string) *awsdynamodb.Attribute {
	return &awsdynamodb.Attribute{Name: new(attribute), Type: awsdynamodb.AttributeType_STRING}
}

// oldVersions is how long an object that was overwritten or deleted can be had back.
const oldVersions = 7

func addBucket(s awscdk.Stack, p Params) {
	rules := []*awss3.LifecycleRule{{
		Id: new("leftovers"), AbortIncompleteMultipartUploadAfter: days(1), NoncurrentVersionExpiration: days(oldVersions),
		ExpiredObjectDeleteMarker: yes,
	}}
	for _, c := range resources.Classes {
		rules = append(rules, &awss3.LifecycleRule{
			Id: new("class-" + c.Name), TagFilters: &map[string]any{resources.ClassTag: c.Name}, Expiration: duration(c.Keep),
		})
	}
	var cors *[]*awss3.CorsRule
	if origins := p.allowedOrigins(); origins != "" {
		cors = &[]*awss3.CorsRule{direct(strings.Split(origins, ","))}
	}
	awss3.NewBucket(s, new("Bucket"), &awss3.BucketProps{
		Cors: cors, BucketName: new(p.bucketName()), Encryption: awss3.BucketEncryption_S3_MANAGED, EnforceSSL: yes, Versioned: yes,
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(), ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		LifecycleRules: &rules, RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
}

// direct lets the pages of these origins upload and download by presigned URLs, as they may call the API. The headers are those that an upload must
// have: package blob.
func direct(origins []string) *awss3.CorsRule {
	return &awss3.CorsRule{
		AllowedOrigins: strs(origins...), AllowedMethods: &[]awss3.HttpMethods{awss3.HttpMethods_GET, awss3.HttpMethods_HEAD, awss3.HttpMethods_PUT},
		AllowedHeaders: strs("content-type", "if-none-match", "x-amz-*"), MaxAge: num(int(time.Hour / time.Second)),
	}
}

// addQueues makes the queues. They are not retained: a pool that leaves the pools file takes its queue along, and a message lost is a wake-up
// lost, which the sweep makes good.
func addQueues(s awscdk.Stack, p Params) {
	made := map[string]awssqs.Queue{}
	for _, def := range resources.Queues(p.PoolNames...) {
		made[def.Name] = awssqs.NewQueue(s, new("Queue"+camel(def.Name)), queueProps(p, def, made))
	}
}

// queueProps asks that dead-letter queues come before those that name them.
func queueProps(p Params, def queue.Def, made map[string]awssqs.Queue) *awssqs.QueueProps {
	props := &awssqs.QueueProps{
		QueueName: new(p.queueName(def.Name)), Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: yes,
		VisibilityTimeout: duration(def.Visibility), RetentionPeriod: duration(def.Retention), RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	}
	if def.FIFO {
		// groups do not slow each other down; deduplication ids are a group's own
		props.Fifo = yes
		props.FifoThroughputLimit = awssqs.FifoThroughputLimit_PER_MESSAGE_GROUP_ID
		props.DeduplicationScope = awssqs.DeduplicationScope_MESSAGE_GROUP
	}
	if def.DeadLetter != "" {
		props.DeadLetterQueue = &awssqs.DeadLetterQueue{MaxReceiveCount: num(def.MaxReceives), Queue: made[def.DeadLetter]}
	}
	return props
}

// addSecret makes the secret whose members the functions read as if they were their environment. The first key, of role admin, is generated;
// an operator adds more.
func addSecret(s awscdk.Stack, p Params) string {
	secret := awssecretsmanager.NewSecret(s, new("Secret"), &awssecretsmanager.SecretProps{
		Description: new("API keys and signing keys of a Cordum plane: a JSON object of setting to value"),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: new(`{"CORDUM_API_KEYS":""}`), GenerateStringKey: new("CORDUM_API_KEY"), ExcludePunctuation: yes,
			PasswordLength: num(40),
		},
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
	output(s, "FirstKey", "aws secretsmanager get-secret-value --region "+p.Region+" --secret-id "+*secret.SecretArn()+
		" --query SecretString --output text", "shows the first API key, CORDUM_API_KEY")
	return *secret.SecretArn()
}

// addAuditKey makes the secret that the sealer signs with. It outlives the plane: what was signed can be verified by who knows the public key, but
// only who has the secret can go on.
func addAuditKey(s awscdk.Stack) string {
	secret := awssecretsmanager.NewSecret(s, new("AuditKey"), &awssecretsmanager.SecretProps{
		Description: new("What the sealer of a Cordum plane's audit trail signs with"),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: new("{}"), GenerateStringKey: new("CORDUM_AUDIT_KEY"), ExcludePunctuation: yes, PasswordLength: num(64),
		},
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
	return *secret.SecretArn()
}

// edgeToken is the member of the edge's secret: what proves that a request came through CloudFront.
const edgeToken = "CORDUM_EDGE_TOKEN" //nolint:gosec // a name

func addEdgeSecret(s awscdk.Stack) string {
	secret := awssecretsmanager.NewSecret(s, new("EdgeSecret"), &awssecretsmanager.SecretProps{
		Description: new("What CloudFront proves itself with to a Cordum plane; CloudFront gets it with a deployment"),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: new("{}"), GenerateStringKey: new(edgeToken), ExcludePunctuation: yes, PasswordLength: num(40),
		},
	})
	return *secret.SecretArn()
}

func days(n int) awscdk.Duration { return awscdk.Duration_Days(num(n)) }

func duration(d time.Duration) awscdk.Duration {
	if d%(24*time.Hour) == 0 {
		return days(int(d / (24 * time.Hour)))
	}
	return awscdk.Duration_Seconds(num(int(d / time.Second)))
}
