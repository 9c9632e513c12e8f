// Package gateway stands in for API Gateway's HTTP API: it turns an HTTP request into the bytes of a payload 2.0 event, invokes the function
// that its route belongs to with nothing but those bytes, and turns the answer's bytes back into an HTTP response. What a function sees
// here is what it sees on AWS.
package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// MaxBody is the largest request that API Gateway passes on, in bytes.
const MaxBody = 10 << 20

// MaxHeaders is the largest header of a request, in bytes.
const MaxHeaders = 10240

// Function is a Lambda function: bytes of an event in, bytes of an answer out. aws-lambda-go's lambda.Handler is one.
type Function interface {
	Invoke(ctx context.Context, event []byte) ([]byte, error)
}

// Router names the function that serves a request.
type Router func(method, path string) Function

// Handler serves HTTP by invoking functions.
func Handler(route Router, clk clock.Clock, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload, status := event(r, clk.Now())
		if status != 0 {
			fail(w, status)
			return
		}
		answer, err := route(r.Method, r.URL.Path).Invoke(r.Context(), payload)
		if err != nil {
			if errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			var failed interface{ RequestTooLarge() bool }
			if errors.As(err, &failed) && failed.RequestTooLarge() { // by Lambda's measure, which is less than the gateway's
				fail(w, http.StatusRequestEntityTooLarge)
				return
			}
			log.Error("function failed", "method", r.Method, "path", r.URL.Path, "error", err)
			fail(w, http.StatusInternalServerError)
			return
		}
		if err := respond(w, r, answer); err != nil {
			log.Error("function answered what is no response", "method", r.Method, "path", r.URL.Path, "error", err)
			fail(w, http.StatusInternalServerError)
		}
	})
}

// fail answers as API Gateway itself does when it refuses.
func fail(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"message":"` + http.StatusText(status) + `"}`)) // a client that has gone hears nothing
}

// event makes the payload, as API Gateway does: the path decoded, header names in lower case and several values joined by commas, cookies
// apart, and a body that is not text in base64. status is what API Gateway refuses with, or 0.
func event(r *http.Request, now time.Time) (payload []byte, status int) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return nil, http.StatusBadRequest
	}
	if len(body) > MaxBody {
		return nil, http.StatusRequestEntityTooLarge
	}
	headers := make(map[string]string, len(r.Header)+1)
	headers["host"] = r.Host
	var cookies []string
	for name, values := range r.Header {
		if name == "Cookie" {
			for c := range strings.SplitSeq(strings.Join(values, "; "), ";") {
				cookies = append(cookies, strings.TrimSpace(c))
			}
			continue
		}
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	e := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: "$default", RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery, Cookies: cookies, Headers: headers,
		QueryStringParameters: query(r.URL),
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey: "$default", AccountID: "000000000000", Stage: "$default", RequestID: uuid.NewString(), APIID: "local",
			DomainName: r.Host, DomainPrefix: "local", Time: now.UTC().Format("02/Jan/2006:15:04:05 -0700"), TimeEpoch: now.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: r.Method, Path: r.URL.Path, Protocol: r.Proto, SourceIP: address(r), UserAgent: r.UserAgent(),
			},
		},
	}
	if len(body) > 0 {
		if e.IsBase64Encoded = !isText(r.Header.Get("Content-Type"), body); e.IsBase64Encoded {
			e.Body = base64.StdEncoding.EncodeToString(body)
		} else {
			e.Body = string(body)
		}
	}
	payload, err = json.Marshal(e)
	if err != nil {
		return nil, http.StatusBadRequest
	}
	return payload, 0
}

// address answers the client's.
func address(r *http.Request) string {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return ip
}

func query(u *url.URL) map[string]string {
	if u.RawQuery == "" {
		return nil
	}
	out := map[string]string{}
	for name, values := range u.Query() {
		out[name] = strings.Join(values, ",")
	}
	return out
}

func isText(contentType string, body []byte) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	textual := err != nil || strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "json") || strings.HasSuffix(kind, "xml") ||
		kind == "application/x-www-form-urlencoded"
	return textual && utf8.Valid(body)
}

// respond writes a function's answer.
func respond(w http.ResponseWriter, r *http.Request, answer []byte) error {
	var res events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(answer, &res); err != nil {
		return err
	}
	body := []byte(res.Body)
	if res.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(res.Body); err != nil {
			return err
		}
	}
	for name, value := range res.Headers {
		w.Header().Set(name, value)
	}
	for name, values := range res.MultiValueHeaders {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	for _, c := range res.Cookies {
		w.Header().Add("Set-Cookie", c)
	}
	if res.StatusCode == 0 {
		res.StatusCode = http.StatusOK
	}
	w.WriteHeader(res.StatusCode)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, bytes.NewReader(body)) // an error means that the client has gone
	}
	return nil
}
