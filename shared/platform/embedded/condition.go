package embedded

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// holds evaluates a condition on an item; nil is an absent one.
func holds(c store.Cond, it *store.Item) bool {
	switch c.Kind {
	case 0:
		return true
	case store.CondExists:
		return it != nil
	case store.CondNotExists:
		return it == nil
	case store.CondAll:
		return !slices.ContainsFunc(c.Conds, func(inner store.Cond) bool { return !holds(inner, it) })
	case store.CondAny:
		return slices.ContainsFunc(c.Conds, func(inner store.Cond) bool { return holds(inner, it) })
	}
	var value any
	has := false
	if it != nil {
		value, has = it.Attrs[c.Attr]
	}
	switch c.Kind {
	case store.CondHas:
		return has
	case store.CondHasNot:
		return !has
	case store.CondEqual, store.CondOneOf:
		return has && slices.ContainsFunc(c.Values, func(want any) bool { return equal(value, want) })
	case store.CondLess:
		return has && order(value, c.Values[0]) == less
	case store.CondGreater:
		return has && order(value, c.Values[0]) == greater
	}
	return false
}

func equal(a, b any) bool {
	if x, ok := a.([]byte); ok {
		y, ok := b.([]byte)
		return ok && bytes.Equal(x, y)
	}
	if _, ok := b.([]byte); ok {
		return false
	}
	return a == b
}

const (
	less    = -1
	greater = 1
)

// order compares values of one type; values of two are in no order, which is 0.
func order(a, b any) int {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y)
		}
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	}
	return 0
}
