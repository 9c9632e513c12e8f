package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
	"github.com/coder/websocket"

	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
)

// function lets everybody in, and tells the ids of those who come and go.
type function chan string

func (f function) Invoke(_ context.Context, event []byte) ([]byte, error) {
	var e struct {
		RequestContext struct{ EventType, ConnectionID string }
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	f <- e.RequestContext.EventType + " " + e.RequestContext.ConnectionID
	return []byte(`{"statusCode":200}`), nil
}

// TestManagement: the SDK's client of @connections sends, looks and closes, and is told when a connection is gone.
func TestManagement(t *testing.T) {
	came := make(function, 10)
	sockets := gateway.NewSockets(came, embedded.NewConnections(), http.NotFoundHandler(), clock.System{}, slog.New(slog.DiscardHandler))
	front := httptest.NewServer(sockets)
	defer front.Close()
	defer sockets.Close()
	management := httptest.NewServer(http.HandlerFunc(sockets.ServeManagement))
	defer management.Close()
	endpoint := management.URL + "/local"
	api := apigatewaymanagementapi.NewFromConfig(sdk.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("k", "s", ""), BaseEndpoint: &endpoint,
	}, func(o *apigatewaymanagementapi.Options) { o.RetryMaxAttempts = 1 })

	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(front.URL, "http")+"/api/v1/stream", &websocket.DialOptions{
		HTTPHeader: http.Header{"User-Agent": {"tester"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimPrefix(<-came, "CONNECT ")
	if _, err := api.PostToConnection(t.Context(), &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &id, Data: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	if kind, frame, err := conn.Read(t.Context()); err != nil || kind != websocket.MessageText || string(frame) != `{"a":1}` {
		t.Errorf("%q, %v", frame, err)
	}
	info, err := api.GetConnection(t.Context(), &apigatewaymanagementapi.GetConnectionInput{ConnectionId: &id})
	if err != nil || *info.Identity.SourceIp != "127.0.0.1" || *info.Identity.UserAgent != "tester" || time.Since(*info.ConnectedAt) > time.Minute {
		t.Errorf("%+v, %v", info, err)
	}
	big := []byte(strings.Repeat("x", 32*1024+1))
	_, err = api.PostToConnection(t.Context(), &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &id, Data: big})
	if _, ok := errors.AsType[*types.PayloadTooLargeException](err); !ok {
		t.Error(err)
	}
	if _, err := api.DeleteConnection(t.Context(), &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &id}); err != nil {
		t.Error(err)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Error(err)
	}
	if left := <-came; left != "DISCONNECT "+id {
		t.Error(left)
	}
	_, post := api.PostToConnection(t.Context(), &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &id, Data: []byte("x")})
	_, get := api.GetConnection(t.Context(), &apigatewaymanagementapi.GetConnectionInput{ConnectionId: &id})
	_, drop := api.DeleteConnection(t.Context(), &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &id})
	for what, err := range map[string]error{"post": post, "get": get, "delete": drop} {
		if _, ok := errors.AsType[*types.GoneException](err); !ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, path := range []string{"/local/@connections/", "/local"} {
		if got := status(t, http.MethodPost, management.URL+path); got != http.StatusNotFound {
			t.Errorf("%s: %d", path, got)
		}
	}
	if got := status(t, http.MethodPut, management.URL+"/local/@connections/"+url.PathEscape(id)); got != http.StatusMethodNotAllowed {
		t.Error(got)
	}
}

func status(t *testing.T, method, address string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// oversized is a function whose event does not fit into an invocation.
type oversized struct{}

func (oversized) Invoke(context.Context, []byte) ([]byte, error) { return nil, tooLarge{} }

type tooLarge struct{}

func (tooLarge) Error() string         { return "too large" }
func (tooLarge) RequestTooLarge() bool { return true }

func TestAnEventThatDoesNotFit(t *testing.T) {
	h := gateway.Handler(func(string, string) gateway.Function { return oversized{} }, clock.System{}, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/jobs", strings.NewReader("x")))
	if w.Code != http.StatusRequestEntityTooLarge || w.Body.String() != `{"message":"Request Entity Too Large"}` {
		t.Error(w.Code, w.Body)
	}
}
