package config

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// settingsAge is how old settings may be: an instance reacts to a changed document within this time.
const settingsAge = 2 * time.Second

// Settings answers what is compiled from system/default. One is shared by everything in a process.
type Settings struct {
	store *Store
	clock clock.Clock
	log   *slog.Logger
	// Turn is taken to read the document.
	Turn turn.Turn

	current  *schedule.Settings
	revision int64
	read     time.Time
}

// NewSettings makes settings that follow the stored document.
func NewSettings(s *Store, c clock.Clock, log *slog.Logger) *Settings {
	return &Settings{store: s, clock: c, log: log, revision: -1}
}

// Current answers settings that were in force at most two seconds ago. While the store is out of reach the last ones stay in force; an
// error comes back only when there never were any. A section that is not valid keeps its previous value and is logged.
func (s *Settings) Current(ctx context.Context) (*schedule.Settings, error) {
	if err := s.Turn.Take(ctx); err != nil {
		return nil, err
	}
	defer s.Turn.Give()
	now := s.clock.Now()
	if s.current != nil && now.Sub(s.read) < settingsAge {
		return s.current, nil
	}
	it, err := s.store.item(ctx, SystemScope, DefaultID)
	revision := it.Attrs.Int(attrRevision)
	next, problems := s.current, []error(nil)
	if err == nil && revision != s.revision {
		next, problems, err = s.compile(ctx, it)
	}
	switch {
	case err != nil && s.current == nil:
		return nil, err
	case err != nil:
		s.log.WarnContext(ctx, "settings: keeping the last ones", "error", err)
	case revision != s.revision:
		for _, p := range problems {
			what := "settings: section refused, the previous one stays"
			if errors.As(p, new(schedule.Entry)) {
				what = "settings: entry passed over"
			}
			s.log.ErrorContext(ctx, what, "revision", revision, "error", p)
		}
		s.current, s.revision = next, revision
	}
	s.read = now
	return s.current, nil
}

func (s *Settings) compile(ctx context.Context, it store.Item) (*schedule.Settings, []error, error) {
	d, err := s.store.document(ctx, SystemScope, DefaultID, it)
	if err != nil {
		return nil, nil, err
	}
	return s.store.Compile(ctx, d, s.current)
}
