package plane_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const locksPath = "/api/v1/locks"

// held is a lock as it is answered.
type held struct {
	Resource  string         `json:"resource"`
	Mode      string         `json:"mode"`
	Owners    map[string]int `json:"owners"`
	UpdatedAt time.Time      `json:"updated_at"`
	ExpiresAt time.Time      `json:"expires_at"`
	Token     int64          `json:"fencing_token"`
}

// lasts is how long a lock that was just changed lasts, as it is shown.
func (h held) lasts() time.Duration { return h.ExpiresAt.Sub(h.UpdatedAt) }

func (a answer) lock() (h held) {
	a.t.Helper()
	a.ok(200).json(&h)
	return h
}

// acquire takes a lock; more are name, value pairs.
func (r *rig) acquire(resource, owner string, more ...any) answer {
	r.t.Helper()
	return r.post(locksPath+"/acquire", pairs(append([]any{"resource", resource, "owner", owner}, more...)...))
}

func (r *rig) release(resource, owner string) answer {
	r.t.Helper()
	return r.post(locksPath+"/release", pairs("resource", resource, "owner", owner))
}

func (r *rig) renew(resource, owner string, ms int64) answer {
	r.t.Helper()
	return r.post(locksPath+"/renew", pairs("resource", resource, "owner", owner, "ttl_ms", ms))
}

func (r *rig) locked(resource string) answer {
	r.t.Helper()
	return r.get(locksPath + "?resource=" + url.QueryEscape(resource))
}

// left is the lock that a release leaves, nil when it leaves none.
func (a answer) left() *held {
	a.t.Helper()
	var body struct {
		Lock     *held `json:"lock"`
		Released bool  `json:"released"`
	}
	if a.ok(200).json(&body); !body.Released {
		a.t.Errorf("not released: %s", a.Body)
	}
	return body.Lock
}

// free checks that nobody holds a resource, and that the answer to a release said so.
func (r *rig) free(resource string, released answer) {
	r.t.Helper()
	if released.ok(200).Body != `{"lock":null,"released":true}` {
		r.t.Errorf("released: %s", released.Body)
	}
	r.locked(resource).refused(404, "lock not found")
}

func TestT133_AnExclusiveLockIsOneOwners(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first := r.acquire("db:main", "a")
		token := first.lock().Token
		want := fmt.Sprintf(`{"resource":"db:main","mode":"exclusive","owners":{"a":1},"updated_at":"2026-11-23T12:00:00Z","expires_at":"2026-11-23T12:00:30Z",`+
			`"fencing_token":%d}`, token)
		if first.Body != want {
			t.Errorf("acquired:\n%s\nwant\n%s", first.Body, want)
		}
		for _, mode := range []string{"exclusive", "shared"} {
			r.acquire("db:main", "b", "mode", mode).refused(409, "lock unavailable")
		}
		if got := r.locked("db:main").ok(200).Body; got != want {
			t.Errorf("got %s", got)
		}
		r.free("db:main", r.release("db:main", "a"))
		if h := r.acquire("db:main", "b").lock(); h.Owners["b"] != 1 || len(h.Owners) != 1 || h.Token <= token {
			t.Errorf("after the release: %+v", h)
		}
	})
}

func TestT134_ALockIsHeldAsOftenAsItWasTaken(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		token := r.acquire("x", "a").lock().Token
		time.Sleep(10 * time.Second)
		if h := r.acquire("x", "a", "ttl_ms", 60_000).lock(); h.Owners["a"] != 2 || h.lasts() != time.Minute || h.Token != token {
			t.Errorf("taken twice: %+v", h)
		}
		if h := r.acquire("x", "a", "ttl_ms", 5_000, "mode", "shared").lock(); h.Owners["a"] != 3 || h.Mode != "exclusive" || h.lasts() != 5*time.Second {
			t.Errorf("shared with himself: %+v", h)
		}
		time.Sleep(2 * time.Second)
		for n := 2; n > 0; n-- {
			if h := r.release("x", "a").left(); h == nil || h.Owners["a"] != n || h.Token != token || h.lasts() != 3*time.Second {
				t.Errorf("%d left: %+v", n, h)
			}
			r.acquire("x", "b").refused(409, "lock unavailable")
		}
		r.free("x", r.release("x", "a"))
	})
}

