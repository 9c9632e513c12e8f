package rest

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// MaxHeaderBytes is the limit of a request's headers. A server in front gives it to http.Server.
const MaxHeaderBytes = 1 << 20

const defaultMaxBody = 2 << 20

// Config is what a handler is made of.
type Config struct {
	// Gate admits requests.
	Gate *auth.Gate
	// Log gets the cause of every failure of the plane.
	Log *slog.Logger
	// Metrics get one line per request, with how long it took; nil leaves the line to Log.
	Metrics metrics.Sink
	// Clock times requests.
	Clock clock.Clock
	// IDs makes request ids.
	IDs ids.Source
	// MaxBody is the size of the largest JSON body, in bytes, where the route's rule has no limit of its own.
	MaxBody int64
}

// FromEnv reads what the environment says; the rest of the Config is the caller's to fill in.
func FromEnv(getenv func(string) string) (Config, error) {
	cfg := Config{MaxBody: defaultMaxBody}
	if text := getenv("GATEWAY_MAX_JSON_BODY_BYTES"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return Config{}, fmt.Errorf("GATEWAY_MAX_JSON_BODY_BYTES must be a whole number above zero")
		}
		cfg.MaxBody = n
	}
	return cfg, nil
}

// RequestID takes the client's id, by the values of its header, when it is one plain word, so that it can stand in logs and headers, and makes one otherwise.
func (c Config) RequestID(sent []string) string {
	if len(sent) == 1 && auth.PlainID(sent[0]) {
		return sent[0]
	}
	return c.IDs.Hex(8)
}
