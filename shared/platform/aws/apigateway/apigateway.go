// Package apigateway is the adapter of clients' connections to API Gateway's management API.
package apigateway

import (
	"context"
	"errors"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"

	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// Connections are the connections of one WebSocket API.
type Connections struct {
	client *apigatewaymanagementapi.Client
}

var _ push.Connections = (*Connections)(nil)

// New makes the adapter. The endpoint is the API's stage: CORDUM_PUSH_ENDPOINT.
func New(cfg sdk.Config, endpoint string) (*Connections, error) {
	if endpoint == "" {
		return nil, errors.New("CORDUM_PUSH_ENDPOINT must be the stage of the plane's WebSocket API")
	}
	return &Connections{client: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = &endpoint })}, nil
}

// Post sends a frame.
func (c *Connections) Post(ctx context.Context, connection string, frame []byte) error {
	if len(frame) > push.MaxFrame {
		return push.ErrTooLarge
	}
	_, err := c.client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &connection, Data: frame})
	return pushFailure(err)
}

// Drop closes a connection.
func (c *Connections) Drop(ctx context.Context, connection string, _ push.Reason) error {
	_, err := c.client.DeleteConnection(ctx, &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &connection})
	if err = pushFailure(err); errors.Is(err, push.ErrGone) {
		return nil
	}
	return err
}

func pushFailure(err error) error {
	var gone *types.GoneException
	var large *types.PayloadTooLargeException
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &gone):
		return push.ErrGone
	case errors.As(err, &large):
		return push.ErrTooLarge
	}
	return fmt.Errorf("%w: %w", push.ErrUnavailable, err)
}
