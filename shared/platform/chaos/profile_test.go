package chaos_test

import (
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/chaos"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want string
	}{
		{
			"errors=0.02,delays=0.1,delay=50ms,duplicates=0.05,cruel=0.02,seed=7",
			"errors=0.02,delays=0.1,duplicates=0.05,cruel=0.02,delay=50ms,seed=7",
		},
		{"errors=1", "errors=1,delays=0,duplicates=0,cruel=0,delay=50ms,seed=1"},
		{" errors = 1e-3 , delay = 1m ", "errors=0.001,delays=0,duplicates=0,cruel=0,delay=1m0s,seed=1"},
		{"mild", "errors=0.01,delays=0.05,duplicates=0.02,cruel=0.005,delay=50ms,seed=1"},
		{"rough,seed=18446744073709551615", "errors=0.05,delays=0.2,duplicates=0.1,cruel=0.02,delay=200ms,seed=18446744073709551615"},
		{"cruel,cruel=0.5,errors=0", "errors=0,delays=0.2,duplicates=0.1,cruel=0.5,delay=200ms,seed=1"},
	} {
		p, err := chaos.Parse(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if p.String() != c.want {
			t.Errorf("%q:\ngot  %s\nwant %s", c.text, p, c.want)
		}
		if again, err := chaos.Parse(p.String()); err != nil || again != p {
			t.Errorf("%q comes back as %+v, %v", p, again, err)
		}
	}
}

func TestParseNamesTheBadPart(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"", `"" is no preset (mild, rough, cruel), and no setting such as errors=0.02`},
		{"wild", `"wild" is no preset`},
		{"mild,", `"" is no preset`},
		{"errors=0.1,mild", `preset "mild" comes first`},
		{"mild,rough", `preset "rough" comes first`},
		{"errors", `"errors" is no preset`},
		{"mild,errors=1.1", `"errors=1.1": errors is a rate from 0 to 1`},
		{"cruel=-0.1", `"cruel=-0.1": cruel is a rate`},
		{"delays=NaN", `"delays=NaN": delays is a rate`},
		{"duplicates=often", `"duplicates=often": duplicates is a rate`},
		{"delay=50", `"delay=50": delay is a duration such as 50ms`},
		{"delay=-1s", `"delay=-1s": delay is a duration`},
		{"seed=-1", `"seed=-1": seed is a whole number`},
		{"seed=x", `"seed=x": seed is a whole number`},
		{"error=0.1", `"error=0.1": no setting is named "error"; there are errors, delays, delay, duplicates, cruel and seed`},
		{"errors=0.1,errors=0.2", `"errors=0.2": errors is set twice`},
	} {
		p, err := chaos.Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "chaos: ") {
			t.Errorf("%q: got %v, %v; want %s", c.text, p, err, c.says)
		}
		if p != (chaos.Profile{}) {
			t.Errorf("%q answers a profile beside its error: %v", c.text, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "mild", "rough,seed=2", "cruel,cruel=1", "errors=0.02,delays=0.1,delay=50ms,duplicates=0.05,cruel=0.02,seed=7", "errors=0x1p-2", "delay=2562047h47m16.854775807s",
		"errors=-0", "errors==", ",", "mild,mild", "errors=1e-400",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := chaos.Parse(text)
		if err != nil {
			if p != (chaos.Profile{}) {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		for _, rate := range []float64{p.Errors, p.Delays, p.Duplicates, p.Cruel} {
			if !(rate >= 0 && rate <= 1) {
				t.Fatalf("rate %v", rate)
			}
		}
		if p.MaxDelay < 0 {
			t.Fatalf("delay %v", p.MaxDelay)
		}
		if again, err := chaos.Parse(p.String()); err != nil || again != p {
			t.Fatalf("%q comes back as %+v, %v", p, again, err)
		}
	})
}
