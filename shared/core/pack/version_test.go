package pack_test

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/pack"
)

func TestM10_VersionsAreOrdered(t *testing.T) {
	for _, order := range [][]string{
		{"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0"},
		{"0.9", "v0.9.1", "1", "1.0.0.1", "1.9", "2.0", "10", "99999999999999999999999", "100000000000000000000000"},
		{"", "1-1", "1", "1.x", "2.0.0-0", "2.0.0-1", "2.0.0-a", "2.0.0"},
		{"1.0.0-1", "1.0.0-1.0", "1.0.0-2", "1.0.0-10", "1.0.0-x"},
	} {
		for i, a := range order {
			for j, b := range order {
				if got, want := pack.CompareVersions(a, b), cmp.Compare(i, j); got != want {
					t.Errorf("%q and %q: %d, want %d", a, b, got, want)
				}
			}
		}
	}
	for _, same := range [][]string{{"1.0.0", "v1.0.0", "1.0", "1", "01.0.0", " 1.0.0 ", "1.0.0+build", "1.0.0+other-build", "1.0.0.0"}, {"1.0.0-rc.1", "v1.0-rc.1", "1.0.0-rc.01+b"}} {
		for _, a := range same {
			if c := pack.CompareVersions(a, same[0]); c != 0 {
				t.Errorf("%q and %q: %d", a, same[0], c)
			}
		}
	}
}

// Any texts have an order, so that which is the highest does not depend on which was seen first.
func TestVersionsAreAnOrder(t *testing.T) {
	versions := rapid.StringMatching(`v?([0-9]{0,2}|x)(\.([0-9]{0,3}|a)){0,3}(-([0-9a]{0,2})(\.[0-9a-]{0,2}){0,2})?(\+b)?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := versions.Draw(t, "a"), versions.Draw(t, "b"), versions.Draw(t, "c")
		if pack.CompareVersions(a, a) != 0 || pack.CompareVersions(a, b) != -pack.CompareVersions(b, a) {
			t.Fatal("one way it is another order than the other way")
		}
		all := []string{a, b, c}
		slices.SortFunc(all, pack.CompareVersions)
		if pack.CompareVersions(all[0], all[2]) > 0 {
			t.Fatal("it goes in circles")
		}
	})
}
