package policy

import (
	"fmt"
	"unicode"
)

// lookalikes are the alphabets with letters that pass for Latin ones.
var lookalikes = []struct {
	name    string
	letters *unicode.RangeTable
}{{"Cyrillic", unicode.Cyrillic}, {"Greek", unicode.Greek}, {"Armenian", unicode.Armenian}, {"Cherokee", unicode.Cherokee}}

// notPlain says what of a text is beyond printable ASCII, "" for nothing. No topic has such a character: a pattern that has one is a mistake,
// or is made to look like another.
func notPlain(s string) string {
	at := 0
	for _, r := range s {
		if at++; !isPlain(r) {
			return fmt.Sprintf("%+q has %s at character %d; topics and capabilities are printable ASCII", s, characterOf(r), at)
		}
	}
	return ""
}

func isPlain(r rune) bool { return ' ' <= r && r <= '~' }

// misread says why a word reads as another, "" when it does not: it has a character that cannot be seen, or letters that pass for the Latin
// ones beside them.
func misread(s string) string {
	latin, at := false, 0
	other, otherAt := rune(0), 0
	for _, r := range s {
		at++
		switch {
		case !unicode.IsPrint(r):
			return fmt.Sprintf("%+q has %s at character %d, which cannot be seen", s, characterOf(r), at)
		case unicode.Is(unicode.Latin, r):
			latin = true
		case otherAt == 0 && alphabetOf(r) != "":
			other, otherAt = r, at
		}
	}
	if latin && otherAt > 0 {
		return fmt.Sprintf("%+q has %s at character %d among Latin letters", s, characterOf(other), otherAt)
	}
	return ""
}

func alphabetOf(r rune) string {
	for _, a := range lookalikes {
		if unicode.Is(a.letters, r) {
			return a.name
		}
	}
	return ""
}

// characterOf names a character so that it can be told from what it looks like: "U+0430 (Cyrillic)".
func characterOf(r rune) string {
	if alphabet := alphabetOf(r); alphabet != "" {
		return fmt.Sprintf("%U (%s)", r, alphabet)
	}
	return fmt.Sprintf("%U", r)
}

// refuse makes an error of what notPlain or misread say.
func (n node) refuse(fault string) error {
	if fault == "" {
		return nil
	}
	return n.errorf("%s", fault)
}

func (m member) refuse(fault string) error { return node{line: m.line, column: m.column}.refuse(fault) }
