package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// ManagementPath is in the path of every request to the management API of a WebSocket API: /<stage>/@connections/<id>.
const ManagementPath = "/@connections/"

// ServeManagement is that API: POST sends a frame, GET tells about a connection, DELETE closes it, and all answer 410 for one that is gone.
func (s *Sockets) ServeManagement(w http.ResponseWriter, r *http.Request) {
	_, id, ok := strings.Cut(r.URL.Path, ManagementPath)
	if !ok || id == "" {
		exception(w, http.StatusNotFound, "NotFoundException")
		return
	}
	switch r.Method {
	case http.MethodPost:
		frame, err := io.ReadAll(http.MaxBytesReader(w, r.Body, push.MaxFrame+1))
		if err == nil {
			err = s.open.Post(r.Context(), id, frame)
		}
		var large *http.MaxBytesError
		switch {
		case err == nil:
			w.WriteHeader(http.StatusOK)
		case errors.As(err, &large), errors.Is(err, push.ErrTooLarge):
			exception(w, http.StatusRequestEntityTooLarge, "PayloadTooLargeException")
		default:
			exception(w, http.StatusGone, "GoneException")
		}
	case http.MethodGet:
		c := s.find(id)
		if c == nil {
			exception(w, http.StatusGone, "GoneException")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // who asked may have gone
			"connectedAt": c.opened.UTC().Format(time.RFC3339), "lastActiveAt": time.UnixMilli(c.active.Load()).UTC().Format(time.RFC3339),
			"identity": map[string]string{"sourceIp": c.ip, "userAgent": c.agent},
		})
	case http.MethodDelete:
		if s.find(id) == nil {
			exception(w, http.StatusGone, "GoneException")
			return
		}
		_ = s.open.Drop(r.Context(), id, push.Revoked) // it fails only for a caller that has gone
		w.WriteHeader(http.StatusNoContent)
	default:
		exception(w, http.StatusMethodNotAllowed, "MethodNotAllowedException")
	}
}

func exception(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"message":null}`) // likewise
}

func (s *Sockets) find(id string) *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sockets[id]
}