func TestT135_SharedLocksGoTogether(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		token := r.acquire("x", "a", "mode", "shared").lock().Token
		if h := r.acquire("x", "b", "mode", "shared").lock(); h.Mode != "shared" || !maps.Equal(h.Owners, map[string]int{"a": 1, "b": 1}) || h.Token != token {
			t.Errorf("shared: %+v", h)
		}
		for _, owner := range []string{"a", "c"} {
			r.acquire("x", owner, "mode", "exclusive").refused(409, "lock unavailable")
		}
		if h := r.release("x", "a").left(); h == nil || !maps.Equal(h.Owners, map[string]int{"b": 1}) {
			t.Errorf("released by a: %+v", h)
		}
		r.acquire("x", "c").refused(409, "lock unavailable")
		r.free("x", r.release("x", "b"))
		if h := r.acquire("x", "c").lock(); h.Token <= token {
			t.Errorf("token %d after %d", h.Token, token)
		}
	})
}

func TestT136_TheOnlyOneWhoSharesALockMayHaveIt(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.acquire("x", "a", "mode", "shared", "ttl_ms", 60_000).ok(200)
		token := r.acquire("x", "b", "mode", "shared").lock().Token
		r.release("x", "b").ok(200)
		h := r.acquire("x", "a", "ttl_ms", 10_000).lock()
		if h.Mode != "exclusive" || !maps.Equal(h.Owners, map[string]int{"a": 2}) || h.lasts() != 10*time.Second {
			t.Errorf("upgraded: %+v", h)
		}
		if h.Token <= token {
			t.Error("what b still sends of what he shared has the token of what a has for himself")
		}
		r.acquire("x", "b", "mode", "shared").refused(409, "lock unavailable")
		if h := r.release("x", "a").left(); h == nil || h.Mode != "exclusive" {
			t.Errorf("a lock is not downgraded: %+v", h)
		}
	})
}

func TestT137_WhoJoinsDoesNotShortenALock(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		until := r.acquire("x", "a", "mode", "shared", "ttl_ms", 60_000).lock().ExpiresAt
		if h := r.acquire("x", "b", "mode", "shared", "ttl_ms", 1_000).lock(); !h.ExpiresAt.Equal(until) {
			t.Errorf("joined for a second: %+v", h)
		}
		if h := r.renew("x", "b", 1_000).lock(); !h.ExpiresAt.Equal(until) {
			t.Errorf("renewed for a second: %+v", h)
		}
		if h := r.acquire("x", "b", "mode", "shared", "ttl_ms", 90_000).lock(); h.lasts() != 90*time.Second {
			t.Errorf("joined for longer: %+v", h)
		}
	})
}

func TestT138_OnlyItsOwnerReleasesALock(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.free("x", r.release("x", "a"))
		before := r.acquire("x", "a").ok(200).Body
		r.release("x", "stranger").refused(409, "lock not held")
		if got := r.locked("x").ok(200).Body; got != before {
			t.Errorf("the stranger left %s", got)
		}
		r.free("x", r.release("x", "a"))
		r.free("x", r.release("x", "a"))
	})
}

func TestT139_OnlyAHeldLockIsRenewed(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.renew("x", "a", 1_000).refused(404, "lock not held")
		token := r.acquire("x", "a", "ttl_ms", 60_000).lock().Token
		r.renew("x", "b", 1_000).refused(404, "lock not held")
		time.Sleep(time.Second)
		for ms, want := range map[int64]time.Duration{90_000: 90 * time.Second, 10_000: 10 * time.Second, 0: 30 * time.Second} {
			if h := r.renew("x", "a", ms).lock(); h.lasts() != want || h.Owners["a"] != 1 || h.Token != token || !h.UpdatedAt.Equal(time.Now()) {
				t.Errorf("renewed for %d ms: %+v", ms, h)
			}
		}
		r.renew("x", "a", 10_000).ok(200)
		time.Sleep(10 * time.Second)
		r.renew("x", "a", 10_000).refused(404, "lock not held")
	})
}

