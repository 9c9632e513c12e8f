package store

// CondKind is the shape of a Cond. The zero kind always holds.
type CondKind uint8

// The kinds of conditions.
const (
	CondExists CondKind = iota + 1
	CondNotExists
	CondEqual
	CondOneOf
	CondLess
	CondGreater
	CondHas
	CondHasNot
	CondAll
	CondAny
)

// Cond is a condition on the stored item. On an absent item only NotExists, HasNot and what is made of them hold.
type Cond struct {
	Kind   CondKind
	Attr   string
	Values []any
	Conds  []Cond
}

// Exists holds when the item is there.
func Exists() Cond { return Cond{Kind: CondExists} }

// NotExists holds when the item is not there.
func NotExists() Cond { return Cond{Kind: CondNotExists} }

// Equal holds when the attribute is there and has exactly this value.
func Equal(attr string, value any) Cond {
	return Cond{Kind: CondEqual, Attr: attr, Values: []any{value}}
}

// OneOf holds when the attribute has one of the values (at least one, at most 100).
func OneOf[T any](attr string, values ...T) Cond {
	vs := make([]any, len(values))
	for i, v := range values {
		vs[i] = v
	}
	return Cond{Kind: CondOneOf, Attr: attr, Values: vs}
}

// Less holds when the attribute is there and smaller than the value; both of one type, string or int64.
func Less(attr string, value any) Cond {
	return Cond{Kind: CondLess, Attr: attr, Values: []any{value}}
}

// Greater holds when the attribute is there and larger than the value; both of one type, string or int64.
func Greater(attr string, value any) Cond {
	return Cond{Kind: CondGreater, Attr: attr, Values: []any{value}}
}

// Has holds when the attribute is there.
func Has(attr string) Cond { return Cond{Kind: CondHas, Attr: attr} }

// HasNot holds when the attribute, or the whole item, is not there.
func HasNot(attr string) Cond { return Cond{Kind: CondHasNot, Attr: attr} }

// All holds when every one holds; All() always does.
func All(conds ...Cond) Cond { return Cond{Kind: CondAll, Conds: conds} }

// Any holds when at least one holds; Any() is refused.
func Any(conds ...Cond) Cond { return Cond{Kind: CondAny, Conds: conds} }
