package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var concurrentCases = []testCase{
	{"concurrent/conditional_increments_count_once", testIncrements},
	{"concurrent/adds_count_once", testAdds},
	{"concurrent/one_creator_wins", testOneCreator},
	{"concurrent/transfers_keep_the_sum", testTransfers},
}

// together runs f in n goroutines; f answers what went wrong.
func (s *suite) together(n int, f func(worker int) error) {
	s.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.Fatal(err)
	}
}

func testIncrements(s *suite) {
	const workers, each = 4, 10
	it := s.put(s.key("p", "s"), store.Attrs{"n": int64(0)})
	s.together(workers, func(int) error {
		for done := 0; done < each; {
			now, err := s.table.Get(s.ctx(), it.Key)
			if err != nil {
				return err
			}
			n := now.Attrs.Int("n")
			err = s.write(store.Update(it.Key).SetAttr("n", n+1).If(store.Equal("n", n)))
			var failed *store.ConditionError
			switch {
			case err == nil:
				done++
			case !errors.As(err, &failed):
				return err
			case failed.Old == nil || failed.Old.Attrs.Int("n") <= n:
				return fmt.Errorf("refused at %d, although the item is %+v", n, failed.Old)
			}
		}
		return nil
	})
	if got := s.mustGet(it.Key).Attrs.Int("n"); got != workers*each {
		s.Fatalf("got %d, want %d", got, workers*each)
	}
}

func testAdds(s *suite) {
	const workers, each = 8, 10
	key := s.key("p", "s")
	var mu sync.Mutex
	seen := map[int64]bool{}
	s.together(workers, func(int) error {
		for range each {
			it, err := s.update(store.Update(key).AddInt("n", 1))
			if err != nil {
				return err
			}
			mu.Lock()
			twice := seen[it.Attrs.Int("n")]
			seen[it.Attrs.Int("n")] = true
			mu.Unlock()
			if twice {
				return fmt.Errorf("two updates answered %d", it.Attrs.Int("n"))
			}
		}
		return nil
	})
	if got := s.mustGet(key).Attrs.Int("n"); got != workers*each {
		s.Fatalf("got %d, want %d", got, workers*each)
	}
}

func testOneCreator(s *suite) {
	for round := range 5 {
		var winners atomic.Int64
		key := s.key("p", fmt.Sprint(round))
		s.together(8, func(worker int) error {
			err := s.write(store.Put(store.Item{Key: key, Attrs: store.Attrs{"by": int64(worker)}}).If(store.NotExists()))
			if _, ok := errors.AsType[*store.ConditionError](err); ok {
				return nil
			}
			winners.Add(1)
			return err
		})
		if winners.Load() != 1 {
			s.Fatalf("%d creators won", winners.Load())
		}
	}
}

func testTransfers(s *suite) {
	const accounts, workers, each = 3, 4, 6
	for i := range accounts {
		s.put(s.key("account", fmt.Sprint(i)), store.Attrs{"n": int64(100)})
	}
	s.together(workers, func(worker int) error {
		for i := range each {
			from, to := s.key("account", fmt.Sprint((worker+i)%accounts)), s.key("account", fmt.Sprint((worker+i+1)%accounts))
			err := s.write(
				store.Update(from).AddInt("n", -7).If(store.Greater("n", int64(6))), store.Update(to).AddInt("n", 7),
				store.Put(store.Item{Key: s.key("log", fmt.Sprintf("%d-%d", worker, i))}).If(store.NotExists()),
			)
			if err != nil {
				return err
			}
		}
		return nil
	})
	var sum int64
	for _, it := range s.all(store.Query{PK: s.key("account", "").PK}) {
		sum += it.Attrs.Int("n")
	}
	if sum != accounts*100 {
		s.Fatalf("the sum is %d, want %d", sum, accounts*100)
	}
	if got := len(s.all(store.Query{PK: s.key("log", "").PK})); got != workers*each {
		s.Fatalf("%d entries in the log, want %d", got, workers*each)
	}
}
