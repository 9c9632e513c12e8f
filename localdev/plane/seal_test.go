package plane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const auditSecret = "a secret of the tests that is long enough"

// vault is a plane whose trail tests tamper with: it knows every object and every item.
type vault struct {
	*rig

	table   store.Table
	blobs   *goldenBlobs
	written *goldenTable
}

// sealing runs a test on a plane that has sealed, in several blocks, decisions and entries: of a job that waits, of one that was cancelled, of dead
// letters that were deleted.
func sealing(t *testing.T, test func(*testing.T, *vault)) {
	t.Helper()
	v := &vault{blobs: &goldenBlobs{keys: map[string]bool{}}, written: &goldenTable{keys: map[store.Key]bool{}}}
	cfg := everyMinute()
	cfg = set(cfg, "CORDUM_AUDIT_KEY", auditSecret)
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		v.table, v.blobs.Store, v.written.Table = p.Table, p.Blobs, p.Table
		p.Table, p.Blobs = v.written, v.blobs
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		v.rig = r
		for round := range 3 {
			for range 12 {
				r.submit("topic", "job.test.ask")
			}
			r.post("/api/v1/jobs/"+waits(r)+"/cancel", nil).ok(200)
			r.as("k-ada", "DELETE", "/api/v1/dlq/"+denied(r), nil).ok(204)
			time.Sleep(time.Duration(3+round) * time.Minute)
		}
		time.Sleep(15*time.Minute + 30*time.Second) // between two runs of the sealer
		test(t, v)
	})
}

// blocks are the keys of all blocks.
func (v *vault) blocks() []string {
	keys := slices.Sorted(maps.Keys(v.blobs.keys))
	return slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, "audit/") })
}

