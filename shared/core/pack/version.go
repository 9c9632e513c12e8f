package pack

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// coreForm is the version of a plane: what follows the numbers does not count.
var coreForm = regexp.MustCompile(`^v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:[-+].*)?$`)

// coreVersion answers the numbers of a plane's version; ok is false for what is none.
func coreVersion(text string) (numbers [3]int, ok bool) {
	parts := coreForm.FindStringSubmatch(strings.TrimSpace(text))
	if parts == nil {
		return numbers, false
	}
	for i := range numbers {
		numbers[i], _ = strconv.Atoi(parts[i+1]) // a part that is missing is 0
	}
	return numbers, true
}

// versionForm is a semantic version with any number of parts, and a v before it or none.
var versionForm = regexp.MustCompile(`^v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?$`)

// CompareVersions orders versions of packs by semver's precedence: missing parts are 0, a pre-release is before its release, what follows + does not count. What is
// no version is before all that are, and by its text among its like.
func CompareVersions(a, b string) int {
	x, y := versionForm.FindStringSubmatch(strings.TrimSpace(a)), versionForm.FindStringSubmatch(strings.TrimSpace(b))
	switch {
	case x == nil && y == nil:
		return cmp.Compare(a, b)
	case x == nil:
		return -1
	case y == nil:
		return 1
	}
	p, q := strings.Split(x[1], "."), strings.Split(y[1], ".")
	for i := range max(len(p), len(q)) {
		if c := compareNumbers(part(p, i), part(q, i)); c != 0 {
			return c
		}
	}
	switch {
	case x[2] == y[2]:
		return 0
	case x[2] == "":
		return 1
	case y[2] == "":
		return -1
	}
	return comparePreReleases(strings.Split(x[2], "."), strings.Split(y[2], "."))
}

func part(of []string, i int) string {
	if i < len(of) {
		return of[i]
	}
	return "0"
}

// comparePreReleases orders identifiers one by one: numbers by value and before words, words by their text, and less before more.
func comparePreReleases(p, q []string) int {
	for i := range min(len(p), len(q)) {
		m, n := isNumber(p[i]), isNumber(q[i])
		c := cmp.Compare(p[i], q[i])
		switch {
		case m && n:
			c = compareNumbers(p[i], q[i])
		case m:
			c = -1
		case n:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(p), len(q))
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// compareNumbers compares numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
