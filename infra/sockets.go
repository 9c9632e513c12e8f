package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// socketStage is the stage of the WebSocket API, and so the only path that it has.
const socketStage = "live"

func newSocketAPI(s awscdk.Stack, p Params) awsapigatewayv2.CfnApi {
	return awsapigatewayv2.NewCfnApi(s, new("Sockets"), &awsapigatewayv2.CfnApiProps{
		Name: new(p.prefix() + "stream"), Description: new("Live streams of a Cordum plane"), ProtocolType: new("WEBSOCKET"),
		RouteSelectionExpression: new("$request.body.action"), // clients say nothing that is heard: all goes to $default
	})
}

// addSockets puts a function behind all three routes. There is no access log: it would need a role that is the whole account's. The function
// logs who opens a stream.
func (c *control) addSockets(f resources.Function) {
	api := c.sockets.Ref()
	integration := awsapigatewayv2.NewCfnIntegration(c.stack, new("SocketsIntegration"), &awsapigatewayv2.CfnIntegrationProps{
		ApiId: api, IntegrationType: new("AWS_PROXY"), IntegrationUri: new(c.invocations(f.Name)),
	})
	for _, key := range []string{"connect", "disconnect", "default"} {
		awsapigatewayv2.NewCfnRoute(c.stack, new("Sockets"+camel(key)), &awsapigatewayv2.CfnRouteProps{
			ApiId: api, RouteKey: new("$" + key), AuthorizationType: new("NONE"), Target: new("integrations/" + *integration.Ref()),
		})
	}
	awsapigatewayv2.NewCfnStage(c.stack, new("SocketsStage"), &awsapigatewayv2.CfnStageProps{
		ApiId: api, StageName: new(socketStage), AutoDeploy: yes, DefaultRouteSettings: c.throttle(),
	})
	c.permit(f, "Sockets", "apigateway.amazonaws.com", c.p.arn("execute-api", *api+"/*"))
}

func (c *control) throttle() *awsapigatewayv2.CfnStage_RouteSettingsProperty {
	return &awsapigatewayv2.CfnStage_RouteSettingsProperty{
		ThrottlingRateLimit: num(c.p.RequestRate), ThrottlingBurstLimit: num(2 * c.p.RequestRate),
	}
}

// invocations is how API Gateway spells a function.
func (c *control) invocations(function string) string {
	return "arn:" + partition() + ":apigateway:" + c.p.Region + ":lambda:path/2015-03-31/functions/" + *c.functions[function].AttrArn() + "/invocations"
}
