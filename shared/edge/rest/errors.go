package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/cordum-serverless/cordum/shared/edge/outcome"
)

// headersTooLarge is the one refusal that is HTTP's alone and has no fault code.
type headersTooLarge struct{}

func (headersTooLarge) Error() string { return "request headers too large" }

var errHeaders = headersTooLarge{}

// fail answers an error in the one JSON shape; what the plane itself did wrong goes to the log and not to the caller.
func (s *server) fail(ctx context.Context, c *call, err error) {
	o := outcome.Outcome{HTTP: http.StatusRequestHeaderFieldsTooLarge, Message: errHeaders.Error()}
	if !errors.Is(err, errHeaders) {
		o = outcome.Of(err)
	}
	if o.Cause != nil && !outcome.Left(ctx, err) {
		s.cfg.Log.LogAttrs(ctx, slog.LevelError, "request failed",
			slog.String("request_id", c.id.RequestID), slog.String("tenant", c.id.Tenant), slog.String("error", o.Cause.Error()))
	}
	if c.rec.status != 0 {
		return // too late: the answer has begun
	}
	h := c.rec.Header()
	if o.HTTP == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter)
	}
	h.Set("Content-Type", "application/json")
	c.rec.WriteHeader(o.HTTP)
	_, _ = c.rec.Write(errorBody(o)) // a caller that has gone hears nothing
}

// Refusal is an error as the HTTP answer of a door that is not a route: its status, its headers, and the body in the one JSON shape.
func Refusal(err error, requestID string) (status int, headers map[string]string, body []byte) {
	o, h := outcome.Of(err), refusalHeaders()
	h["X-Request-Id"] = requestID
	if o.HTTP == http.StatusTooManyRequests {
		h["Retry-After"] = retryAfter
	}
	return o.HTTP, h, errorBody(o)
}

// retryAfter is how many seconds who was over a rate waits.
const retryAfter = "1"

func refusalHeaders() map[string]string {
	h := Guards()
	h["Content-Type"] = "application/json"
	return h
}

// errorBody is {"error":...,"status":...} and the details in the order of their names.
func errorBody(o outcome.Outcome) []byte {
	var b bytes.Buffer
	b.WriteString(`{"error":`)
	b.Write(encode(o.Message))
	b.WriteString(`,"status":` + strconv.Itoa(o.HTTP))
	for _, name := range slices.Sorted(maps.Keys(o.Details)) {
		b.WriteByte(',')
		b.Write(encode(name))
		b.WriteByte(':')
		b.Write(encode(o.Details[name]))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// encode writes a value of a fault; one that is no JSON becomes null rather than no answer.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return []byte("null")
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// errBody stands for a body that is no such message until the route has its word for it.
var errBody = errors.New("rest: the body is no such message")