func (v *vault) object(key string) []byte {
	v.t.Helper()
	data, _, err := v.blobs.Get(v.t.Context(), key, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	return data
}

func (v *vault) overwrite(key string, data []byte) {
	v.t.Helper()
	if err := v.blobs.Put(v.t.Context(), key, data, blob.PutOptions{}); err != nil {
		v.t.Fatal(err)
	}
}

// items are those that are sealed, by key, in order.
func (v *vault) items(attr string) []store.Item {
	v.t.Helper()
	var out []store.Item
	for e, err := range chain.List(v.t.Context(), v.table, v.blobs, time.Now()) {
		if err != nil {
			v.t.Fatal(err)
		}
		if it, err := v.table.Get(v.t.Context(), e.Key()); err == nil && it.Attrs[attr] != nil {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b store.Item) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return out
}

func (v *vault) put(it store.Item) {
	v.t.Helper()
	if err := v.table.Write(v.t.Context(), store.Put(it)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) remove(key store.Key) {
	v.t.Helper()
	if err := v.table.Write(v.t.Context(), store.Delete(key)); err != nil {
		v.t.Fatal(err)
	}
}

var auditHead = store.Key{PK: "AUDIT", SK: "head"}

func (v *vault) head() store.Item {
	v.t.Helper()
	it, err := v.table.Get(v.t.Context(), auditHead)
	if err != nil {
		v.t.Fatal(err)
	}
	return it
}

// with is an item with other bytes in an attribute.
func with(it store.Item, attr string, value any) store.Item {
	it.Attrs = maps.Clone(it.Attrs)
	it.Attrs[attr] = value
	return it
}

// finds fails unless the verdict has a finding of the kind about the place, and answers the verdict.
func (v *vault) finds(kind chain.Kind, place string, earlier *chain.Head) {
	v.t.Helper()
	verdict := v.verify(earlier)
	for _, f := range verdict.Findings {
		if f.Kind == kind && strings.Contains(f.String(), place) {
			return
		}
	}
	v.t.Errorf("no finding %q about %q among %v", kind, place, verdict.Findings)
}

// A verifier names whatever was tampered with.
func TestTamperingIsFound(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		good := v.verify(nil)
		if len(good.Findings) != 0 || good.Sealed != 3*(14+2) || good.Blocks < 20 || good.Expired != 0 || good.Waiting != 0 {
			t.Fatalf("verdict of a sound trail %+v", good)
		}
		head, checkpoint := v.head(), good.Head
		entry, decision := v.items("e")[2], v.items("de")[5]
		key := v.blocks()[3]
		block := v.object(key)
		steps := map[string]func(){
			"an entry": func() {
				v.put(with(entry, "e", bytes.Replace(entry.Attrs.Bytes("e"), []byte(`"default"`), []byte(`"defaulT"`), 1)))
				v.finds(chain.Tampered, entry.Key.String(), nil)
			},
			"who asked for a job": func() {
				v.put(with(decision, "de", bytes.Replace(decision.Attrs.Bytes("de"), []byte(`"admin"`), []byte(`"user"`), 1)))
				v.finds(chain.Tampered, decision.Key.String(), nil)
			},
			"what a job asks for": func() {
				v.put(with(decision, "rq", append([]byte{0x7a, 0}, decision.Attrs.Bytes("rq")...)))
				v.finds(chain.Tampered, decision.Key.String(), nil)
			},
			"when": func() {
				it := entry
				it.Index = map[store.Index]store.Key{store.ByTime: audit.LogKey(entry.Key, 1_700_000_000_000_000)}
				v.put(it)
				v.finds(chain.Tampered, entry.Key.String(), nil)
			},
			"an entry that is gone":   func() { v.remove(entry.Key); v.finds(chain.Missing, entry.Key.String(), nil) },
			"a decision that is gone": func() { v.remove(decision.Key); v.finds(chain.Missing, decision.Key.String(), nil) },
			"a block": func() {
				v.overwrite(key, bytes.Replace(block, []byte("admin"), []byte("nobdy"), 1))
				v.finds(chain.Broken, key, nil)
			},
			"a block that is no JSON":  func() { v.overwrite(key, []byte("gone")); v.finds(chain.Broken, "what lies before it", nil) },
			"a block in another place": func() { v.overwrite(key, v.object(v.blocks()[7])); v.finds(chain.Broken, key, nil) },
			"a block that is gone": func() {
				if err := v.blobs.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				v.finds(chain.Broken, key, nil)
			},
			"the head": func() {
				v.put(with(head, "h", bytes.Replace(head.Attrs.Bytes("h"), []byte(`"seq":2`), []byte(`"seq":1`), 1)))
				v.finds(chain.Signature, "does not hold", nil)
			},
			"the head's number": func() { v.put(with(head, "n", int64(1))); v.finds(chain.Signature, "its number is 1", nil) },
			"a head of somebody else": func() {
				v.remove(auditHead)
				v.sealWith("another secret that is long enough too")
				v.finds(chain.Signature, "not trusted", nil)
				v.finds(chain.Truncated, "checkpoint", checkpoint)
			},
			"no head": func() {
				v.remove(auditHead)
				v.finds(chain.Unsealed, entry.Key.String(), nil)
				v.finds(chain.Truncated, "there is no head", checkpoint)
			},
			"a chain made anew by who has the key": func() {
				v.remove(auditHead)
				v.sealWith(auditSecret)
				v.finds(chain.Truncated, "checkpoint", checkpoint)
			},
		}
		for _, name := range slices.Sorted(maps.Keys(steps)) {
			v.step(name, steps[name])
			v.put(head)
			v.put(entry)
			v.put(decision)
			v.overwrite(key, block)
		}
		if again := v.verify(checkpoint); len(again.Findings) != 0 {
			t.Errorf("a test left %v", again.Findings)
		}
	})
}

// sealWith runs a sealer with another secret.
func (v *vault) sealWith(secret string) {
	v.t.Helper()
	keys, err := chain.ParseKeys(secret)
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := (&chain.Sealer{Table: v.table, Blobs: v.blobs, Keys: keys, Clock: clock.System{}}).Run(v.t.Context()); err != nil {
		v.t.Fatal(err)
	}
}

// An entry that somebody puts in later, with a time of its own making, is in no block. The sealer looks back only so far.
func TestAForgedEntryIsFound(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		e := audit.Entry{Tenant: "default", At: time.Now().Add(-20 * time.Minute).UnixMicro(), Action: "approve", ResourceType: "job", ResourceID: "forged"}
		op := e.Op()
		if err := v.table.Write(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		v.finds(chain.Unsealed, op.Key.String(), nil)
	})
}

