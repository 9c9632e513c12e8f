package policy

import (
	"path"
	"strings"
	"unicode/utf8"
)

// lower is the form in which words are compared that are equal whatever their case.
func lower(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// sameWord says whether lower(s) is low. It allocates only for words beyond ASCII.
func sameWord(low, s string) bool {
	s = strings.TrimSpace(s)
	for i := range len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			return strings.ToLower(s) == low
		}
		if i >= len(low) || low[i] != lowerByte(c) {
			return false
		}
	}
	return len(s) == len(low)
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// longWord is how long a word with upper-case letters may be to be looked up without allocating.
const longWord = 128

// vocabulary numbers the words that a policy's rules use in one field, so that rules are matched by numbers.
type vocabulary map[string]uint32

// unknown is the number of every word that no rule uses.
const unknown = ^uint32(0)

func (v vocabulary) add(word string) uint32 {
	id, ok := v[word]
	if !ok {
		id = uint32(len(v))
		v[word] = id
	}
	return id
}

// find answers the number of a word as a request has it.
func (v vocabulary) find(word string) uint32 {
	if len(v) == 0 {
		return unknown
	}
	word = strings.TrimSpace(word)
	for i := range len(word) {
		if c := word[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return v.findUpper(word)
		}
	}
	return v.exact(word)
}

func (v vocabulary) exact(word string) uint32 {
	if id, ok := v[word]; ok {
		return id
	}
	return unknown
}

func (v vocabulary) findUpper(word string) uint32 {
	var low [longWord]byte
	if len(word) > longWord {
		return v.exact(strings.ToLower(word))
	}
	for i := range len(word) {
		if word[i] >= utf8.RuneSelf {
			return v.exact(strings.ToLower(word))
		}
		low[i] = lowerByte(word[i])
	}
	if id, ok := v[string(low[:len(word)])]; ok { // does not allocate
		return id
	}
	return unknown
}

// glob is a compiled pattern of path.Match: the frequent forms are compared without it.
type glob struct {
	form globForm
	// literal is the whole of a literal pattern, else what stands before the first special character.
	literal, pattern string
}

type globForm uint8

const (
	globLiteral globForm = iota // no special characters
	globPrefix                  // one star, at the end
	globAny                     // anything else
)

func newGlob(pattern string) glob {
	special := strings.IndexAny(pattern, `*?[\`)
	switch {
	case special < 0:
		return glob{globLiteral, pattern, pattern}
	case special == len(pattern)-1 && pattern[special] == '*':
		return glob{globPrefix, pattern[:special], pattern}
	default:
		return glob{globAny, pattern[:special], pattern}
	}
}

// match says whether the pattern fits the whole name: a star is any run of characters without a slash.
func (g *glob) match(name string) bool {
	switch g.form {
	case globLiteral:
		return name == g.literal
	case globPrefix:
		return strings.HasPrefix(name, g.literal) && strings.IndexByte(name[len(g.literal):], '/') < 0
	default:
		if !strings.HasPrefix(name, g.literal) {
			return false
		}
		ok, _ := path.Match(g.pattern, name) // was valid at load
		return ok
	}
}

// matchFolded says whether the pattern, which is in lower case, fits lower(name). It allocates only for a name with upper-case letters and
// a pattern that is more than a word or a prefix.
func (g *glob) matchFolded(name string) bool {
	name = strings.TrimSpace(name)
	switch g.form {
	case globLiteral:
		return sameWord(g.literal, name)
	case globPrefix:
		for i := range min(len(name), len(g.literal)) {
			if name[i] >= utf8.RuneSelf {
				return g.match(strings.ToLower(name))
			}
			if lowerByte(name[i]) != g.literal[i] {
				return false
			}
		}
		return len(name) >= len(g.literal) && strings.IndexByte(name[len(g.literal):], '/') < 0
	default:
		return g.match(strings.ToLower(name))
	}
}
