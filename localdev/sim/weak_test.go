//go:build !race

package sim_test

import (
	"fmt"
	"testing"

	"github.com/cordum-serverless/cordum/localdev/sim"
)

// Hundreds of runs that are meant to fail say nothing about races: the detector would only make them ten times slower.

// TestEachProtectionIsNeeded switches each off and shows that the simulation finds it, in a run that is clean with it. What is hardest to find,
// one run in three finds.
func TestEachProtectionIsNeeded(t *testing.T) {
	sideBySide(t, len(sim.Weaknesses), func(t *testing.T, i int) {
		weak := sim.Weaknesses[i]
		for n := range 100 {
			opts := sim.Options{Seed: fmt.Sprint("weak ", n), Steps: 500, Weak: weak}
			wrong := play(t, opts).Violations
			if len(wrong) == 0 {
				continue
			}
			opts.Weak = ""
			if bare := play(t, opts).Violations; len(bare) > 0 {
				t.Errorf("seed %q fails with all protections: %s", opts.Seed, bare[0])
			}
			t.Logf("without %s, seed %q: %s", weak, opts.Seed, wrong[0])
			return
		}
		t.Errorf("without %s, 100 runs found nothing", weak)
	})
}
