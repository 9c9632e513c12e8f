// Package word reads the words that clients and operators write where a yes or a no is meant.
package word

import (
	"slices"
	"strings"
)

// True says that a word means yes: 1, true, yes, y, on, in any case.
func True(text string) bool {
	return slices.Contains([]string{"1", "true", "yes", "y", "on"}, strings.ToLower(strings.TrimSpace(text)))
}

// False says that a word means no: 0, false, no, n, off, in any case. A word may mean neither.
func False(text string) bool {
	return slices.Contains([]string{"0", "false", "no", "n", "off"}, strings.ToLower(strings.TrimSpace(text)))
}
