package documents

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// policy puts system/policy together: its bundles are those in force.
func (s *Store) policy(ctx context.Context) (config.Document, error) {
	d, err := s.Config.Get(ctx, config.SystemScope, policyID)
	if err != nil {
		return d, err
	}
	now, err := s.Bundles.State(ctx)
	if err != nil {
		return d, err
	}
	return with(d, part{bundlesMember, now.Bundles, now.Revision, now.At})
}

// What ends an edit of the bundles before it changes any.
var (
	errSame = errors.New("documents: the bundles are what they are to be")
	errDone = errors.New("documents: it is written")
)

// errLost is config.ErrConflict in the end.
var errLost = fault.New(fault.Conflict, "%s", config.ErrConflict.Message)

// setPolicy changes system/policy: bundles replaces those in force, in the one transaction that such a change is.
func (w *write) setPolicy(ctx context.Context) error {
	text, given := w.change.Data[bundlesMember]
	if given {
		wanted, err := object(w.name, bundlesMember, text)
		if err != nil {
			return err
		}
		if err := w.edit(ctx, wanted); !errors.Is(err, errSame) {
			return err
		}
	}
	d, done, err := w.load(ctx)
	if err != nil || done {
		return err
	}
	revision, err := w.Bundles.Revision(ctx)
	if err != nil {
		return err
	}
	ops, err := w.beside(ctx, d, bundlesMember, revision, false, w.Clock.Now())
	if err != nil {
		return err
	}
	if w.change.At != nil {
		ops = append(ops, bundles.Unchanged(revision))
	}
	return w.commit(ctx, ops)
}

// edit puts bundles in force; errSame when they are.
func (w *write) edit(ctx context.Context, wanted map[string]json.RawMessage) error {
	var ops []store.Op
	err := w.Bundles.Edit(ctx, func(in map[string]json.RawMessage) error {
		d, done, err := w.load(ctx)
		switch {
		case err != nil:
			return err
		case done:
			return errDone
		}
		if !replace(in, wanted) {
			return errSame
		}
		revision, err := w.Bundles.Revision(ctx) // the edit holds only if this is the one that it has read
		if err != nil {
			return err
		}
		ops, err = w.beside(ctx, d, bundlesMember, revision, true, w.Clock.Now())
		return err
	}, func(_, _ head.Version) []store.Op { return ops })
	switch {
	case errors.Is(err, errDone):
		return nil
	case fault.Is(err, fault.Conflict) && !errors.Is(err, errMoved): // it was tried often enough
		return errLost
	}
	return err
}

// replace makes the bundles in force the wanted ones, and says whether that changes any. One that says the same stays as it was written.
func replace(in, wanted map[string]json.RawMessage) (changed bool) {
	for id := range in {
		if wanted[id] == nil || null(wanted[id]) {
			delete(in, id)
			changed = true
		}
	}
	for id, raw := range wanted {
		if !null(raw) && !bundles.Same(in[id], raw) {
			in[id] = raw
			changed = true
		}
	}
	return changed
}