func TestT140_WhatARequestDoesNotSay(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const second, day = time.Second, 24 * time.Hour
		for i, c := range []struct {
			ttl  any
			want time.Duration
		}{
			{nil, 30 * second}, {0, 30 * second}, {-1, 30 * second}, {json.Number("-9223372036854775808"), 30 * second}, {1, second}, {999, second},
			{1_000, second}, {86_400_000, day}, {86_400_001, day}, {json.Number("9223372036854775807"), day},
		} {
			more := []any{"ttl_ms", c.ttl}
			if c.ttl == nil {
				more = nil
			}
			if h := r.acquire(fmt.Sprintf("ttl-%d", i), "a", more...).lock(); h.lasts() != c.want {
				t.Errorf("ttl_ms %v lasts %v, want %v", c.ttl, h.lasts(), c.want)
			}
		}
		for i, mode := range []any{nil, "", "write", "SHARED", "exclusive"} {
			more := []any{"mode", mode}
			if mode == nil {
				more = nil
			}
			if h := r.acquire(fmt.Sprintf("mode-%d", i), "a", more...).lock(); h.Mode != "exclusive" {
				t.Errorf("mode %v is %s", mode, h.Mode)
			}
		}
		if h := r.acquire(" x ", "\ta\n").lock(); h.Resource != "x" || h.Owners["a"] != 1 {
			t.Errorf("names are trimmed: %+v", h)
		}
		r.locked(" x").ok(200)
		r.free("x", r.release("x ", " a"))
	})
}

// Whatever DynamoDB has not deleted yet: what the plane stores of a lock outlives it by weeks.
func TestT141_ALockWhoseTimeIsOverIsFree(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		token := r.acquire("x", "a", "ttl_ms", 1_000).lock().Token
		r.acquire("x", "a").ok(200)
		time.Sleep(30*time.Second - time.Millisecond)
		r.acquire("x", "b").refused(409, "lock unavailable")
		time.Sleep(time.Millisecond)
		r.locked("x").refused(404, "lock not found")
		r.renew("x", "a", 1_000).refused(404, "lock not held")
		if got := r.listed("k-viewer", ""); len(got) != 0 {
			t.Errorf("listed: %v", got)
		}
		if h := r.acquire("x", "b", "mode", "shared").lock(); !maps.Equal(h.Owners, map[string]int{"b": 1}) || h.Mode != "shared" || h.Token <= token {
			t.Errorf("taken: %+v", h)
		}
	})
}

// Who held a lock once cannot end the tenure of who holds it now, and his transaction, which depends on his own, is refused.
func TestT142_WhoHeldALockOnceDoesNotDisturbWhoHoldsIt(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		locks := &lock.Store{Table: r.plane.Dispatcher.Jobs.Table, Clock: r.plane.Dispatcher.Clock}
		core, err := locks.Acquire(t.Context(), "default", "job:1", "scheduler-1", lock.Exclusive, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		write := func(by lock.Lock, value string) error {
			return locks.Table.Write(t.Context(), by.StillHeld(), store.Put(store.Item{Key: store.Key{PK: "test", SK: "x"}, Attrs: store.Attrs{"v": value}}))
		}
		if err := write(core, "in time"); err != nil {
			t.Error(err)
		}
		time.Sleep(31 * time.Second)
		if err := write(core, "late, and nobody took it"); err != nil {
			t.Error(err)
		}
		h := r.acquire("job:1", "scheduler-2").lock()
		if h.Token <= core.Token {
			t.Errorf("token %d after %d", h.Token, core.Token)
		}
		if err := write(core, "too late"); !store.Overtaken(err) {
			t.Errorf("who holds it no more wrote: %v", err)
		}
		r.release("job:1", "scheduler-1").refused(409, "lock not held")
		r.renew("job:1", "scheduler-1", 1_000).refused(404, "lock not held")
		if now := r.locked("job:1").lock(); !maps.Equal(now.Owners, h.Owners) || now.Token != h.Token {
			t.Errorf("%+v was %+v", now, h)
		}
		if it, err := locks.Table.Get(t.Context(), store.Key{PK: "test", SK: "x"}); err != nil || it.Attrs.String("v") != "late, and nobody took it" {
			t.Errorf("written: %v, %v", it, err)
		}
	})
}

func (r *rig) listed(key, query string) []string {
	r.t.Helper()
	var page struct{ Items []held }
	r.as(key, "GET", locksPath+"/list"+query, nil).ok(200).json(&page)
	names := make([]string, len(page.Items))
	for i, h := range page.Items {
		names[i] = h.Resource
	}
	return names
}