// Where nothing at all happened for long, the sealer takes a forged entry for one that it missed, and the verifier says that it came late.
func TestAForgedEntryOfAQuietTimeIsNoted(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		time.Sleep(2 * time.Hour)
		e := audit.Entry{Tenant: "default", At: time.Now().Add(-time.Hour).UnixMicro(), Action: "approve", ResourceType: "job", ResourceID: "forged"}
		op := e.Op()
		if err := v.table.Write(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if verdict := v.verify(nil); len(verdict.Findings) != 0 || len(verdict.Late) != 1 || !strings.Contains(verdict.Late[0].String(), op.Key.String()) {
			t.Errorf("verdict %+v", verdict)
		}
	})
}

// An earlier head, well signed, shows less than there was: what is old enough and not sealed any more is found, and so it is by a checkpoint.
func TestAnOlderHeadIsFound(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		older := v.head()
		id := waits(v.rig)
		time.Sleep(9 * time.Minute)
		checkpoint := v.verify(nil).Head
		v.put(older)
		v.finds(chain.Unsealed, job.Partition(id), nil)
		v.finds(chain.Truncated, "yet checkpoint", checkpoint)
	})
}

// Whatever byte of whatever block or entry is changed, the verifier finds it.
func TestAnyByteThatIsChangedIsFound(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		dice := rand.New(rand.NewPCG(1, 2))
		items, blocks := slices.Concat(v.items("e"), v.items("de")), v.blocks()
		spoil := func(data []byte) []byte {
			out := bytes.Clone(data)
			at := dice.IntN(len(out))
			out[at] ^= byte(1 + dice.IntN(255))
			return out
		}
		for range 150 {
			key := blocks[dice.IntN(len(blocks))]
			data := v.object(key)
			v.overwrite(key, spoil(data))
			v.finds(chain.Broken, key, nil)
			v.overwrite(key, data)

			it := items[dice.IntN(len(items))]
			attr := "e"
			if it.Attrs["e"] == nil {
				attr = []string{"de", "rq"}[dice.IntN(2)]
			}
			v.put(with(it, attr, spoil(it.Attrs.Bytes(attr))))
			v.finds(chain.Tampered, it.Key.String(), nil)
			v.put(it)
		}
	})
}

// A sealer does not go on from a head that is not its own: that would make it good.
func TestASealerRefusesAHeadThatIsNotItsOwn(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		head := v.head()
		v.put(with(head, "h", bytes.Replace(head.Attrs.Bytes("h"), []byte(`"seq":2`), []byte(`"seq":1`), 1)))
		if _, err := v.plane.Sealer.Run(t.Context()); !errors.Is(err, chain.ErrHead) {
			t.Errorf("it went on: %v", err)
		}
	})
}

// A new secret before the old one: heads of the old are gone on from, and the new one signs.
func TestKeysAreReplaced(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		const fresh = "the secret that takes the place of the old one"
		keys, err := chain.ParseKeys(fresh + ", " + auditSecret)
		if err != nil {
			t.Fatal(err)
		}
		waits(v.rig)
		s := &chain.Sealer{Table: v.table, Blobs: v.blobs, Keys: keys, Clock: later{}}
		if did, err := s.Run(t.Context()); err != nil || did.Entries != 1 {
			t.Errorf("%+v, %v", did, err)
		}
		alone, err := chain.ParseKeys(fresh)
		if err != nil {
			t.Fatal(err)
		}
		verdict, err := (&chain.Verifier{Table: v.table, Blobs: v.blobs, Now: time.Now(), Trusted: alone.Public()}).Run(t.Context())
		if err != nil || len(verdict.Findings) != 0 {
			t.Errorf("findings %v, %v", verdict.Findings, err)
		}
		if _, err := v.plane.Sealer.Run(t.Context()); !errors.Is(err, chain.ErrHead) { // it has only the old one
			t.Errorf("a sealer without the new key: %v", err)
		}
	})
}

