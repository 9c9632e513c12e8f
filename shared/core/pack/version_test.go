package pack_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/pack"
)

func TestM10_VersionsInTheirOrder(t *testing.T) {
	ordered := []string{
		"", "latest", "one.two", // no versions, by their text
		"0", "0.0.0.1", "0.1", "1.0.0-0", "1.0.0-1", "1.0.0-010", "1.0.0-99999999999999999999999", "1.0.0--", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
		"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc1", "1.0.0", "1.0.0.1", "1.2.0", "1.10.0", "1.10.0.0.0.7", "2.0", "10.0.0-pre", "10.0.0",
		"99999999999999999999999.0", "100000000000000000000000.0",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := pack.CompareVersions(a, b), i-j; got != 0 != (want != 0) || got*want < 0 {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
	for _, same := range [][2]string{{"v1.0.0", "1.0.0"}, {"1", "1.0.0"}, {"1.0.0+a", "1.0.0+b"}, {"01.002", "1.2"}, {" 1.0 ", "1.0"}, {"1.0.0-rc.1+x", "v1-rc.01"}} {
		if got := pack.CompareVersions(same[0], same[1]); got != 0 {
			t.Errorf("%q and %q: %d", same[0], same[1], got)
		}
	}
}

// An order is one: whatever is compared, the other way round it is the opposite, and it goes on from two to three.
func TestM10_AnOrderOfAllTexts(t *testing.T) {
	version := rapid.OneOf(rapid.StringMatching(`v?[0-2](\.[0-2]){0,2}(-[0-2ab]{1,2}(\.[0-2a]){0,2})?(\+a)?`), rapid.StringMatching(`[0-2a.+-]{0,4}`))
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if pack.CompareVersions(a, a) != 0 || pack.CompareVersions(a, b) != -pack.CompareVersions(b, a) {
			t.Fatalf("%q and %q", a, b)
		}
		if pack.CompareVersions(a, b) <= 0 && pack.CompareVersions(b, c) <= 0 && pack.CompareVersions(a, c) > 0 {
			t.Fatalf("%q, %q, %q", a, b, c)
		}
	})
}