// A lock of another tenant is one that nobody holds, whatever is done to it; those of packs are of all tenants.
func TestLocksAreOfATenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		other := func(path string, body any) answer { return r.as("k-other", "POST", locksPath+path, body) }
		ours := r.acquire("db", "a").ok(200).Body
		name := pairs("resource", "db", "owner", "a")
		r.as("k-other", "GET", locksPath+"?resource=db", nil).refused(404, "lock not found")
		other("/renew", name).refused(404, "lock not held")
		if got := other("/release", name).ok(200).Body; got != `{"lock":null,"released":true}` {
			t.Errorf("released by another tenant: %s", got)
		}
		other("/acquire", pairs("resource", "db", "owner", "theirs")).ok(200)
		if got := r.locked("db").ok(200).Body; got != ours {
			t.Errorf("ours is %s now", got)
		}
		r.as("k-cross", "GET", locksPath+"?resource=db", nil, "X-Tenant-ID", "other").ok(200)
		for _, resource := range []string{"packs:global", "pack:hello"} {
			r.acquire(resource, "a").ok(200)
			other("/acquire", pairs("resource", resource, "owner", "b")).refused(409, "lock unavailable")
			if h := r.as("k-other", "GET", locksPath+"?resource="+resource, nil).lock(); h.Owners["a"] != 1 {
				t.Errorf("%s is %+v", resource, h)
			}
			if got := other("/release", pairs("resource", resource, "owner", "a")).left(); got != nil {
				t.Errorf("%s, released: %+v", resource, got)
			}
		}
	})
}

func TestRolesOfLocks(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.acquire("x", "a").ok(200)
		body := pairs("resource", "x", "owner", "a")
		for _, key := range []string{"k-operator", "k-user", "k-viewer"} {
			r.as(key, "GET", locksPath+"?resource=x", nil).ok(200)
			if got := r.listed(key, ""); !slices.Equal(got, []string{"x"}) {
				t.Errorf("%s lists %v", key, got)
			}
			for _, path := range []string{"/acquire", "/release", "/renew"} {
				r.as(key, "POST", locksPath+path, body).refused(403, "access denied")
			}
		}
		r.as("k-worker-default", "GET", locksPath+"?resource=x", nil).refused(403, "access denied")
		r.as("k-worker-default", "GET", locksPath+"/list", nil).refused(403, "access denied")
	})
}

func TestBadInputOfLocks(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, path := range []string{"/acquire", "/release", "/renew"} {
			for _, bad := range []string{"", "nonsense", "[]", `{"resource":1,"owner":"a"}`, `{"resource":"x","owner":"a"} x`} {
				r.post(locksPath+path, bad).refused(400, "invalid json")
			}
			for _, names := range []map[string]any{pairs(), pairs("resource", "x"), pairs("owner", "a"), pairs("resource", " ", "owner", "a"), pairs("resource", "x", "owner", "\t")} {
				r.post(locksPath+path, names).refused(400, "resource and owner required")
			}
			for _, names := range []map[string]any{pairs("resource", strings.Repeat("x", 257), "owner", "a"), pairs("resource", "x", "owner", strings.Repeat("ż", 129))} {
				r.post(locksPath+path, names).refused(400, "resource and owner must be UTF-8 of at most 256 bytes")
			}
		}
		for _, query := range []string{"", "?resource=", "?resource=%20"} {
			r.get(locksPath+query).refused(400, "resource required")
		}
		for _, resource := range []string{"x", "%ff", strings.Repeat("x", 257)} {
			r.get(locksPath+"?resource="+resource).refused(404, "lock not found")
		}
		for _, resource := range []string{strings.Repeat("x", 256), strings.Repeat("#", 256), "a/b?c=d&e%20#f", "中 ż", "\x00"} {
			owner := strings.Repeat("%", 256)
			r.acquire(resource, owner).ok(200)
			if h := r.locked(resource).lock(); h.Resource != resource || h.Owners[owner] != 1 {
				t.Errorf("%q is %+v", resource, h)
			}
			r.free(resource, r.release(resource, owner))
		}
	})
}

func TestALockIsNotTakenWithoutEnd(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for range 256 {
			r.acquire("x", "a").ok(200)
		}
		r.acquire("x", "a").refused(409, "lock is held 256 times by this owner; release it first")
		if h := r.locked("x").lock(); h.Owners["a"] != 256 {
			t.Errorf("held %d times", h.Owners["a"])
		}
		long := strings.Repeat("o", 250)
		for i := range 256 {
			r.acquire("y", fmt.Sprintf("%s%d", long, i), "mode", "shared").ok(200)
		}
		r.acquire("y", "one more", "mode", "shared").refused(409, "lock is shared by 256 owners; retry later")
		r.acquire("y", long+"7", "mode", "shared").ok(200)
	})
}

