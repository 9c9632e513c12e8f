package lock_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Locks are linearizable: whatever goes wrong, there is an order of all operations, which agrees with the time at which each was asked for and answered, in
// which each answers what the table of core.md 6 says. That table is written down here once more, over three owners; the time that an operation read is a part
// of what it was asked for, since clocks may say what they like.

var owners = []string{"a", "b", "c"}

// state is that of one resource. It is comparable.
type state struct {
	shared           bool
	counts           [3]int
	updated, expires int64
	token            int64
}

func (s state) free(at int64) bool { return s.counts == [3]int{} || at >= s.expires }

func (s state) others(owner int) bool {
	s.counts[owner] = 0
	return s.counts != [3]int{}
}

// asked is an operation.
type asked struct {
	kind     string
	resource string
	owner    int
	shared   bool
	ttl      time.Duration
	at       int64 // the time that it read last, in microseconds
}

// answered is what came of it: a refusal, or the resource as it was left, nothing where it is free; lost says that nobody heard.
type answered struct {
	lost    bool
	refusal error
	free    bool
	state   state
}

// next is the specification.
func next(s state, in asked) (state, answered) {
	free, others := s.free(in.at), s.others(in.owner)
	ends := in.at + in.ttl.Microseconds()
	switch in.kind {
	case "get":
		if free {
			return s, answered{refusal: lock.ErrNotFound}
		}
		return s, answered{state: s}
	case "acquire":
		switch {
		case free:
			s = state{shared: in.shared, expires: ends, token: max(s.token+1, in.at)}
		case others && !(s.shared && in.shared):
			return s, answered{refusal: lock.ErrUnavailable}
		case s.shared && in.shared:
			s.expires = max(s.expires, ends)
		case s.shared:
			s.shared, s.expires, s.token = false, ends, max(s.token+1, in.at)
		default:
			s.expires = ends
		}
		s.counts[in.owner]++
	case "release":
		switch {
		case free:
			return s, answered{free: true}
		case s.counts[in.owner] == 0:
			return s, answered{refusal: lock.ErrNotHeld}
		}
		if s.counts[in.owner]--; s.counts == [3]int{} {
			s = state{token: s.token}
			return s, answered{free: true}
		}
	case "renew":
		switch {
		case free || s.counts[in.owner] == 0:
			return s, answered{refusal: lock.ErrNotHeld}
		case others:
			s.expires = max(s.expires, ends)
		default:
			s.expires = ends
		}
	}
	s.updated = in.at
	return s, answered{state: s}
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			resource := op.Input.(asked).resource
			by[resource] = append(by[resource], op)
		}
		return slices.Collect(maps.Values(by))
	},
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) {
		after, want := next(s.(state), in.(asked))
		got := out.(answered)
		return got.lost || got == want, after
	},
}

// skewed is the clock of a process, which jumps, as an operation reads it.
type skewed struct {
	process *atomic.Int64 // how much it is ahead, in microseconds
	last    int64
}

func (c *skewed) Now() time.Time {
	now := time.Now().Add(time.Duration(c.process.Load()) * time.Microsecond)
	c.last = now.UnixMicro()
	return now
}

// insistent is a table that sends a write whose answer is lost once more, as AWS's SDK does: its caller hears of a refusal by what he wrote himself.
type insistent struct{ store.Table }

func (i insistent) Write(ctx context.Context, ops ...store.Op) error {
	err := i.Table.Write(ctx, ops...)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = i.Table.Write(ctx, ops...)
	}
	return err
}

// plan says how a history is made. Every other one is dense: nobody waits between his operations.
type plan struct {
	seed uint64
	// weaken takes something away from the store.
	weaken func(*lock.Store)
}

const (
	clients = 9
	rounds  = 20
)

