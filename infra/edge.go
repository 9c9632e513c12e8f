package infra

import (
	_ "embed"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	cf "github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	origins "github.com/aws/aws-cdk-go/awscdk/v2/awscloudfrontorigins"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awswafv2"

	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
)

// Functions that CloudFront runs on requests.
var (
	//go:embed viewer/rest.js
	restCode string
	//go:embed viewer/stream.js
	streamCode string
	//go:embed viewer/docs.js
	docsCode string
)

// StreamCode leads the two paths of streams to the one path that a WebSocket API has.
func StreamCode() string {
	return viewed(strings.ReplaceAll(streamCode, "JOB_PARAMETER", stream.JobParameter))
}

// viewed has the code tell the plane who its client is.
func viewed(code string) string {
	return strings.ReplaceAll(code, "VIEWER_HEADER", strings.ToLower(auth.ViewerHeader))
}

// edge is the stack of the front.
type edge struct {
	stack awscdk.Stack
	p     Params
	proof string // the secret that a request carries which came through here
}

// newEdge puts REST, the two streams and the API page on one host. Nothing is cached but the page. The APIs' own URLs stay open, so what comes
// through here proves it: with a header that CloudFront alone can set, whose value CloudFormation reads from a secret.
func newEdge(s awscdk.Stack, p Params, from Sources, d data, c *control) error {
	e := &edge{s, p, d.edgeSecret}
	page, err := writePage(from.Docs)
	if err != nil {
		return err
	}
	bucket := awss3.NewBucket(s, new("Docs"), &awss3.BucketProps{
		Encryption: awss3.BucketEncryption_S3_MANAGED, EnforceSSL: yes, BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	explain(defaultOf(bucket), map[string]any{"recovery": "the page is made anew with every deployment"})
	sockets := e.sockets(c)
	behaviors := map[string]*cf.BehaviorOptions{
		stream.Path: sockets, "/api/v1/jobs/*/stream": sockets, "/docs*": e.docs(bucket, page),
	}
	props := &cf.DistributionProps{
		Comment: new("Cordum " + p.Stage), DefaultBehavior: e.rest(c), AdditionalBehaviors: &behaviors, HttpVersion: cf.HttpVersion_HTTP2_AND_3,
		MinimumProtocolVersion: cf.SecurityPolicyProtocol_TLS_V1_2_2021, PriceClass: cf.PriceClass_PRICE_CLASS_ALL, WebAclId: e.webACL(),
	}
	if p.Domain != "" {
		props.DomainNames = strs(p.Domain)
		props.Certificate = awscertificatemanager.Certificate_FromCertificateArn(s, new("Certificate"), new(p.Certificate))
	}
	distribution := cf.NewDistribution(s, new("Front"), props)
	e.publish(bucket, page, distribution)
	e.addAddress(distribution)
	return nil
}

// behavior passes everything on as it came, but for the host, which is the origin's own.
func behavior(origin cf.IOrigin, functions ...*cf.FunctionAssociation) *cf.BehaviorOptions {
	return &cf.BehaviorOptions{
		Origin: origin, AllowedMethods: cf.AllowedMethods_ALLOW_ALL(), CachePolicy: cf.CachePolicy_CACHING_DISABLED(),
		OriginRequestPolicy:  cf.OriginRequestPolicy_ALL_VIEWER_EXCEPT_HOST_HEADER(),
		ViewerProtocolPolicy: cf.ViewerProtocolPolicy_HTTPS_ONLY, // a redirect would come after the key was shown
		FunctionAssociations: &functions,
	}
}

func (e *edge) rest(c *control) *cf.BehaviorOptions {
	return behavior(e.origin(e.p.apiHost(*c.http.Ref()), ""), e.viewer("RestViewer", viewed(restCode)))
}

func (e *edge) sockets(c *control) *cf.BehaviorOptions {
	return behavior(e.origin(e.p.apiHost(*c.sockets.Ref()), "/"+socketStage), e.viewer("StreamViewer", StreamCode()))
}

func (e *edge) origin(host, path string) cf.IOrigin {
	props := &origins.HttpOriginProps{
		ProtocolPolicy: cf.OriginProtocolPolicy_HTTPS_ONLY, CustomHeaders: &map[string]*string{
			auth.EdgeHeader: new("{{resolve:secretsmanager:" + e.proof + ":SecretString:" + edgeToken + "}}"),
		},
	}
	if path != "" {
		props.OriginPath = new(path)
	}
	return origins.NewHttpOrigin(new(host), props)
}

func (e *edge) viewer(id, code string) *cf.FunctionAssociation {
	return &cf.FunctionAssociation{
		EventType: cf.FunctionEventType_VIEWER_REQUEST,
		Function: cf.NewFunction(e.stack, new(id), &cf.FunctionProps{
			FunctionName: new(e.p.prefix() + strings.ToLower(id)), Code: cf.FunctionCode_FromInline(new(code)), Runtime: cf.FunctionRuntime_JS_2_0(),
		}),
	}
}

func (e *edge) docs(bucket awss3.Bucket, page page) *cf.BehaviorOptions {
	headers := cf.NewResponseHeadersPolicy(e.stack, new("DocsHeaders"), &cf.ResponseHeadersPolicyProps{
		ResponseHeadersPolicyName: new(e.p.prefix() + "docs"),
		SecurityHeadersBehavior: &cf.ResponseSecurityHeadersBehavior{
			ContentSecurityPolicy: &cf.ResponseHeadersContentSecurityPolicy{ContentSecurityPolicy: new(page.policy), Override: yes},
			ContentTypeOptions:    &cf.ResponseHeadersContentTypeOptions{Override: yes},
		},
	})
	return &cf.BehaviorOptions{
		Origin:               origins.S3BucketOrigin_WithOriginAccessControl(bucket, nil),
		AllowedMethods:       cf.AllowedMethods_ALLOW_GET_HEAD(),
		CachePolicy:          cf.CachePolicy_CACHING_OPTIMIZED(),
		ViewerProtocolPolicy: cf.ViewerProtocolPolicy_REDIRECT_TO_HTTPS, Compress: yes, ResponseHeadersPolicy: headers,
		FunctionAssociations: &[]*cf.FunctionAssociation{e.viewer("DocsViewer", docsCode)},
	}
}

// webACL answers the web ACL in front, nil for none. Bodies are not inspected: a policy or a prompt may well look like an attack.
func (e *edge) webACL() *string {
	switch e.p.WAF {
	case "":
		return nil
	case WAFCreate:
	default:
		return new(e.p.WAF)
	}
	seen := func(name string) *awswafv2.CfnWebACL_VisibilityConfigProperty {
		return &awswafv2.CfnWebACL_VisibilityConfigProperty{
			CloudWatchMetricsEnabled: yes, SampledRequestsEnabled: no, MetricName: new(e.p.prefix() + name),
		}
	}
	managed := func(priority int, name string) *awswafv2.CfnWebACL_RuleProperty {
		return &awswafv2.CfnWebACL_RuleProperty{
			Name: new(name), Priority: num(priority), VisibilityConfig: seen(name),
			OverrideAction: &awswafv2.CfnWebACL_OverrideActionProperty{None: map[string]any{}},
			Statement: &awswafv2.CfnWebACL_StatementProperty{ManagedRuleGroupStatement: &awswafv2.CfnWebACL_ManagedRuleGroupStatementProperty{
				VendorName: new("AWS"), Name: new(name),
			}},
		}
	}
	made := awswafv2.NewCfnWebACL(e.stack, new("Waf"), &awswafv2.CfnWebACLProps{
		Name: new(e.p.prefix() + "front"), Scope: new("CLOUDFRONT"), VisibilityConfig: seen("front"),
		DefaultAction: &awswafv2.CfnWebACL_DefaultActionProperty{Allow: &awswafv2.CfnWebACL_AllowActionProperty{}},
		Rules: []any{
			managed(0, "AWSManagedRulesAmazonIpReputationList"),
			&awswafv2.CfnWebACL_RuleProperty{
				Name: new("rate"), Priority: num(1), VisibilityConfig: seen("rate"),
				Action: &awswafv2.CfnWebACL_RuleActionProperty{Block: &awswafv2.CfnWebACL_BlockActionProperty{}},
				Statement: &awswafv2.CfnWebACL_StatementProperty{RateBasedStatement: &awswafv2.CfnWebACL_RateBasedStatementProperty{
					AggregateKeyType: new("IP"), Limit: num(e.p.RequestRate * 60), EvaluationWindowSec: num(60),
				}},
			},
		},
	})
	return made.AttrArn()
}

func (e *edge) addAddress(d cf.Distribution) {
	host := *d.DistributionDomainName()
	if e.p.Domain != "" {
		for _, kind := range []string{"A", "AAAA"} {
			if e.p.Zone == "" {
				break
			}
			awsroute53.NewCfnRecordSet(e.stack, new("Record"+kind), &awsroute53.CfnRecordSetProps{
				HostedZoneId: new(e.p.Zone), Name: new(e.p.Domain), Type: new(kind), AliasTarget: &awsroute53.CfnRecordSet_AliasTargetProperty{
					DnsName: new(host), HostedZoneId: new(cloudFrontZone),
				},
			})
		}
		output(e.stack, "FrontName", host, "what the name "+e.p.Domain+" must lead to")
		host = e.p.Domain
	}
	output(e.stack, "Url", "https://"+host, "the plane: REST under /api/v1/")
	output(e.stack, "StreamUrl", "wss://"+host+stream.Path, "its streams")
	output(e.stack, "DocsUrl", "https://"+host+"/docs/", "the API page")
}

// cloudFrontZone is the hosted zone of all distributions.
const cloudFrontZone = "Z2FDTNDATAQYW2"
