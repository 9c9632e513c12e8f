// Package fallback answers what no other function does: unknown paths, wrong methods, preflights, and routes that are not built yet.
package fallback

import (
	"context"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// Handler is the function behind the gateway's $default route.
func Handler(cfg rest.Config) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	return rest.Lambda(rest.New(cfg))
}
