// Package stream is the function behind the WebSocket API: it lets clients in, remembers what each listens to, and forgets those that leave. What
// they say is passed over.
package stream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
)

type service struct {
	d    *dispatch.Dispatcher
	edge rest.Config
}

// Handler is the function of all three routes of the API: $connect, $disconnect and $default. Its answer to $connect is the handshake's: an error
// in the JSON shape of the REST routes, or 200 with the subprotocol.
func Handler(d *dispatch.Dispatcher, edge rest.Config) func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	s := &service{d: d, edge: edge}
	return func(ctx context.Context, e events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		var echo string
		var err error
		h := headers(e)
		requestID := edge.RequestID(h["x-request-id"])
		switch e.RequestContext.EventType {
		case "CONNECT":
			echo, err = s.connect(ctx, e, h, requestID)
		case "DISCONNECT":
			err = d.Streams.Connections.Close(ctx, e.RequestContext.ConnectionID, d.Clock.Now())
		}
		if err != nil {
			status, headers, body := rest.Refusal(err, requestID)
			return events.APIGatewayProxyResponse{StatusCode: status, Body: string(body), Headers: headers}, nil
		}
		res := events.APIGatewayProxyResponse{StatusCode: http.StatusOK}
		if echo != "" {
			res.Headers = map[string]string{"Sec-WebSocket-Protocol": echo}
		}
		return res, nil
	}
}

// connect admits a client with the same code as the REST routes and records its connection before the handshake ends, so that it gets every
// event from its first moment on. It answers the subprotocol that the handshake names, "" for none.
func (s *service) connect(
	ctx context.Context, e events.APIGatewayWebsocketProxyRequest, h map[string][]string, requestID string,
) (echo string, err error) {
	if err := s.edge.Gate.Origins().Check(first(h["origin"]), first(h["host"])); err != nil {
		return "", err
	}
	jobID, one := e.QueryStringParameters[stream.JobParameter]
	key, echo := stream.Subprotocol(strings.Join(h["sec-websocket-protocol"], ","))
	id, err := s.edge.Gate.Admit(ctx, request(e, h, key, s.address(e, h), requestID), stream.Rule(one))
	if err != nil {
		return "", err
	}
	now := s.d.Clock.Now()
	c := event.Connection{
		ID: e.RequestContext.ConnectionID, Tenant: id.Tenant, Job: jobID, KeyID: id.KeyID, Role: string(id.Role), OpenedBy: id.OpenedBy, User: id.User,
		OpenedAt: now.UnixMicro(),
	}
	if !id.Expires.IsZero() {
		c.Expires = id.Expires.UnixMicro()
	}
	if c.From, c.Asked, err = stream.Since(e.QueryStringParameters, one); err != nil {
		return "", err
	}
	switch {
	case one && jobID == "":
		return "", fault.New(fault.Invalid, "job id is required")
	case one:
		if _, err := s.d.Jobs.Load(ctx, id.Tenant, jobID, now); err != nil {
			return "", err
		}
	case id.CrossTenant:
		c.Tenant = event.Everybody
	}
	firstOne, err := s.d.Streams.Connections.Open(ctx, c, now)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "streams are not available")
	}
	if firstOne { // until everybody who sends events knows that somebody listens
		time.Sleep(event.PresenceAge)
	}
	if err := s.stillGood(ctx, c); err != nil {
		return "", errors.Join(err, s.d.Streams.Connections.Close(ctx, c.ID, now))
	}
	if c.From != 0 {
		if err := s.d.Events.CatchUp(ctx, c.ID); err != nil {
			return "", fault.Wrap(fault.Unavailable, err, "streams are not available")
		}
	}
	s.d.Log.InfoContext(ctx, "stream opened", "connection", c.ID, "tenant", c.Tenant, "key", c.KeyID, "job", c.Job)
	if s.edge.Gate.HidesKey() && stream.HasKey(echo) {
		return "", nil
	}
	return echo, nil
}

// stillGood looks at the credential once more when the connection is written: who ends it from now on finds the connection.
func (s *service) stillGood(ctx context.Context, c event.Connection) error {
	good, err := stream.Review(s.edge.Gate)(auth.Anew(ctx), c)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "streams are not available")
	}
	if !good {
		return fault.New(fault.Unauthenticated, "unauthorized")
	}
	return nil
}

func (s *service) address(e events.APIGatewayWebsocketProxyRequest, h map[string][]string) string {
	return s.edge.Gate.Address(e.RequestContext.Identity.SourceIP, h[strings.ToLower(auth.EdgeHeader)], h[strings.ToLower(auth.ViewerHeader)])
}

// request is what the handshake says about its caller. Headers win over the subprotocol and the query.
func request(e events.APIGatewayWebsocketProxyRequest, h map[string][]string, key, address, id string) auth.Request {
	r := auth.Request{
		Authorization: h["authorization"], APIKey: h["x-api-key"], Tenant: h["x-tenant-id"], Principal: h["x-principal-id"],
		Address: address, ID: id,
	}
	if key != "" && strings.TrimSpace(strings.Join(r.APIKey, "")) == "" {
		r.APIKey = []string{key}
	}
	for _, name := range []string{"tenant_id", "tenant"} {
		if v := strings.TrimSpace(e.QueryStringParameters[name]); v != "" && len(r.Tenant) == 0 {
			r.Tenant = []string{v}
		}
	}
	return r
}

// headers answers the request's headers by their names in lower case.
func headers(e events.APIGatewayWebsocketProxyRequest) map[string][]string {
	h := map[string][]string{}
	for name, values := range e.MultiValueHeaders {
		h[strings.ToLower(name)] = append(h[strings.ToLower(name)], values...)
	}
	for name, value := range e.Headers {
		if low := strings.ToLower(name); len(h[low]) == 0 {
			h[low] = []string{value}
		}
	}
	return h
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
