package install

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/overlay"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	schemas "github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
)

// world is what there is before a change of a pack, as far as that looks at it.
type world struct {
	id     string
	by     identity.Identity
	micros int64
	packs  registry.Snapshot
	// old is the pack's record, and record what it says; nil for a pack that never was installed.
	old    *registry.Record
	record *pack.Record
	// tenant is whose the schemas and workflows of the pack are.
	tenant   string
	document config.Document
	// bundles are the policy bundles in force.
	bundles map[string]json.RawMessage
	// schemas and workflows are those that the pack has, or had; nil is a workflow that is not there.
	schemas   map[string]schemas.Registered
	workflows map[string]*catalog.Version
}

// installed says that the pack is installed.
func (w *world) installed() bool { return w.record != nil && w.record.Status != pack.Disabled }

// know takes the pack's record in. What is installed for one tenant is no other's to change. What is left of a pack that another tenant had installed is
// that tenant's.
func (w *world) know(old registry.Record) error {
	r, err := pack.ReadRecord(old.JSON)
	if err != nil {
		return fault.New(fault.Invalid, "pack %s: its record cannot be read, and must be mended or removed in system/packs: %s", w.id, err.Error())
	}
	w.old, w.record = &old, &r
	switch {
	case old.Tenant == "" || old.Tenant == w.tenant:
	case w.installed():
		return errForeign
	default:
		r.Resources = pack.Resources{}
	}
	return nil
}

// state is the version and status of a record, for the audit trail; "" for none.
func state(r *pack.Record) string {
	if r == nil {
		return ""
	}
	return r.Version + " " + r.Status
}

// wish is what there is to be.
type wish struct {
	action string
	record registry.Record
	state  string
	// others are records of other packs whose way back has changed.
	others []registry.Record
	// document is the data of system/default; nil stays as it is.
	document json.RawMessage
	// bundles, schemas and workflows are what changes of them; nil goes.
	bundles   map[string]json.RawMessage
	schemas   map[string]json.RawMessage
	workflows map[string]*workflow.Workflow
}

func newWish(action string) *wish {
	return &wish{
		action: action, bundles: map[string]json.RawMessage{}, schemas: map[string]json.RawMessage{}, workflows: map[string]*workflow.Workflow{},
	}
}

// nothing says that the world is as it is wished.
func (x *wish) nothing(w *world) bool {
	return w.old != nil && string(x.record.JSON) == string(w.old.JSON) && string(x.record.Undo) == string(w.old.Undo) && len(x.others) == 0 &&
		x.document == nil && len(x.bundles) == 0 && len(x.schemas) == 0 && len(x.workflows) == 0
}

// into changes the bundles in force.
func (x *wish) into(bundles map[string]json.RawMessage) {
	for id, raw := range x.bundles {
		if raw == nil {
			delete(bundles, id)
		} else {
			bundles[id] = raw
		}
	}
}

// install is what an installation makes of the world.
func install(w *world, p *pack.Pack, o Options) (*wish, error) {
	x := newWish("install")
	if err := x.bring(w, p, o.Upgrade); err != nil {
		return nil, err
	}
	applied := slices.DeleteFunc(slices.Clone(p.Config), func(c pack.ConfigOverlay) bool { return o.Inactive && c.Key == pools })
	if err := x.configure(w, applied); err != nil {
		return nil, err
	}
	x.govern(w, p)
	status := pack.Inactive
	if slices.ContainsFunc(applied, func(c pack.ConfigOverlay) bool { return c.Key == pools }) {
		status = pack.Active
	}
	r := p.Record(status, stamp(w.micros), cmp.Or(w.by.Principal, w.by.KeyID), applied)
	if w.installed() { // what is as it was keeps its date
		same := r
		same.InstalledAt, same.InstalledBy = w.record.InstalledAt, w.record.InstalledBy
		if same.Version == w.record.Version && string(encode(same)) == string(encode(*w.record)) {
			r = same
		}
	}
	x.record.ID, x.record.JSON, x.record.Tenant = w.id, encode(r), w.tenant
	x.state = state(&r)
	return x, nil
}

// pools is the member of system/default without which nothing is routed to a pack's workers.
const pools = "pools"

