package worker

import "slices"

// recent remembers the last n things by name.
type recent[T any] struct {
	n     int
	items map[string]T
	order []string
}

func newRecent[T any](n int) *recent[T] { return &recent[T]{n: n, items: map[string]T{}} }

func (r *recent[T]) get(name string) (T, bool) {
	v, ok := r.items[name]
	return v, ok
}

// take is get, and forgets it.
func (r *recent[T]) take(name string) (T, bool) {
	v, ok := r.items[name]
	if ok {
		delete(r.items, name)
		r.order = slices.DeleteFunc(r.order, func(n string) bool { return n == name })
	}
	return v, ok
}

func (r *recent[T]) put(name string, v T) {
	if _, ok := r.items[name]; !ok {
		r.order = append(r.order, name)
	}
	r.items[name] = v
	for len(r.order) > r.n {
		delete(r.items, r.order[0])
		r.order = r.order[1:]
	}
}
