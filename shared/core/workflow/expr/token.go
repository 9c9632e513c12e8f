package expr

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	end    kind = iota
	word        // true, false, a number, a path or the name of a function
	quoted      // text holds what is between the quotes
	sign        // an operator or a parenthesis
)

type token struct {
	kind kind
	text string
	at   int // byte, from 0
}

func (t token) String() string {
	switch t.kind {
	case end:
		return "end"
	case quoted:
		return "text " + quote(t.text)
	}
	return t.text
}

// signs in the order in which they are tried.
var signs = []string{"==", "!=", ">=", "<=", "&&", "||", ">", "<", "!", "(", ")"}

// scan cuts a text into tokens, the last of which is end.
func scan(text string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case unicode.IsSpace(r):
			i += size
			continue
		case r == '\'' || r == '"':
			n := strings.IndexRune(text[i+1:], r)
			if n < 0 {
				return nil, errorAt(i, "text without its closing %c", r)
			}
			tokens = append(tokens, token{quoted, text[i+1 : i+1+n], i})
			i += n + 2
			continue
		}
		if s := signAt(text[i:]); s != "" {
			tokens = append(tokens, token{sign, s, i})
			i += len(s)
			continue
		}
		n := wordLength(text[i:])
		if n == 0 {
			return nil, errorAt(i, "unexpected %q", r)
		}
		tokens = append(tokens, token{word, text[i : i+n], i})
		i += n
	}
	return append(tokens, token{end, "", len(text)}), nil
}

func signAt(text string) string {
	for _, s := range signs {
		if strings.HasPrefix(text, s) {
			return s
		}
	}
	return ""
}

// wordLength counts the bytes of a path or a number at the beginning of text. The plus is for numbers, a path has none.
func wordLength(text string) int {
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") {
			return i
		}
		if !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit) && !strings.ContainsRune("._-$@:/#~[]+\uFFFD", r) {
			return i
		}
	}
	return len(text)
}

func quote(text string) string {
	if strings.Contains(text, "'") {
		return `"` + text + `"`
	}
	return "'" + text + "'"
}

func errorAt(at int, format string, args ...any) *Error {
	return &Error{Position: at + 1, Message: fmt.Sprintf(format, args...)}
}
