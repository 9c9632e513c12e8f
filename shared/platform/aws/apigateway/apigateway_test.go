package apigateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/apigateway"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/push/pushtest"
)

// management speaks the @connections API as API Gateway does: 200 for a frame, 204 for a drop, 410 for a connection that is gone.
type management struct {
	mu    sync.Mutex
	conns map[string]chan []byte
}

func (m *management) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := url.PathUnescape(r.URL.EscapedPath()[strings.LastIndex(r.URL.EscapedPath(), "/")+1:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	frames, ok := m.conns[id]
	switch {
	case !ok:
		w.Header().Set("X-Amzn-ErrorType", "GoneException")
		w.WriteHeader(http.StatusGone)
	case r.Method == http.MethodDelete:
		delete(m.conns, id)
		close(frames)
		w.WriteHeader(http.StatusNoContent)
	default:
		frames <- body
	}
}

func (m *management) connect(testing.TB) pushtest.Client {
	id, frames := ids.Source{}.Hex(8)+"=", make(chan []byte, 10000)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[id] = frames
	return pushtest.Client{ID: id, Frames: frames, Close: func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.conns[id] == frames {
			delete(m.conns, id)
			close(frames)
		}
	}}
}

// TestConnections runs against a server of our own: no emulator has this API.
func TestConnections(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_REGION", "us-east-1")
	m := &management{conns: map[string]chan []byte{}}
	server := httptest.NewServer(m)
	defer server.Close()
	clients, err := apigateway.New(aws.FromEnv(os.Getenv), server.URL+"/stage")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("suite", func(t *testing.T) {
		pushtest.Run(t, func(testing.TB) pushtest.Endpoint {
			return pushtest.Endpoint{Connections: push.Connections(clients), Connect: m.connect}
		})
	})
}