// Nothing to seal: no object, no write, whatever was sealed before.
func TestAnIdleSealerWritesNothing(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		head, blocks := v.head(), len(v.blocks())
		time.Sleep(3 * time.Hour)
		if now := v.head(); now.Attrs.Int("n") != head.Attrs.Int("n") || len(v.blocks()) != blocks {
			t.Errorf("head %d is %d now, %d blocks are %d", head.Attrs.Int("n"), now.Attrs.Int("n"), blocks, len(v.blocks()))
		}
	})
}

// An entry that is listed minutes after its time is sealed, once.
func TestALateEntryIsSealedOnce(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		v.submit("topic", "job.test.ask")
		late := audit.Entry{Tenant: "default", At: time.Now().UnixMicro(), Action: "cancel", ResourceType: "job", ResourceID: "late"}
		for range 40 { // so that every chain has moved on
			v.submit("topic", "job.test.ask")
		}
		time.Sleep(5 * time.Minute)
		if err := v.table.Write(t.Context(), late.Op()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		if verdict := v.verify(nil); len(verdict.Findings) != 0 || verdict.Waiting != 0 {
			t.Errorf("verdict %+v", verdict)
		}
	})
}

// breaking fails writes of the head while it is told to: they take effect or not.
type breaking struct {
	store.Table

	mu           sync.Mutex
	fail, anyhow bool
	tried        int
}

func (b *breaking) Write(ctx context.Context, ops ...store.Op) error {
	if ops[0].Key != auditHead {
		return b.Table.Write(ctx, ops...)
	}
	b.mu.Lock()
	fail, anyhow := b.fail, b.anyhow
	b.tried++
	b.mu.Unlock()
	if fail && !anyhow {
		return store.ErrUnavailable
	}
	err := b.Table.Write(ctx, ops...)
	if fail {
		return store.ErrUnavailable
	}
	return err
}

// A sealer that ends between its blocks and the head leaves objects that nothing names; one whose write is not answered goes on from what is there.
func TestASealerThatBreaksOffLosesNothing(t *testing.T) {
	for _, anyhow := range []bool{false, true} {
		t.Run(fmt.Sprintf("written=%v", anyhow), func(t *testing.T) {
			sealing(t, func(t *testing.T, v *vault) {
				b := &breaking{Table: v.table, fail: true, anyhow: anyhow}
				s := &chain.Sealer{Table: b, Blobs: v.blobs, Keys: v.plane.Sealer.Keys, Clock: clock.System{}}
				for range 30 {
					v.submit("topic", "job.test.ask")
				}
				time.Sleep(61 * time.Second)
				if _, err := s.Run(t.Context()); !errors.Is(err, store.ErrUnavailable) || b.tried != 1 {
					t.Errorf("run: %v, after %d writes of the head", err, b.tried)
				}
				b.fail = false
				if _, err := s.Run(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(20 * time.Minute)
				if verdict := v.verify(nil); len(verdict.Findings) != 0 || verdict.Waiting != 0 {
					t.Errorf("verdict %+v", verdict)
				}
			})
		})
	}
}

// Of several sealers at one time one wins, and the chain is whole.
func TestSealersAtOneTime(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		for range 5 {
			for range 20 {
				v.submit("topic", "job.test.ask")
			}
			time.Sleep(61*time.Second + 500*time.Millisecond)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if _, err := v.plane.Sealer.Run(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		time.Sleep(10 * time.Minute)
		if verdict := v.verify(nil); len(verdict.Findings) != 0 || verdict.Waiting != 0 || verdict.Sealed != 48+100 {
			t.Errorf("verdict %+v", verdict)
		}
	})
}

// Much that waits is sealed in several blocks of each chain, also when it all has one microsecond; List shows it all.
func TestABacklogIsSealed(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		at := time.Now().UnixMicro()
		const n = 20_000 // 1,250 for each chain
		for i := 0; i < n; i += 100 {
			ops := make([]store.Op, 100)
			for k := range ops {
				ops[k] = audit.Entry{Tenant: "crowd", At: at, Action: "test", ResourceType: "thing", ResourceID: fmt.Sprint(i + k)}.Op()
			}
			if err := v.table.Write(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Minute)
		verdict := v.verify(nil)
		if len(verdict.Findings) != 0 || verdict.Sealed != 48+n || verdict.Blocks < 48 {
			t.Errorf("%d findings, %d entries in %d blocks", len(verdict.Findings), verdict.Sealed, verdict.Blocks)
		}
		seen, last := map[string]bool{}, int64(1<<62)
		for e, err := range chain.List(t.Context(), v.table, v.blobs, time.Now()) {
			if err != nil {
				t.Fatal(err)
			}
			if seen[e.Key().String()] || e.At > last {
				t.Fatalf("%s comes twice or late", e.Key())
			}
			seen[e.Key().String()], last = true, e.At
		}
		if len(seen) != 48+n {
			t.Errorf("%d entries are listed", len(seen))
		}
	})
}

