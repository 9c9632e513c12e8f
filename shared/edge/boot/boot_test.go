package boot_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// A process that starts asks for its secrets once, whatever it makes of them; they win over the environment.
func TestSecretsAreReadOnceAtStart(t *testing.T) {
	reads := 0
	s := boot.With(func(string) string { return "" }, func(context.Context) (map[string]string, error) {
		reads++
		return map[string]string{"CORDUM_API_KEYS": "k-one", "CORDUM_ADMIN_USERNAME": "root", "CORDUM_ADMIN_PASSWORD": "Right-Horse-1"}, nil
	})
	log := slog.New(slog.DiscardHandler)
	if _, err := boot.Edge(s, nil, clock.System{}, log); err != nil {
		t.Error(err)
	}
	if _, err := boot.Accounts(s, nil, nil, clock.System{}, log); err != nil {
		t.Error(err)
	}
	if first, err := boot.FirstAdmin(s); err != nil || first == nil {
		t.Errorf("first administrator %v, %v", first, err)
	}
	if _, err := boot.Artifacts(s); err != nil {
		t.Error(err)
	}
	if reads != 1 {
		t.Errorf("secrets were read %d times", reads)
	}
}

// Without its secrets a process does not start.
func TestSecretsOutOfReach(t *testing.T) {
	away := errors.New("away")
	s := boot.With(func(string) string { return "" }, func(context.Context) (map[string]string, error) { return nil, away })
	if _, err := boot.Edge(s, nil, clock.System{}, slog.New(slog.DiscardHandler)); !errors.Is(err, away) {
		t.Errorf("edge: %v", err)
	}
	if _, err := boot.FirstAdmin(s); !errors.Is(err, away) {
		t.Errorf("first administrator: %v", err)
	}
}
