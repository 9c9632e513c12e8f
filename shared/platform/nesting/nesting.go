// Package nesting bounds how deep a JSON or YAML text is nested, before anything recursive sees it.
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

// DeeperYAML says whether a YAML text may be nested deeper: whether more than so many brackets are open at once, or more than so many lists and mappings
// begin on one line. It does not look at quotes, so that brackets inside of texts count too.
func DeeperYAML(data []byte, brackets, most int) bool {
	depth, dashes, comment := 0, 0, false
	for i, c := range data {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		}
		switch {
		case c == '\n':
			dashes, comment = 0, false
		case c == ' ' || comment:
		case (c == '-' || c == '?' || c == ':') && (i+1 == len(data) || data[i+1] == ' ' || data[i+1] == '\n'):
			dashes++
		case c == '#' && (i == 0 || data[i-1] == '\n'):
			comment = true
		default:
			dashes = 0
		}
		if depth > brackets || dashes > most {
			return true
		}
	}
	return false
}
