// Package nesting bounds how deep a JSON text is nested, before anything recursive sees it.
package nesting

// Deeper says whether objects and lists lie deeper in one another than most. It counts brackets outside of texts; that the text is JSON is for
// others to find out.
func Deeper(data []byte, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > most {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