// bring puts the schemas and workflows of a bundle in place of those that the pack had. What it had and no longer has goes, unless somebody has changed
// it since.
func (x *wish) bring(w *world, p *pack.Pack, upgrade bool) error {
	for _, s := range p.Schemas {
		digest, err := w.schemaDigest(s.ID)
		switch {
		case err != nil:
			return err
		case digest == "":
		case digest == s.Digest:
			continue
		case !upgrade:
			return fault.New(fault.Invalid, "schema %s exists; rerun with upgrade", s.ID)
		}
		x.schemas[s.ID] = s.Text
	}
	for _, f := range p.Workflows {
		digest, err := w.workflowDigest(f.ID)
		if err != nil {
			return err
		}
		made := *f.Workflow
		made.ID, made.OrgID, made.UpdatedAt = f.ID, w.tenant, time.UnixMicro(w.micros).UTC()
		made.CreatedAt = made.UpdatedAt
		switch {
		case digest == "":
		case digest == f.Digest:
			continue
		case !upgrade:
			return fault.New(fault.Invalid, "workflow %s exists; rerun with upgrade", f.ID)
		default:
			made.CreatedAt = w.workflows[f.ID].CreatedAt
		}
		x.workflows[f.ID] = &made
	}
	return x.drop(w, p)
}

// drop takes away what the record has and the bundle has not.
func (x *wish) drop(w *world, p *pack.Pack) error {
	if w.record == nil {
		return nil
	}
	for id, digest := range w.record.Resources.Schemas {
		if slices.ContainsFunc(p.Schemas, func(s pack.Schema) bool { return s.ID == id }) {
			continue
		}
		if now, err := w.schemaDigest(id); err != nil {
			return err
		} else if now == digest {
			x.schemas[id] = nil
		}
	}
	for id, digest := range w.record.Resources.Workflows {
		if slices.ContainsFunc(p.Workflows, func(f pack.Workflow) bool { return f.ID == id }) {
			continue
		}
		if now, err := w.workflowDigest(id); err != nil {
			return err
		} else if now == digest {
			x.workflows[id] = nil
		}
	}
	return nil
}

// schemaDigest identifies what a schema of the tenant says; "" for none.
func (w *world) schemaDigest(id string) (string, error) {
	if text := w.schemas[id].Text; text != nil {
		return pack.SchemaDigest(text)
	}
	return "", nil
}

// workflowDigest identifies what a workflow of the tenant says; "" for none.
func (w *world) workflowDigest(id string) (string, error) {
	if v := w.workflows[id]; v != nil {
		return pack.WorkflowDigest(v.Workflow)
	}
	return "", nil
}

// layers are what a pack has put into system/default, and how that is taken back. Seq orders the packs: what came later lies on top.
type layers struct {
	Seq    int64          `json:"seq"`
	Layers overlay.Layers `json:"layers"`
}

// layersOf reads those of a record. One that a client wrote has none, and claims what it says that it has applied: what cannot be read claims nothing, and is
// in nobody's way.
func layersOf(r registry.Record) (layers, error) {
	var l layers
	if len(r.Undo) > 0 {
		if err := json.Unmarshal(r.Undo, &l); err != nil {
			return l, fmt.Errorf("pack %s: way back: %w", r.ID, err)
		}
		return l, nil
	}
	says, err := pack.ReadRecord(r.JSON)
	if err == nil && says.Status != pack.Disabled {
		l.Layers = claims(r.ID, says.Overlays.Config)
	}
	return l, nil
}

// claims are the layers of overlays of which nobody knows how they are taken back.
func claims(id string, overlays []pack.ConfigOverlay) (all overlay.Layers) {
	for _, c := range overlays {
		if cmp.Or(c.Scope, config.SystemScope) != config.SystemScope || cmp.Or(c.ScopeID, config.DefaultID) != config.DefaultID {
			continue
		}
		if claimed, err := overlay.Claim(id, c); err == nil {
			all = append(all, claimed)
		}
	}
	return all
}

// are says whether the layers, which the plane itself has put there, are those of these overlays.
func (l layers) are(overlays []pack.ConfigOverlay) bool {
	return l.Seq > 0 && slices.EqualFunc(l.Layers, overlays, func(one overlay.Layer, o pack.ConfigOverlay) bool { return one.Is(o) })
}

