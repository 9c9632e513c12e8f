// Command policybench measures the policy evaluator beside OPA and Cedar: the same rules in three languages, the same requests, the same answers.
// It is a module of its own, so that nothing else depends on them.
//
// It prints one line a figure, and exits non-zero when an engine answers otherwise than the rules say.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// engine decides requests by a policy that it has loaded.
type engine interface {
	// load reads the rules in the engine's own language.
	load(ctx context.Context, rules []rule) error
	// ask prepares a request as the engine likes it best, and answers what decides it.
	ask(r request) func() (allowed bool, err error)
}

func main() {
	ctx := context.Background()
	engines := []struct {
		name string
		make func() engine
	}{{"cordum", func() engine { return &cordum{} }}, {"opa", func() engine { return &opa{ctx: ctx} }}, {"cedar", func() engine { return &cedarEngine{} }}}
	for _, n := range []int{100, 1000, 10_000} {
		for _, e := range engines {
			if err := measure(ctx, e.name, n, e.make()); err != nil {
				fmt.Fprintln(os.Stderr, "policybench:", e.name, err)
				os.Exit(1)
			}
		}
	}
}

func measure(ctx context.Context, name string, n int, e engine) error {
	rules := makeRules(n)
	began := time.Now()
	if err := e.load(ctx, rules); err != nil {
		return err
	}
	line(fmt.Sprintf("load_%d_rules_%s", n, name), float64(time.Since(began).Microseconds())/1000, "ms")
	if n == 1000 {
		return nil // only how soon a policy of a thousand rules is there
	}
	for _, r := range requests(n) {
		decide := e.ask(r)
		allowed, err := decide()
		if err != nil {
			return err
		}
		if allowed != r.allowed {
			return fmt.Errorf("%d rules, %s: allowed is %v, want %v", n, r.name, allowed, r.allowed)
		}
		figure := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decide(); err != nil {
					b.Fatal(err)
				}
			}
		})
		of := fmt.Sprintf("decide_%d_rules_%s_%s", n, strings.ReplaceAll(r.name, " ", "_"), name)
		line(of, float64(figure.NsPerOp()), "ns")
		line(of+"_allocs", float64(figure.AllocsPerOp()), "allocs")
	}
	return nil
}

func line(name string, value float64, unit string) {
	fmt.Printf("bench %s %s %s\n", name, strconv.FormatFloat(value, 'f', -1, 64), unit)
}
