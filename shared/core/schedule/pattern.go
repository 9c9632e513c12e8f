package schedule

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// patterns maps topics, some of them globs, to values. A topic's own entry comes before every glob, a longer glob before a shorter one.
type patterns[V any] struct {
	exact map[string]V
	globs []string // longest first, then alphabetically
}

// compile checks every glob; the error names the first bad one.
func compile[V any](entries map[string]V) (patterns[V], error) {
	p := patterns[V]{exact: entries}
	for _, topic := range sortedKeys(entries) {
		if !strings.ContainsAny(topic, `*?[\`) {
			continue
		}
		if err := checkGlob(topic); err != nil {
			return patterns[V]{}, err
		}
		p.globs = append(p.globs, topic)
	}
	slices.SortStableFunc(p.globs, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return p, nil
}

func checkGlob(topic string) error {
	if _, err := path.Match(topic, ""); err != nil {
		return at("topics", topic).errorf("not a valid glob")
	}
	return nil
}

func (p patterns[V]) lookup(topic string) (v V, ok bool) {
	if v, ok = p.exact[topic]; ok {
		return v, true
	}
	for _, glob := range p.globs {
		if matched, _ := path.Match(glob, topic); matched {
			return p.exact[glob], true
		}
	}
	return v, false
}