func TestTheListOfLocks(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		if got := r.get(locksPath + "/list").ok(200).Body; got != `{"items":[]}` {
			t.Errorf("nothing is %s", got)
		}
		var all []string
		for i := range 120 {
			all = append(all, fmt.Sprintf("db:%03d", i))
		}
		all = append(all, "p", "pack:hello", "packs:global", "packss", "q")
		for _, resource := range slices.Backward(all) { // a day, so that some end tomorrow
			r.acquire(resource, "a", "ttl_ms", 86_400_000).ok(200)
		}
		r.acquire("gone", "a").ok(200)
		r.release("gone", "a").ok(200)
		r.acquire("over", "a", "ttl_ms", 1_000).ok(200)
		r.acquire("db:007", "a", "ttl_ms", 3_600_000).ok(200) // ends today
		r.as("k-other", "POST", locksPath+"/acquire", pairs("resource", "db:other", "owner", "a")).ok(200)
		time.Sleep(2 * time.Second)
		for query, want := range map[string][]string{
			"": all[:100], "?limit=3": all[:3], "?limit=500": all, "?limit=0": all[:100], "?limit=x": all[:100], "?prefix=db:00": all[:10],
			"?prefix=p": all[120:124], "?prefix=pack": all[121:124], "?prefix=pack:": all[121:122], "?prefix=packs:": all[122:123], "?prefix=packss": all[123:124],
			"?prefix=q&limit=1": all[124:], "?prefix=over": {}, "?prefix=gone": {}, "?prefix=" + strings.Repeat("x", 3000): {}, "?prefix=%ff": {},
		} {
			if got := r.listed("k-viewer", query); !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v", query, got, want)
			}
		}
		if got := r.listed("k-other", ""); !slices.Equal(got, []string{"db:other", "pack:hello", "packs:global"}) {
			t.Errorf("another tenant lists %v", got)
		}
		var page struct{ Items []json.RawMessage }
		r.get(locksPath + "/list?prefix=db:001").ok(200).json(&page)
		if one := r.locked("db:001").ok(200).Body; len(page.Items) != 1 || string(page.Items[0]) != one {
			t.Errorf("listed as %s, and alone it is %s", page.Items, one)
		}
		time.Sleep(23 * time.Hour)
		if got := r.listed("k-viewer", "?limit=500"); slices.Contains(got, "db:007") || len(got) != 124 {
			t.Errorf("a day later: %v", got)
		}
	})
}

var lockExample = regexp.MustCompile("(?s)```json (GET|POST) (\\S+) (\\d+)\n(.*?)```")

// TestTheExamplesOfTheGuideToLocks plays the requests of docs/locks.md, one after the other, as they stand there.
func TestTheExamplesOfTheGuideToLocks(t *testing.T) {
	text, err := os.ReadFile("../../docs/locks.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := lockExample.FindAllStringSubmatch(string(text), -1)
	if len(examples) < 6 {
		t.Fatalf("%d examples", len(examples))
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, e := range examples {
			body, want, _ := strings.Cut(e[4], "→ ")
			if got := r.as("k-admin", e[1], e[2], body); fmt.Sprint(got.Status) != e[3] || got.Body != strings.TrimSpace(want) {
				t.Errorf("%s %s: %d\n%s\nwant %s\n%s", e[1], e[2], got.Status, got.Body, e[3], want)
			}
		}
	})
}

// Of many who want a lock at once one has it at a time, and of those who share it each is counted.
func TestLocksThatAreTakenAtOnce(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var all sync.WaitGroup
		var mu sync.Mutex
		took := map[int]int{}
		for i := range 16 {
			all.Go(func() {
				got := r.acquire("one", fmt.Sprint(i))
				r.acquire("all", fmt.Sprint(i%4), "mode", "shared").ok(200)
				mu.Lock()
				defer mu.Unlock()
				took[got.Status]++
			})
		}
		all.Wait()
		if !maps.Equal(took, map[int]int{200: 1, 409: 15}) {
			t.Errorf("statuses %v", took)
		}
		if h := r.locked("all").lock(); !maps.Equal(h.Owners, map[string]int{"0": 4, "1": 4, "2": 4, "3": 4}) {
			t.Errorf("shared: %+v", h)
		}
	})
}
