package documents

import (
	"context"
	"encoding/json"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// packs puts system/packs together: what is installed are the records of the registry.
func (s *Store) packs(ctx context.Context) (config.Document, error) {
	d, err := s.Config.Get(ctx, config.SystemScope, packsID)
	if err != nil {
		return d, err
	}
	all, err := s.Packs.All(ctx)
	if err != nil {
		return d, err
	}
	return with(d, part{installedMember, all.Document(), all.Revision, all.UpdatedAt})
}

// setPacks changes system/packs: installed replaces all records, each of which changes or goes where it is not the same any more.
func (w *write) setPacks(ctx context.Context) error {
	d, done, err := w.load(ctx)
	if err != nil || done {
		return err
	}
	before, err := w.Packs.All(ctx)
	if err != nil {
		return err
	}
	now := w.Clock.Now()
	var records []store.Op
	if text, given := w.change.Data[installedMember]; given {
		wanted, err := object(w.name, installedMember, text)
		if err != nil {
			return err
		}
		if records, err = changed(before, wanted, w.by.Tenant, now.UnixMicro()); err != nil {
			return err
		}
	}
	ops, err := w.beside(ctx, d, installedMember, before.Revision, len(records) > 0, now)
	if err != nil {
		return err
	}
	if w.change.At != nil && len(records) == 0 {
		ops = append(ops, before.Unchanged())
	}
	return w.commit(ctx, append(ops, records...))
}

// One transaction changes so many records, and so many bytes of them.
const (
	maxRecords     = 90
	maxRecordBytes = 3 << 20
)

// changed are the operations that make the records the wanted ones; none when they are. What is installed for one tenant is no other's to change here
// either, and what the plane has installed does not go without its uninstallation, which alone knows what was there before.
func changed(before registry.Snapshot, wanted map[string]json.RawMessage, tenant string, micros int64) ([]store.Op, error) {
	var puts []registry.Record
	size := 0
	for id, text := range wanted {
		r, known := before.Records[id]
		if null(text) || known && bundles.Same(r.JSON, text) {
			continue
		}
		if foreign(r, tenant) {
			return nil, errForeign
		}
		if !known || disabled(r.JSON) && !disabled(text) {
			r.Tenant = tenant // nobody has it, until now
		}
		if known && !bundles.Same(overlays(r.JSON), overlays(text)) {
			r.Undo = nil // it was of other overlays
		}
		r.ID, r.JSON = id, text
		if err := r.Check(); err != nil {
			return nil, err
		}
		puts, size = append(puts, r), size+len(r.JSON)+len(r.Undo)
	}
	removals, err := leftOut(before, wanted, tenant)
	if err != nil {
		return nil, err
	}
	if len(puts)+len(removals) == 0 {
		return nil, nil
	}
	if len(puts)+len(removals) > maxRecords || size > maxRecordBytes {
		return nil, fault.New(fault.Invalid, "%d packs, of %d bytes, change at once; at most %d, of %d bytes, do", len(puts)+len(removals), size, maxRecords, maxRecordBytes)
	}
	if err := before.Fits(puts...); err != nil {
		return nil, err
	}
	return registry.Change(before, puts, removals, micros), nil
}

var errForeign = fault.New(fault.Denied, "tenant access denied")

// foreign says that a pack is installed for another tenant.
func foreign(r registry.Record, tenant string) bool {
	return r.Tenant != "" && r.Tenant != tenant && !disabled(r.JSON)
}

// leftOut are the records that are not among the wanted ones.
func leftOut(before registry.Snapshot, wanted map[string]json.RawMessage, tenant string) (ids []string, err error) {
	for id, r := range before.Records {
		if text, there := wanted[id]; there && !null(text) {
			continue
		}
		switch {
		case foreign(r, tenant):
			return nil, errForeign
		case len(r.Undo) > 0:
			return nil, fault.New(fault.Conflict, "pack %s is installed; uninstall it", id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// overlays are what a record says that its pack changed; nil for one that says nothing.
func overlays(record json.RawMessage) json.RawMessage {
	var r struct {
		Overlays json.RawMessage `json:"overlays"`
	}
	_ = json.Unmarshal(record, &r) // one that is no object is refused
	return r.Overlays
}

// disabled says that a record is of a pack that was taken away.
func disabled(record json.RawMessage) bool {
	var r struct {
		Status string `json:"status"`
	}
	_ = json.Unmarshal(record, &r) // one that is no object is refused
	return r.Status == pack.Disabled
}
