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

// CompareVersions orders versions of packs by semantic versioning, where there may be any number of parts and a v before them: 1.2 is 1.2.0, and comes before
// 1.10; 1.0.0-rc.1 comes before 1.0.0; what follows a + does not count. Parts that are no numbers come after those that are, so that any two texts have an order.
func CompareVersions(a, b string) int {
	a, preA := split(a)
	b, preB := split(b)
	if c := compareParts(a, b, "0"); c != 0 {
		return c
	}
	switch {
	case preA == "" || preB == "": // a release comes after what led to it
		return cmp.Compare(len(preB), len(preA))
	default:
		return compareParts(preA, preB, "")
	}
}

// split answers the parts of a version, and what precedes its release.
func split(v string) (release, pre string) {
	v, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(v), "v"), "+")
	release, pre, _ = strings.Cut(v, "-")
	return release, pre
}

// compareParts compares what lies between dots; a part that is missing is what otherwise says, which comes before everything when it is "".
func compareParts(a, b, otherwise string) int {
	left, right := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(left), len(right)) {
		if c := comparePart(part(left, i, otherwise), part(right, i, otherwise)); c != 0 {
			return c
		}
	}
	return 0
}

func part(parts []string, i int, otherwise string) string {
	if i < len(parts) {
		return cmp.Or(parts[i], otherwise)
	}
	return otherwise
}

// comparePart compares numbers as numbers, however long they are, and others as texts; "" comes first, numbers next.
func comparePart(a, b string) int {
	rankA, rankB := rank(a), rank(b)
	if rankA == 1 && rankB == 1 {
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	}
	return cmp.Or(cmp.Compare(rankA, rankB), strings.Compare(a, b))
}

func rank(part string) int {
	switch {
	case part == "":
		return 0
	case strings.Trim(part, "0123456789") == "":
		return 1
	}
	return 2
}
