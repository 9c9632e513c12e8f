package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/reference"
)

// agree makes a policy and requests from what draw answers, and compares what package policy says about them with what the reference says. It
// answers how often a rule matched.
func agree(t *testing.T, draw reference.Draw, requests int) (matched int) {
	t.Helper()
	base, fragments := reference.Documents(draw)
	fast, err := policy.Compile(base, fragments)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(base, fragments))
	}
	slow, err := reference.New(base, fragments)
	if err != nil {
		t.Fatal(err)
	}
	for range requests {
		r, config := reference.Request(draw)
		differs := func(what string, got, want any) {
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s differ\ngot  %+v\nwant %+v\nrequest %+v\neffective config %s\n%s", what, got, want, *r, config, describe(base, fragments))
			}
		}
		buckets := fast.Buckets(r)
		differs("buckets", buckets, slow.Buckets(r))
		r.Counts = map[string]int64{}
		for _, b := range buckets {
			r.Counts[b.Key] = b.Max + int64(draw(2))
		}
		want, wantTrace := slow.Decide(r, config)
		got, trace := fast.Explain(r)
		differs("decisions", got, want)
		differs("traces", trace, wantTrace)
		differs("Decide and Explain", fast.Decide(r), got)
		if slices.ContainsFunc(trace, func(e policy.TraceEntry) bool { return e.Matched }) {
			matched++
		}
	}
	return matched
}

func describe(base *policy.Source, fragments []policy.Fragment) string {
	var b strings.Builder
	fmt.Fprintf(&b, "base %s", base.Content)
	for _, f := range fragments {
		fmt.Fprintf(&b, "\n%s (disabled: %v) %s", f.Key, f.Disabled, f.Content)
	}
	return b.String()
}

// The index finds what reading every rule finds. POLICY_PAIRS is of how many policies, each with a request of its own: `make policy-million`.
func TestT102_DecideAgreesWithReadingEveryRule(t *testing.T) {
	policies, requests := 2_000, 10
	if n, err := strconv.Atoi(os.Getenv("POLICY_PAIRS")); err == nil {
		policies, requests = n, 1
	}
	began, matched := time.Now(), 0
	for seed := range policies {
		matched += agree(t, rand.New(rand.NewPCG(uint64(seed), 1)).IntN, requests)
	}
	t.Logf("%d policies with %d requests each in %s", policies, requests, time.Since(began).Round(time.Millisecond))
	if all := policies * requests; matched < all/4 || matched > all*9/10 {
		t.Errorf("of %d requests %d matched something: the generator is too one-sided", all, matched)
	}
}

func FuzzDecide(f *testing.F) {
	f.Fuzz(func(t *testing.T, from []byte) { agree(t, reference.Bytes(from), 4) })
}

func drawn(t *rapid.T) reference.Draw {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
}

// A document is the same as YAML and as JSON.
func TestYAMLAndJSONAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(reference.Document(drawn(t), "d"))
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.JSONToYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		fromJSON, err := policy.Parse("d", text)
		if err != nil {
			t.Fatal(err)
		}
		fromYAML, err := policy.Parse("d", asYAML)
		if err != nil {
			t.Fatalf("%v\n%s", err, asYAML)
		}
		if !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Fatalf("JSON %+v\nYAML %+v\n%s", fromJSON, fromYAML, asYAML)
		}
	})
}

// Large requests use more words than fit on the stack, and many rules use every facet of the index.
func TestT102_LargeRequestsAgreeToo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("W%d", rapid.IntRange(0, 60).Draw(t, "n")) })
		topic := rapid.Custom(func(t *rapid.T) string {
			return "job" + strings.Repeat(".x", rapid.IntRange(1, 4).Draw(t, "depth")) + rapid.SampledFrom([]string{"", ".y", "y"}).Draw(t, "end")
		})
		d := &policy.Document{Name: "base"}
		for i := range rapid.IntRange(20, 80).Draw(t, "rules") {
			r := policy.Rule{ID: fmt.Sprintf("r%d", i), Decision: "allow"}
			switch rapid.IntRange(0, 4).Draw(t, "by") {
			case 0:
				r.Match.RiskTags = rapid.SliceOfN(word, 1, 3).Draw(t, "tags")
			case 1:
				r.Match.Requires = rapid.SliceOfN(word, 1, 1).Draw(t, "requires")
			case 2:
				r.Match.Labels = map[string]string{word.Draw(t, "label"): "1"}
			case 3:
				r.Match.Topics = []string{topic.Draw(t, "topic") + rapid.SampledFrom([]string{"", "*", ".*", "?*"}).Draw(t, "star")}
			case 4:
				r.Match.Topics = []string{"job.*"}
				r.Match.MCP.AllowServers = rapid.SliceOfN(word, 1, 2).Draw(t, "servers")
			}
			d.Rules = append(d.Rules, r)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		base := &policy.Source{Name: "base", Content: text}
		fast, err := policy.Compile(base, nil)
		if err != nil {
			t.Fatal(err)
		}
		slow, err := reference.New(base, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &policy.Request{
			Topic: topic.Draw(t, "topic"), RiskTags: rapid.SliceOfN(word, 0, 60).Draw(t, "tags"), Requires: rapid.SliceOfN(word, 0, 60).Draw(t, "requires"),
			Labels: map[string]string{},
		}
		for _, name := range rapid.SliceOfN(word, 0, 60).Draw(t, "labels") {
			r.Labels[name] = "1"
		}
		r.Labels["mcp.server"] = word.Draw(t, "server")
		got, trace := fast.Explain(r)
		if want, wantTrace := slow.Decide(r, nil); !reflect.DeepEqual(got, want) || !reflect.DeepEqual(trace, wantTrace) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
	})
}
