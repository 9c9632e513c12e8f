package rate_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/rate"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// usual is the rate of a tenant, address that of an address on public routes.
var (
	usual   = rate.Rate{PerSecond: 2000, Burst: 4000}
	address = rate.Rate{PerSecond: 20, Burst: 40}
)

// spy counts writes, and takes the table out of reach.
type spy struct {
	store.Table

	writes atomic.Int64
	down   atomic.Bool
	slow   time.Duration
}

func (s *spy) Update(ctx context.Context, op store.Op) (store.Item, error) {
	s.writes.Add(1)
	time.Sleep(s.slow)
	if s.down.Load() {
		return store.Item{}, store.ErrUnavailable
	}
	return s.Table.Update(ctx, op)
}

func shared(t *testing.T, test func(*testing.T, *spy)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
		p, err := embedded.Open("", embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, &spy{Table: p.Table(), slow: 5 * time.Millisecond})
	})
}

// instances are processes that share a table.
func instances(n int, r rate.Rate, s *spy) []*rate.Limiter {
	all := make([]*rate.Limiter, n)
	for i := range all {
		all[i] = rate.New("t", r)
		all[i].Share(s)
	}
	return all
}

// load has every instance ask perSecond times a second, for so long, and answers how many of how many were let through.
func load(all []*rate.Limiter, key string, perSecond int, d time.Duration) (got, of int) {
	var through, asked atomic.Int64
	var asking sync.WaitGroup
	for i, l := range all {
		asking.Go(func() {
			every := time.Second / time.Duration(perSecond)
			time.Sleep(every * time.Duration(i) / time.Duration(len(all)))
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
				asked.Add(1)
				if l.Allow(context.Background(), key, time.Now()) {
					through.Add(1)
				}
			}
		})
	}
	asking.Wait()
	return int(through.Load()), int(asked.Load())
}

// Several instances together stay within the limit, a tenant's and an address's, and use most of it. The error is stated with the package: at most a share
// and a block for each instance above, and what nobody used below.
func TestInstancesTogetherStayWithinTheLimit(t *testing.T) {
	for _, c := range []struct {
		name      string
		rate      rate.Rate
		instances int
		perSecond int // of each
		below     float64
	}{
		{"a few busy ones", usual, 5, 1000, 0.97},
		{"many", usual, 40, 100, 0.90},
		{"very many", usual, 200, 20, 0.85},
		{"an address", address, 20, 10, 0.97},
	} {
		t.Run(c.name, func(t *testing.T) {
			shared(t, func(t *testing.T, s *spy) {
				const seconds = 10
				all := instances(c.instances, c.rate, s)
				got, asked := load(all, "a", c.perSecond, seconds*time.Second)
				limit := c.rate.Burst + c.rate.PerSecond*seconds
				most := limit + c.instances*(c.rate.Burst/400+max(c.rate.Burst/40, 1))
				least := int(c.below * float64(limit))
				t.Logf("%d of %d were let through, the limit is %d; %d writes", got, asked, limit, s.writes.Load())
				if got > most || got < least {
					t.Errorf("%d were let through, %d to %d are allowed", got, least, most)
				}
				if got > limit*105/100 {
					t.Errorf("that is %.1f %% above the limit", 100*float64(got-limit)/float64(limit))
				}
			})
		})
	}
}

// What one uses up is nobody else's, and who asks for less than the rate is never refused.
func TestOneTenantsBurstSlowsNoOther(t *testing.T) {
	shared(t, func(t *testing.T, s *spy) {
		all := instances(10, usual, s)
		var loud, calm, asked int
		var both sync.WaitGroup
		both.Go(func() { loud, _ = load(all, "loud", 1000, 5*time.Second) })
		both.Go(func() { calm, asked = load(all, "calm", 150, 5*time.Second) })
		both.Wait()
		if calm != asked {
			t.Errorf("of a calm tenant's %d requests %d were let through", asked, calm)
		}
		if loud > 4000+2000*5+1500 {
			t.Errorf("of a loud one's %d", loud)
		}
	})
}

// A quiet tenant costs nothing, a busy one a write for many requests.
func TestWhatALimitCosts(t *testing.T) {
	for _, c := range []struct {
		name      string
		perSecond int
		instances int
		most      float64 // writes a request
	}{
		{"one request every ten seconds", 0, 1, 0},
		{"a person who clicks", 2, 1, 0.15},
		{"busy", 100, 1, 0.1},
		{"very busy", 100, 15, 0.1},
	} {
		t.Run(c.name, func(t *testing.T) {
			shared(t, func(t *testing.T, s *spy) {
				all := instances(c.instances, usual, s)
				asked := 0
				if c.perSecond == 0 {
					for range 30 {
						if !all[0].Allow(t.Context(), "a", time.Now()) {
							t.Error("refused")
						}
						asked++
						time.Sleep(10 * time.Second)
					}
				} else {
					_, asked = load(all, "a", c.perSecond, 20*time.Second)
				}
				per := float64(s.writes.Load()) / float64(asked)
				fmt.Printf("cost rates %-30s %.3f writes_a_request\n", c.name, per)
				if per > c.most {
					t.Errorf("%.3f writes a request", per)
				}
			})
		})
	}
}

// While the table is out of reach each process lets through its share, without asking again and again; afterwards all is as it was.
func TestTheTableIsOutOfReach(t *testing.T) {
	shared(t, func(t *testing.T, s *spy) {
		all := instances(4, usual, s)
		s.down.Store(true)
		got, _ := load(all, "a", 500, 5*time.Second)
		if most := 4 * (400 + 200*5 + 10); got > most || got < most*9/10 {
			t.Errorf("%d were let through, not about %d", got, most)
		}
		if n := s.writes.Load(); n > 4*6 {
			t.Errorf("the table was asked %d times", n)
		}
		s.down.Store(false)
		time.Sleep(2 * time.Second)
		if got, asked := load(all, "a", 100, 5*time.Second); got != asked {
			t.Errorf("then %d of %d were let through", got, asked)
		}
	})
}

// A bucket that was emptied is full again after a pause, and one of a rate that is small is exact.
func TestASmallRateIsExact(t *testing.T) {
	shared(t, func(t *testing.T, s *spy) {
		all := instances(3, rate.Rate{PerSecond: 1, Burst: 3}, s)
		ask := func(want string) {
			t.Helper()
			got := ""
			for i := range 5 {
				if all[i%3].Allow(t.Context(), "a", time.Now()) {
					got += "y"
				} else {
					got += "n"
				}
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		ask("yyynn")
		time.Sleep(time.Second)
		ask("ynnnn")
		time.Sleep(10 * time.Second)
		ask("yyynn")
	})
}