// play makes a history: clients of several processes at few resources.
func (p plan) play(t *testing.T) []porcupine.Operation {
	t.Helper()
	var (
		moment  atomic.Int64
		mu      sync.Mutex
		history []porcupine.Operation
	)
	synctest.Test(t, func(t *testing.T) {
		platform, err := embedded.Open("", embedded.Options{Memory: true, Unruly: p.seed})
		if err != nil {
			t.Fatal(err)
		}
		faults := chaos.New(chaos.Profile{Errors: 0.05, Cruel: 0.15, Delays: 0.3, MaxDelay: 200 * time.Millisecond, Seed: p.seed})
		table := faults.Table(platform.Table())
		clocks := make([]atomic.Int64, 3)
		var all sync.WaitGroup
		for client := range clients {
			all.Go(func() {
				dice := rand.New(rand.NewPCG(p.seed, uint64(client)))
				process := &clocks[client%len(clocks)]
				for range rounds {
					if p.seed%2 == 0 {
						time.Sleep(time.Duration(dice.IntN(1500)) * time.Millisecond)
					}
					if dice.IntN(10) == 0 {
						process.Store(dice.Int64N(20e6) - 10e6)
					}
					clock := &skewed{process: process}
					s := &lock.Store{Table: table, Clock: clock}
					if dice.IntN(2) == 0 {
						s.Table = insistent{s.Table}
					}
					if dice.IntN(15) == 0 {
						at := 1 + dice.IntN(4)
						s.Table = mortal.New([]mortal.Fate{mortal.DeathBefore, mortal.Death}[dice.IntN(2)], at).Table(s.Table)
					}
					if p.weaken != nil {
						p.weaken(s)
					}
					in := asked{
						kind:     []string{"get", "acquire", "acquire", "release", "renew"}[dice.IntN(5)],
						resource: []string{"x", "packs:global"}[dice.IntN(2)], owner: dice.IntN(len(owners)), shared: dice.IntN(2) == 0,
						ttl: time.Duration(1+dice.IntN(8)) * time.Second,
					}
					op := porcupine.Operation{ClientId: client, Call: moment.Add(1)}
					out := ask(t, s, in)
					op.Return = moment.Add(1)
					in.at = clock.last
					if out.lost { // it may have happened at any time since, or never: nobody looks after the end
						op.Return = math.MaxInt64
					}
					if out.lost && (in.kind == "get" || in.at == 0) {
						continue // it changed nothing
					}
					op.Input, op.Output = in, out
					mu.Lock()
					history = append(history, op)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if err := platform.Close(); err != nil {
			t.Error(err)
		}
	})
	return history
}

// ask makes an operation.
func ask(t *testing.T, s *lock.Store, in asked) (out answered) {
	ctx, owner, mode := t.Context(), owners[in.owner], "exclusive"
	if in.shared {
		mode = "shared"
	}
	tenant := []string{"default", "other"}[in.owner%2] // all meet at what is the plane's
	if in.resource == "x" {
		tenant = "default"
	}
	var l lock.Lock
	var err error
	switch in.kind {
	case "get":
		l, err = s.Get(ctx, tenant, in.resource)
	case "acquire":
		l, err = s.Acquire(ctx, tenant, in.resource, owner, mode, in.ttl)
	case "renew":
		l, err = s.Renew(ctx, tenant, in.resource, owner, in.ttl)
	case "release":
		var left *lock.Lock
		if left, err = s.Release(ctx, tenant, in.resource, owner); left != nil {
			l = *left
		} else if err == nil {
			return answered{free: true}
		}
	}
	for _, refusal := range []error{lock.ErrUnavailable, lock.ErrNotHeld, lock.ErrNotFound} {
		if errors.Is(err, refusal) {
			return answered{refusal: refusal}
		}
	}
	if err != nil {
		return answered{lost: true}
	}
	out.state = state{shared: l.Mode == lock.Shared, updated: l.UpdatedAt.UnixMicro(), expires: l.ExpiresAt.UnixMicro(), token: l.Token}
	for i, owner := range owners {
		out.state.counts[i] = l.Owners[owner]
	}
	return out
}

// tokensGrow checks, without the model, that no token is smaller than one that was answered before it was asked for.
func tokensGrow(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	for _, a := range history {
		for _, b := range history {
			before, after := a.Output.(answered).state.token, b.Output.(answered).state.token
			if a.Return < b.Call && after != 0 && after < before && a.Input.(asked).resource == b.Input.(asked).resource {
				t.Errorf("token %d, and then %d:\n%v", before, after, describe([]porcupine.Operation{a, b}))
			}
		}
	}
}

func describe(history []porcupine.Operation) string {
	var b strings.Builder
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, op := range history {
		fmt.Fprintf(&b, "%d-%d client %d: %+v -> %+v\n", op.Call, op.Return, op.ClientId, op.Input, op.Output)
	}
	return b.String()
}

func TestLocksAreLinearizable(t *testing.T) {
	seen := map[string]int{}
	for seed := uint64(1); seed <= 60; seed++ {
		history := plan{seed: seed}.play(t)
		switch porcupine.CheckOperationsTimeout(model, history, time.Minute) {
		case porcupine.Ok:
		case porcupine.Illegal:
			t.Fatalf("seed %d: no order explains\n%s", seed, describe(history))
		case porcupine.Unknown:
			t.Fatalf("seed %d: not decided within a minute", seed)
		}
		tokensGrow(t, history)
		for _, op := range history {
			in, out := op.Input.(asked), op.Output.(answered)
			seen[in.kind]++
			seen[fmt.Sprint(in.kind, ", lost: ", out.lost, ", refused: ", out.refusal != nil)]++
		}
	}
	for _, kind := range []string{"acquire", "release", "renew"} {
		for _, how := range []string{"lost: true, refused: false", "lost: false, refused: true", "lost: false, refused: false"} {
			if n := seen[kind+", "+how]; n < 20 {
				t.Errorf("only %d of %s, %s: the histories say little", n, kind, how)
			}
		}
	}
	t.Log(seen)
}

// What the store does without is found missing: otherwise the check above would prove nothing.
func TestWhatIsTakenAwayFromTheStoreIsMissed(t *testing.T) {
	var versions sync.Map
	for name, weaken := range map[string]func(*lock.Store){
		"conditions":                func(s *lock.Store) { s.Table = unconditional{s.Table} },
		"strongly consistent reads": func(s *lock.Store) { s.Table = &stale{s.Table, &versions, rand.New(rand.NewPCG(rand.Uint64(), 0))} },
		"who wrote last":            func(s *lock.Store) { s.Table = forgetful{s.Table} },
		"names of operations":       func(s *lock.Store) { s.IDs = ids.Source{Reader: zeros{}} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 60; seed++ {
				versions.Clear()
				history := plan{seed: seed, weaken: weaken}.play(t)
				if porcupine.CheckOperationsTimeout(model, history, 10*time.Second) == porcupine.Illegal {
					t.Logf("found with seed %d", seed)
					return
				}
			}
			t.Error("nobody misses it")
		})
	}
}

// unconditional writes whatever others did meanwhile.
type unconditional struct{ store.Table }

func (u unconditional) Write(ctx context.Context, ops ...store.Op) error {
	ops[0].Cond = store.Cond{}
	return u.Table.Write(ctx, ops...)
}

// stale reads every fourth time what it read before.
type stale struct {
	store.Table

	versions *sync.Map
	dice     *rand.Rand
}

func (s *stale) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if old, ok := s.versions.Load(key); ok && s.dice.IntN(4) == 0 {
		return old.(store.Item), nil
	}
	it, err := s.Table.Get(ctx, key)
	if err == nil {
		s.versions.Store(key, it)
	}
	return it, err
}

// forgetful does not keep which operation wrote an item.
type forgetful struct{ store.Table }

func (f forgetful) Write(ctx context.Context, ops ...store.Op) error {
	attrs := maps.Clone(ops[0].Item.Attrs)
	_, before, _ := strings.Cut(attrs.String("w"), " ")
	attrs["w"] = strings.TrimSpace(ids.Source{}.Hex(8) + " " + before)
	ops[0].Item.Attrs = attrs
	return f.Table.Write(ctx, ops...)
}

// zeros are no randomness at all.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
