package rest

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/awslabs/aws-lambda-go-api-proxy/httpadapter"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/outcome"
)

// Lambda makes a handler the function behind an API Gateway HTTP API (payload format 2.0). The function never answers an error: API Gateway
// would make a bare 500 of it.
func Lambda(h http.Handler) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	adapter := httpadapter.NewV2(h)
	return func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		if !repair(&event) {
			return malformed, nil
		}
		answer, err := adapter.ProxyWithContext(context.WithValue(ctx, gatewayKey{}, true), event)
		if err != nil {
			return malformed, nil //nolint:nilerr // the adapter fails only for what it cannot read
		}
		return answer, nil
	}
}

var malformed = events.APIGatewayV2HTTPResponse{
	StatusCode: http.StatusBadRequest,
	Headers:    refusalHeaders(),
	Body:       string(errorBody(outcome.Of(fault.New(fault.Invalid, "malformed request")))),
}

// repair makes of an event what the adapter can read. It reports false for what no client of HTTP can send.
func repair(event *events.APIGatewayV2HTTPRequest) bool {
	// The gateway delivers the path decoded; as it stands, a % in an id would be read as an escape and a ? as the end of the path.
	path := event.RawPath
	if path == "" {
		path = event.RequestContext.HTTP.Path
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	event.RawPath = (&url.URL{Path: path}).EscapedPath()
	event.RawQueryString = strings.ReplaceAll(event.RawQueryString, "#", "%23")
	if strings.ContainsFunc(event.RawQueryString, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	if strings.ContainsFunc(event.RequestContext.HTTP.Method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return false
	}
	if event.IsBase64Encoded {
		body, err := base64.StdEncoding.DecodeString(event.Body)
		if err != nil {
			return false
		}
		event.Body, event.IsBase64Encoded = string(body), false
	}
	return validHost(event.RequestContext.DomainName)
}

// validHost says whether a URL can hold the host; the adapter prints URLs that it cannot read, query included.
func validHost(host string) bool {
	name, port, _ := strings.Cut(host, ":")
	return !strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' }) &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
		})
}