// configure puts overlays into system/default, in place of those that the pack has there.
func (x *wish) configure(w *world, overlays []pack.ConfigOverlay) error {
	byPack := map[string]layers{}
	top := int64(0)
	for id, r := range w.packs.Records {
		l, err := layersOf(r)
		if err != nil {
			return err
		}
		byPack[id], top = l, max(top, l.Seq)
	}
	var all overlay.Layers
	for _, id := range slices.SortedFunc(maps.Keys(byPack), func(a, b string) int {
		return cmp.Or(cmp.Compare(byPack[a].Seq, byPack[b].Seq), strings.Compare(a, b))
	}) {
		all = append(all, byPack[id].Layers...)
	}
	data, rest, err := all.Uninstall(w.document.Data, w.id)
	if err == nil {
		err = overlay.Validate(w.id, overlays, data)
	}
	if err == nil && len(overlays) > 0 {
		data, rest, err = rest.Install(data, w.id, overlays)
	}
	if err != nil {
		return err
	}
	if err := x.documented(w, data); err != nil {
		return err
	}
	if x.document == nil && byPack[w.id].are(overlays) { // they need not lie on top of what came later
		x.record.Undo = w.packs.Records[w.id].Undo
		return nil
	}
	after := map[string]layers{}
	for _, one := range rest {
		l := after[one.Pack]
		l.Seq, l.Layers = byPack[one.Pack].Seq, append(l.Layers, one)
		after[one.Pack] = l
	}
	if mine, some := after[w.id]; some {
		if before := byPack[w.id]; before.Seq == 0 || before.Seq < top {
			mine.Seq = top + 1
		}
		x.record.Undo = encode(mine)
	}
	for _, id := range slices.Sorted(maps.Keys(byPack)) {
		r := w.packs.Records[id]
		if id == w.id || len(r.Undo) == 0 {
			continue
		}
		if undo := encode(after[id]); string(undo) != string(r.Undo) {
			r.Undo = undo
			x.others = append(x.others, r)
		}
	}
	return nil
}

// govern puts the bundles of a pack in place of those that it had; nil has none. A bundle that an operator has switched off stays so. One that a new version
// has no longer goes, unless somebody has changed it since; those of a pack that is uninstalled go as they are.
func (x *wish) govern(w *world, p *pack.Pack) {
	if w.installed() {
		for _, f := range w.record.Overlays.Policy {
			raw, there := w.bundles[f.FragmentID]
			if there && strings.HasPrefix(f.FragmentID, w.id+"/") && (p == nil || !changed(raw)) {
				x.bundles[f.FragmentID] = nil
			}
		}
	}
	if p == nil {
		return
	}
	for _, f := range p.Policy {
		there, ok := head.ParseBundle(w.bundles[f.FragmentID])
		if ok && there.Content == f.Content && there.SHA256 == f.SHA256 && there.Version == p.Metadata.Version {
			delete(x.bundles, f.FragmentID)
			continue
		}
		made := map[string]any{"content": f.Content, "version": p.Metadata.Version, "sha256": f.SHA256, "installed_at": stamp(w.micros)}
		if ok && !there.Enabled {
			made["enabled"] = false
		}
		x.bundles[f.FragmentID] = encode(made)
	}
}

// changed says that a bundle is not what its installer put there, who wrote down its hash.
func changed(raw json.RawMessage) bool {
	b, ok := head.ParseBundle(raw)
	return ok && b.SHA256 != canonical.Hash([]byte(b.Content))
}

// documented wishes for data of system/default, if it differs from what there is.
func (x *wish) documented(w *world, data json.RawMessage) error {
	before, err := canonical.JSON(w.document.Data)
	if err != nil {
		return fmt.Errorf("config: stored data: %w", err)
	}
	after, err := canonical.JSON(data)
	if err != nil {
		return err
	}
	if string(before) != string(after) {
		x.document = after
	}
	return nil
}

// uninstall is what taking the pack away makes of the world.
func uninstall(w *world, purge bool) (*wish, error) {
	if w.record == nil {
		return nil, ErrNotInstalled
	}
	x := newWish("uninstall")
	if err := x.configure(w, nil); err != nil {
		return nil, err
	}
	x.govern(w, nil)
	if purge {
		for id := range w.record.Resources.Schemas {
			if w.schemas[id].Text != nil {
				x.schemas[id] = nil
			}
		}
		for id := range w.record.Resources.Workflows {
			if w.workflows[id] != nil {
				x.workflows[id] = nil
			}
		}
	}
	x.record = *w.old
	x.record.Undo = nil
	var err error
	if x.record.JSON, err = withStatus(w.old.JSON, pack.Disabled); err != nil {
		return nil, fmt.Errorf("pack %s: stored record: %w", w.id, err)
	}
	after := *w.record
	after.Status = pack.Disabled
	x.state = state(&after)
	return x, nil
}

// withStatus is a record with another status; whatever else a client has put into it stays.
func withStatus(record json.RawMessage, status string) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(record, &members); err != nil {
		return nil, err
	}
	for name := range members {
		if strings.EqualFold(name, "status") {
			delete(members, name)
		}
	}
	members["status"] = encode(status)
	return encode(members), nil
}

func stamp(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339) }

// encode writes what always encodes: texts, and JSON that was read.
func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic("install: encode: " + err.Error())
	}
	return text
}

var errUnchanged = errors.New("install: nothing to change")