// leaping is a clock an hour ahead, on which half a minute passes between two looks when it leaps.
type leaping struct {
	off  time.Duration
	leap bool
}

func (c *leaping) Now() time.Time {
	if c.leap {
		c.off += 31 * time.Second
	}
	return time.Now().Add(time.Hour + c.off)
}

// A run that takes too long leaves the rest to the next, and says how far behind it is: the alarm of schedules that fail rings.
func TestASealerThatIsBehindSaysSo(t *testing.T) {
	sealing(t, func(t *testing.T, v *vault) {
		var ops []store.Op
		for i := 0; len(ops) < 1100; i++ {
			op := audit.Entry{Tenant: "crowd", At: time.Now().UnixMicro() + int64(i), Action: "test", ResourceType: "thing", ResourceID: fmt.Sprint(i)}.Op()
			if audit.LogKey(op.Key, 0).PK == audit.LogPartition(0) {
				ops = append(ops, op)
			}
		}
		for some := range slices.Chunk(ops, 100) {
			if err := v.table.Write(t.Context(), some...); err != nil {
				t.Fatal(err)
			}
		}
		s := *v.plane.Sealer
		s.Clock = &leaping{leap: true}
		did, err := s.Run(t.Context())
		if !errors.Is(err, chain.ErrBehind) || did.Entries != 1000 || did.Blocks != 1 {
			t.Errorf("%+v, %v", did, err)
		}
		s.Clock = &leaping{}
		if did, err = s.Run(t.Context()); err != nil || did.Entries != 100 {
			t.Errorf("%+v, %v", did, err)
		}
		if verdict := v.verify(nil); len(verdict.Findings) != 0 {
			t.Errorf("findings %v", verdict.Findings)
		}
	})
}

// What has expired is in the blocks still.
func TestBlocksOutliveJobs(t *testing.T) {
	cfg := everyMinute()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		id := waits(r)
		r.post("/api/v1/jobs/"+id+"/cancel", nil).ok(200)
		time.Sleep(10 * time.Minute)
		r.hibernate(cfg, 9*24*time.Hour)
		time.Sleep(10 * time.Minute)
		verdict := r.verify(nil)
		if len(verdict.Findings) != 0 || verdict.Expired != 1 || verdict.Compared != 1 {
			t.Errorf("verdict %+v", verdict)
		}
		var d job.Decision
		for e, err := range chain.List(t.Context(), r.plane.Dispatcher.Jobs.Table, r.plane.Dispatcher.Jobs.Blobs, time.Now()) {
			if err != nil {
				t.Fatal(err)
			}
			if e.PK == job.Partition(id) {
				if err := json.Unmarshal(e.Decision, &d); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d.By == nil || d.By.Cause != "submit" || d.Verdict != "REQUIRE_APPROVAL" {
			t.Errorf("the decision of the job that has gone: %+v", d)
		}
	})
}
