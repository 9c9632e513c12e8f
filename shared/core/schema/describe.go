package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// maxShown bounds a message that may repeat what a value says.
const maxShown = 400

// maxLeaves bounds how many faults are looked at to find the one to tell.
const maxLeaves = 10_000

// describe says what is wrong, the first by place in the value, and how much more there is.
func describe(err *jsonschema.ValidationError) string {
	var first string
	found := 0
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) > 0 && found < maxLeaves {
			for _, cause := range e.Causes {
				walk(cause)
			}
			return
		}
		if found++; found > maxLeaves {
			return
		}
		if text := leaf(e); first == "" || text < first {
			first = text
		}
	}
	walk(err)
	switch {
	case found == 1:
		return first
	case found > maxLeaves:
		return first + " (and many more)"
	}
	return fmt.Sprintf("%s (and %d more)", first, found-1)
}

func leaf(err *jsonschema.ValidationError) string {
	_, fragment, _ := strings.Cut(err.SchemaURL, "#")
	keyword := append([]string{"#" + fragment}, escaped(err.ErrorKind.KeywordPath())...)
	place := strings.Join(append([]string{""}, escaped(err.InstanceLocation)...), "/")
	return fmt.Sprintf("'%s' does not validate with %s: %s", cut(place), strings.Join(keyword, "/"), reason(err.ErrorKind))
}

// reason is the library's text, but for the two that are seen most, which are as the original's.
func reason(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("expected %s, but got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Required:
		missing := make([]string, len(k.Missing))
		for i, name := range k.Missing {
			missing[i] = "'" + name + "'"
		}
		slices.Sort(missing)
		return "missing properties: " + strings.Join(missing, ", ")
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties) // the library's order changes
	}
	return cut(k.LocalizedString(message.NewPrinter(language.English)))
}

func escaped(keys []string) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
	}
	return out
}

func cut(text string) string {
	if len(text) <= maxShown {
		return text
	}
	end := maxShown
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
