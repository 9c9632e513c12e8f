package chaos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Profile says how often what goes wrong. Rates are from 0 (never) to 1 (always).
type Profile struct {
	// Errors is how often a call is not made, and fails.
	Errors float64
	// Delays is how often a call waits before it is made.
	Delays float64
	// Duplicates is how often what is sent is sent twice, and what was received comes again.
	Duplicates float64
	// Cruel is how often a call that changes something is made, and its answer is lost.
	Cruel float64
	// MaxDelay is the longest that a call waits.
	MaxDelay time.Duration
	// Seed is what is drawn from: the same seed gives the same faults.
	Seed uint64
}

// What Parse takes where a text says nothing.
const (
	defaultDelay = 50 * time.Millisecond
	defaultSeed  = 1
)

// presets are the profiles that have a name, the gentlest first.
var presets = []struct {
	name    string
	profile Profile
}{
	{"mild", Profile{Errors: 0.01, Delays: 0.05, Duplicates: 0.02, Cruel: 0.005, MaxDelay: defaultDelay, Seed: defaultSeed}},
	{"rough", Profile{Errors: 0.05, Delays: 0.2, Duplicates: 0.1, Cruel: 0.02, MaxDelay: 200 * time.Millisecond, Seed: defaultSeed}},
	{"cruel", Profile{Errors: 0.05, Delays: 0.2, Duplicates: 0.1, Cruel: 0.1, MaxDelay: 200 * time.Millisecond, Seed: defaultSeed}},
}

// rates are the rates of a profile, by the name that they have in its text.
var rates = []struct {
	name string
	of   func(*Profile) *float64
}{
	{"errors", func(p *Profile) *float64 { return &p.Errors }},
	{"delays", func(p *Profile) *float64 { return &p.Delays }},
	{"duplicates", func(p *Profile) *float64 { return &p.Duplicates }},
	{"cruel", func(p *Profile) *float64 { return &p.Cruel }},
}

// Parse reads a profile: settings such as "errors=0.02,delays=0.1,delay=50ms,duplicates=0.05,cruel=0.02,seed=7", or a preset ("mild", "rough",
// "cruel"), or a preset and then settings that replace its own. A rate that is not named is 0, the delay 50ms, the seed 1.
func Parse(text string) (Profile, error) {
	p := Profile{MaxDelay: defaultDelay, Seed: defaultSeed}
	given := map[string]bool{}
	for i, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		name, value, setting := strings.Cut(part, "=")
		if !setting {
			preset, err := named(part)
			switch {
			case err != nil:
				return Profile{}, err
			case i > 0:
				return Profile{}, fmt.Errorf("chaos: preset %q comes first, or not at all", part)
			}
			p = preset
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if given[name] {
			return Profile{}, fmt.Errorf("chaos: %q: %s is set twice", part, name)
		}
		given[name] = true
		if err := p.set(name, value); err != nil {
			return Profile{}, fmt.Errorf("chaos: %q: %w", part, err)
		}
	}
	return p, nil
}

func named(name string) (Profile, error) {
	names := make([]string, len(presets))
	for i, preset := range presets {
		if preset.name == name {
			return preset.profile, nil
		}
		names[i] = preset.name
	}
	return Profile{}, fmt.Errorf("chaos: %q is no preset (%s), and no setting such as errors=0.02", name, strings.Join(names, ", "))
}

func (p *Profile) set(name, value string) error {
	for _, r := range rates {
		if r.name != name {
			continue
		}
		rate, err := strconv.ParseFloat(value, 64)
		if err != nil || !(rate >= 0 && rate <= 1) {
			return fmt.Errorf("%s is a rate from 0 to 1", name)
		}
		*r.of(p) = rate
		return nil
	}
	switch name {
	case "delay":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return fmt.Errorf("delay is a duration such as 50ms")
		}
		p.MaxDelay = d
	case "seed":
		seed, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("seed is a whole number from 0 up")
		}
		p.Seed = seed
	default:
		return fmt.Errorf("no setting is named %q; there are errors, delays, delay, duplicates, cruel and seed", name)
	}
	return nil
}

// String is the text that Parse reads as this profile.
func (p Profile) String() string {
	parts := make([]string, 0, len(rates)+2)
	for _, r := range rates {
		parts = append(parts, r.name+"="+strconv.FormatFloat(*r.of(&p), 'g', -1, 64))
	}
	return strings.Join(slices.Concat(parts, []string{"delay=" + p.MaxDelay.String(), "seed=" + strconv.FormatUint(p.Seed, 10)}), ",")
}
