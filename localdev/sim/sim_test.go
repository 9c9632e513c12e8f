package sim_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cordum-serverless/cordum/localdev/sim"
)

// play does one run in a bubble of virtual time.
func play(t *testing.T, opts sim.Options) (report sim.Report) {
	synctest.Test(t, func(*testing.T) { report = sim.Run(opts) })
	return report
}

// number reads one from the environment.
func number(t *testing.T, name string, otherwise int) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, not a number above 0", name, os.Getenv(name))
	}
	return n
}

// Lengths of a run, in steps.
const (
	shortest = 25
	longest  = 600
)

// length is how long the run of a seed is: long ones and short ones are equally frequent.
func length(seed string) int {
	sum := sha256.Sum256([]byte("length of " + seed))
	return shortest + int(binary.BigEndian.Uint32(sum[:])%(longest-shortest))
}

// sideBySide has as many goroutines as there are processors take the numbers below n.
func sideBySide(t *testing.T, n int, do func(t *testing.T, i int)) {
	next := make(chan int)
	go func() {
		defer close(next)
		for i := range n {
			next <- i
		}
	}()
	t.Run("all", func(t *testing.T) {
		for lane := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				for i := range next {
					do(t, i)
				}
			})
		}
	})
}

// TestSimulation does SEEDS runs (20) of the set SEED_BASE (1): other numbers are other sets. Of a run that fails the shortest form is printed;
// RUN=seed/steps repeats it, and TRACE names a file for what happened in it.
func TestSimulation(t *testing.T) {
	if run := os.Getenv("RUN"); run != "" {
		seed, text, _ := strings.Cut(run, "/")
		steps, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("RUN is %q, not seed/steps", run)
		}
		if report := play(t, traced(t, sim.Options{Seed: seed, Steps: steps})); len(report.Violations) > 0 {
			t.Error(strings.Join(report.Violations, "\n"))
		}
		return
	}
	runs, base := number(t, "SEEDS", 20), number(t, "SEED_BASE", 1)
	var mu sync.Mutex
	met := map[string]int{}
	sideBySide(t, runs, func(t *testing.T, i int) {
		seed := fmt.Sprintf("%d.%d", base, i)
		report := play(t, sim.Options{Seed: seed, Steps: length(seed)})
		if len(report.Violations) > 0 {
			steps, wrong := shorten(t, seed, length(seed), report.Violations)
			t.Errorf("RUN=%s/%d:\n%s", seed, steps, strings.Join(wrong, "\n"))
		}
		mu.Lock()
		defer mu.Unlock()
		met["run"]++
		for what, n := range report.Met {
			met[what] += n
		}
	})
	t.Logf("set %d went through:", base)
	for _, what := range slices.Sorted(maps.Keys(met)) {
		t.Logf("%8d %s", met[what], what)
	}
}

// shorten looks for fewer steps of a run that fails with which it fails too: they are the same steps, and then there is peace.
func shorten(t *testing.T, seed string, steps int, wrong []string) (int, []string) {
	const tries = 20
	for i := 1; i < tries; i++ {
		fewer := steps * i / tries
		if report := play(t, sim.Options{Seed: seed, Steps: fewer}); len(report.Violations) > 0 {
			return fewer, report.Violations
		}
	}
	return steps, wrong
}

// traced writes what happens in a run to the file that TRACE names, if it does.
func traced(t *testing.T, opts sim.Options) sim.Options {
	if path := os.Getenv("TRACE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		opts.Trace = f
	}
	return opts
}

// TestASeedReplaysExactly does the same run twice, REPLAYS times (8), and compares every step.
func TestASeedReplaysExactly(t *testing.T) {
	base := number(t, "SEED_BASE", 1)
	sideBySide(t, number(t, "REPLAYS", 8), func(t *testing.T, i int) {
		seed := fmt.Sprintf("replay %d.%d", base, i)
		var steps [2][]string
		var reports [2]sim.Report
		for i := range steps {
			var trace bytes.Buffer
			reports[i] = play(t, sim.Options{Seed: seed, Steps: length(seed), Trace: &trace})
			steps[i] = strings.Split(trace.String(), "\n")
		}
		for i := range min(len(steps[0]), len(steps[1])) {
			if steps[0][i] != steps[1][i] {
				before := strings.Join(steps[0][max(0, i-20):i], "\n")
				t.Errorf("seed %q: step %d differs:\n%s\n%s\nbefore:\n%s", seed, i, steps[0][i], steps[1][i], before)
				return
			}
		}
		if len(steps[0]) != len(steps[1]) || !reflect.DeepEqual(reports[0], reports[1]) {
			t.Errorf("seed %q: %d and %d steps, %+v and %+v", seed, len(steps[0]), len(steps[1]), reports[0], reports[1])
		}
	})
}
