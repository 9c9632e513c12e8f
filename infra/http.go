package infra

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"

	"github.com/cordum-serverless/cordum/docs/api"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// addHTTP makes the HTTP API from the contract's document.
func (c *control) addHTTP() awsapigatewayv2.CfnApi {
	document, err := openAPI(c.p.prefix()+"api", api.Document, routes.All(), served, c.invocations)
	if err != nil {
		panic(err) // the document and the table are both made from proto/; a test compares them
	}
	made := awsapigatewayv2.NewCfnApi(c.stack, new("Http"), &awsapigatewayv2.CfnApiProps{Body: document, FailOnWarnings: yes})
	log := newLog(c.stack, "HttpLog", "/aws/vendedlogs/cordum/"+c.p.Stage+"/http", c.p)
	awsapigatewayv2.NewCfnStage(c.stack, new("HttpStage"), &awsapigatewayv2.CfnStageProps{
		ApiId: made.Ref(), StageName: new("$default"), AutoDeploy: yes, DefaultRouteSettings: c.throttle(),
		AccessLogSettings: &awsapigatewayv2.CfnStage_AccessLogSettingsProperty{DestinationArn: log.AttrArn(), Format: new(accessLog())},
	})
	for _, f := range resources.Functions {
		if f.Service != "" || f.Default {
			c.permit(f, "Http", "apigateway.amazonaws.com", c.p.arn("execute-api", *made.Ref()+"/*"))
		}
	}
	return made
}

// accessLog is one JSON line a request. It names no header and no query: keys may be in both.
func accessLog() string {
	line, _ := json.Marshal(map[string]string{ // strings alone
		"requestId": "$context.requestId", "ip": "$context.identity.sourceIp", "userAgent": "$context.identity.userAgent",
		"time": "$context.requestTime", "method": "$context.httpMethod", "path": "$context.path", "route": "$context.routeKey",
		"status": "$context.status", "bytes": "$context.responseLength", "latency": "$context.responseLatency",
		"integrationLatency": "$context.integrationLatency", "integrationStatus": "$context.integrationStatus",
		"error": "$context.integrationErrorMessage",
	})
	return string(line)
}

// served answers the function that answers the routes of a service; of "", the function of all else.
func served(service string) string { return resources.Serves(service).Name }

// openAPI turns the contract's Swagger 2 document into what an HTTP API imports without a warning: OpenAPI 3, with an integration for every
// operation and no schemas. Which function answers comes from the table of routes, as do greedy parameters, for which Swagger has no word.
// A service that no function has goes to the function of all else, explicitly. It fails when document and table differ.
func openAPI(title string, swagger []byte, table []routes.Route, serves, uri func(string) string) (map[string]any, error) {
	var doc struct {
		Info  struct{ Version, Description string }
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string
		}
	}
	if err := json.Unmarshal(swagger, &doc); err != nil {
		return nil, fmt.Errorf("the contract's document: %w", err)
	}
	paths, integrations := map[string]any{}, map[string]any{}
	integrate := func(function string) map[string]any {
		integrations[function] = map[string]any{
			"type": "aws_proxy", "httpMethod": "POST", "payloadFormatVersion": "2.0", "uri": uri(function),
		}
		return map[string]any{"$ref": "#/components/x-amazon-apigateway-integrations/" + function}
	}
	for _, r := range table {
		plain, imported, parameters := pathOf(r.Path)
		op, ok := doc.Paths[plain][lower(r.Method)]
		if !ok {
			return nil, fmt.Errorf("%s %s is not in the contract's document", r.Method, r.Path)
		}
		delete(doc.Paths[plain], lower(r.Method))
		operation := map[string]any{
			"operationId": op.OperationID, "responses": map[string]any{"default": map[string]any{"description": "see docs/api"}},
			"x-amazon-apigateway-integration": integrate(serves(r.Service())),
		}
		if len(parameters) > 0 {
			operation["parameters"] = parameters
		}
		at, ok := paths[imported].(map[string]any)
		if !ok {
			at = map[string]any{}
			paths[imported] = at
		}
		if at[lower(r.Method)] != nil {
			return nil, fmt.Errorf("%s %s: API Gateway has this path already", r.Method, r.Path)
		}
		at[lower(r.Method)] = operation
	}
	for path, rest := range doc.Paths {
		for method := range rest {
			return nil, fmt.Errorf("%s %s of the contract's document is not in the table of routes", method, path)
		}
	}
	paths["/$default"] = map[string]any{"x-amazon-apigateway-any-method": map[string]any{
		"isDefaultRoute": true, "responses": map[string]any{"default": map[string]any{"description": "unknown paths and methods, preflights"}},
		"x-amazon-apigateway-integration": integrate(serves("")),
	}}
	return map[string]any{
		"openapi": "3.0.1", "info": map[string]any{"title": title, "version": doc.Info.Version, "description": doc.Info.Description},
		"paths": paths, "components": map[string]any{"x-amazon-apigateway-integrations": integrations},
		"x-amazon-apigateway-importexport-version": "1.0",
	}, nil
}
