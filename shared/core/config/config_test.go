package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// large is a valid section of pools that no item holds.
func large() string {
	var topics strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&topics, `"job.t%d":"a",`, i)
	}
	return `{"topics":{` + topics.String() + `"job.x":"b"}}`
}

// What was last valid is kept, however large, for processes that start while something is not.
func TestALargeSectionThatWasLastValid(t *testing.T) {
	p := embeddedtest.Open(t)
	s := &config.Store{Table: p.Table(), Blobs: p.Blobs()}
	put := func(data string) {
		t.Helper()
		d, err := s.Get(t.Context(), config.SystemScope, config.DefaultID)
		if err != nil {
			t.Fatal(err)
		}
		d.Data = json.RawMessage(data)
		if _, err := s.Put(t.Context(), d, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	put(`{"pools":` + large() + `}`)
	put(`{"pools":7}`)
	now, err := config.NewSettings(s, clock.System{}, slog.New(slog.DiscardHandler)).Current(t.Context())
	if err != nil || len(now.Topology.Pools()) != 2 {
		t.Errorf("%v, %v", now, err)
	}
}

// An item of the release before has its data and nothing else.
func TestADocumentOfTheReleaseBefore(t *testing.T) {
	p := embeddedtest.Open(t)
	err := p.Table().Write(t.Context(), store.Put(store.Item{
		Key: store.Key{PK: "CFG#org#acme", SK: "D"}, Attrs: store.Attrs{"data": []byte(`{"a":1}`), "rev": int64(3), "up": int64(1_700_000_000_000_001)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	s := &config.Store{Table: p.Table(), Blobs: p.Blobs()}
	d, err := s.Get(t.Context(), config.OrgScope, "acme")
	if err != nil || string(d.Data) != `{"a":1}` || d.Revision != 3 || d.Meta != nil || d.UpdatedAt.UnixMicro() != 1_700_000_000_000_001 {
		t.Errorf("%+v, %v", d, err)
	}
	if n, err := s.Put(t.Context(), d, time.Now()); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.Put(t.Context(), d, time.Now()); !errors.Is(err, config.ErrConflict) {
		t.Errorf("written from an old revision: %v", err)
	}
}

func TestEnsurePools(t *testing.T) {
	p := embeddedtest.Open(t)
	queues := p.Queues()
	if err := queues.Ensure(t.Context(), resources.Queues()...); err != nil {
		t.Fatal(err)
	}
	there := func(pool string) bool {
		_, err := queues.Depth(t.Context(), resources.Pool(pool))
		return !errors.Is(err, queue.ErrUnknownQueue)
	}
	const before = `{"pools":{"topics":{"job.a":"old"}}}`
	for _, after := range []string{`{}`, before, `{"pools":{"topics":{"job.a":"old","job.b":""}}}`, `{"pools":{"topics":7}}`} {
		if err := config.EnsurePools(t.Context(), nil, []byte(before), []byte(after)); err != nil { // nothing to make
			t.Errorf("%s: %v", after, err)
		}
	}
	after := []byte(`{"pools":{"topics":{"job.a":["old","one"]},"pools":{"two":{}}}}`)
	for range 2 {
		if err := config.EnsurePools(t.Context(), queues, []byte(before), after); err != nil {
			t.Fatal(err)
		}
	}
	if there("old") || !there("one") || !there("two") {
		t.Error("the queues are not those of the new pools")
	}
	if err := config.EnsurePools(t.Context(), queues, nil, after); err != nil || !there("old") {
		t.Errorf("%v", err)
	}
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprintf("job.m%d", i)] = fmt.Sprintf("m%d", i)
	}
	text, err := json.Marshal(map[string]any{"pools": map[string]any{"topics": many}})
	if err != nil {
		t.Fatal(err)
	}
	if err := config.EnsurePools(t.Context(), queues, nil, text); !fault.Is(err, fault.Invalid) || there("m0") {
		t.Errorf("%v", err)
	}
}

// What is too large for a packet does not travel with jobs; it is in force all the same.
func TestWhatTravelsWithJobs(t *testing.T) {
	for size, travels := range map[int]bool{1000: true, 1 << 20: false} {
		e, err := config.Merge([]config.Document{{
			Scope: config.SystemScope, Revision: 1,
			Data: json.RawMessage(`{"pools":{},"long":"` + strings.Repeat("x", size) + `","safety":{"denied_topics":["job.x"]}}`),
		}})
		if err != nil || (e.Workers != nil) != travels || e.Safety == nil || len(e.Data) < size {
			t.Errorf("%d: %d bytes travel, %v", size, len(e.Workers), err)
		}
	}
}

func TestLimitsAreMergedLikeTheRest(t *testing.T) {
	for org, want := range map[string]*schedule.Limits{
		`{}`:                                     {MaxConcurrentJobs: 9, QueueSize: 1},
		`{"limits":{"max_concurrent_jobs":"2"}}`: {MaxConcurrentJobs: 2, QueueSize: 1},
		`{"limits":{"max_concurrent_runs":3}}`:   {MaxConcurrentRuns: 3, QueueSize: 1},
		`{"limits":null,"rate_limits":{"concurrent_jobs":4,"queue_size":0}}`: {MaxConcurrentJobs: 4},
		`{"limits":[]}`: nil,
	} {
		e, err := config.Merge([]config.Document{
			{Scope: config.SystemScope, Revision: 1, Data: json.RawMessage(`{"limits":{"max_concurrent_jobs":9},"rate_limits":{"queue_size":1}}`)},
			{Scope: config.OrgScope, Revision: 1, Data: json.RawMessage(org)},
		})
		if err != nil || !reflect.DeepEqual(e.Limits, want) {
			t.Errorf("%s: %+v, %v; want %+v", org, e.Limits, err, want)
		}
	}
}

// reading counts the reads of several items.
type reading struct {
	store.Table

	reads int
}

func (r *reading) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	r.reads++
	return r.Table.BatchGet(ctx, keys)
}

// What a process remembers of configurations is bounded in bytes too: a tenant's documents may be large, and each of its subjects has a copy.
func TestLargeConfigurationsAreForgotten(t *testing.T) {
	p := embeddedtest.Open(t)
	table := &reading{Table: p.Table()}
	s := &config.Store{Table: table, Blobs: p.Blobs()}
	for scope, size := range map[string]int{config.OrgScope: 1 << 20, config.TeamScope: 10} {
		data := json.RawMessage(fmt.Sprintf(`{%q:%q}`, scope, strings.Repeat("x", size)))
		if _, err := s.Put(t.Context(), config.Document{Scope: scope, ID: config.ID(scope, "acme", "acme"), Data: data}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for step, reads := range map[string]int{"large": 2, "small": 1} {
		tenant := map[string]string{"large": "acme", "small": "other"}[step]
		r := &config.Resolver{Store: s}
		first := config.Subject{Tenant: tenant, Step: "first"}
		at := func(of config.Subject) int {
			before := table.reads
			if _, err := r.At(t.Context(), 1, of); err != nil {
				t.Fatal(err)
			}
			return table.reads - before
		}
		n := at(first)
		for i := range 33 {
			at(config.Subject{Tenant: tenant, Step: fmt.Sprint(i)})
		}
		if n += at(first); n != reads {
			t.Errorf("%s: read %d times, want %d", step, n, reads)
		}
	}
}
