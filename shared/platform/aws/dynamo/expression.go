package dynamo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// expression collects the names and values of one operation's expressions.
type expression struct {
	nameOf map[string]string // attribute -> #n
	vals   map[string]types.AttributeValue
}

func newExpression() *expression {
	return &expression{nameOf: map[string]string{}, vals: map[string]types.AttributeValue{}}
}

func (e *expression) name(attr string) string {
	if e.nameOf[attr] == "" {
		e.nameOf[attr] = fmt.Sprintf("#n%d", len(e.nameOf))
	}
	return e.nameOf[attr]
}

func (e *expression) val(v types.AttributeValue) string {
	name := fmt.Sprintf(":v%d", len(e.vals))
	e.vals[name] = v
	return name
}

// names is nil when there are none: DynamoDB refuses an empty map.
func (e *expression) names() map[string]string {
	if len(e.nameOf) == 0 {
		return nil
	}
	out := make(map[string]string, len(e.nameOf))
	for attr, name := range e.nameOf {
		out[name] = attr
	}
	return out
}

func (e *expression) values() map[string]types.AttributeValue {
	if len(e.vals) == 0 {
		return nil
	}
	return e.vals
}

// condition writes a condition; nil for none.
func (e *expression) condition(c store.Cond) *string {
	text := e.cond(c)
	if text == "" {
		return nil
	}
	return &text
}

func (e *expression) cond(c store.Cond) string {
	switch c.Kind {
	case store.CondExists:
		return "attribute_exists(" + e.name(store.AttrPK) + ")"
	case store.CondNotExists:
		return "attribute_not_exists(" + e.name(store.AttrPK) + ")"
	case store.CondHas:
		return "attribute_exists(" + e.name(c.Attr) + ")"
	case store.CondHasNot:
		return "attribute_not_exists(" + e.name(c.Attr) + ")"
	case store.CondEqual:
		return e.name(c.Attr) + " = " + e.val(value(c.Values[0]))
	case store.CondLess:
		return e.name(c.Attr) + " < " + e.val(value(c.Values[0]))
	case store.CondGreater:
		return e.name(c.Attr) + " > " + e.val(value(c.Values[0]))
	case store.CondOneOf:
		vals := make([]string, len(c.Values))
		for i, v := range c.Values {
			vals[i] = e.val(value(v))
		}
		return e.name(c.Attr) + " IN (" + strings.Join(vals, ", ") + ")"
	case store.CondAll:
		return e.join(c.Conds, " AND ")
	case store.CondAny:
		if slices.ContainsFunc(c.Conds, always) {
			return ""
		}
		return e.join(c.Conds, " OR ")
	default:
		return ""
	}
}

// always says whether a condition holds whatever is stored.
func always(c store.Cond) bool {
	return c.Kind == 0 || c.Kind == store.CondAll && !slices.ContainsFunc(c.Conds, func(i store.Cond) bool { return !always(i) }) ||
		c.Kind == store.CondAny && slices.ContainsFunc(c.Conds, always)
}

func (e *expression) join(conds []store.Cond, with string) string {
	var parts []string
	for _, c := range conds {
		if text := e.cond(c); text != "" {
			parts = append(parts, "("+text+")")
		}
	}
	return strings.Join(parts, with)
}

// update writes an update expression; nil for one that changes nothing, which only creates the item.
func (e *expression) update(op store.Op) *string {
	var set, add, remove []string
	assign := func(attr string, v types.AttributeValue) { set = append(set, e.name(attr)+" = "+e.val(v)) }
	for _, attr := range slices.Sorted(maps.Keys(op.Set)) {
		assign(attr, value(op.Set[attr]))
	}
	for _, attr := range slices.Sorted(maps.Keys(op.Add)) {
		add = append(add, e.name(attr)+" "+e.val(num(op.Add[attr])))
	}
	for _, attr := range slices.Compact(slices.Sorted(slices.Values(op.Remove))) {
		remove = append(remove, e.name(attr))
	}
	for _, index := range store.Indexes {
		k, moved := op.SetIndex[index]
		if !moved {
			continue
		}
		pk, sk := index.KeyNames()
		if k == (store.Key{}) {
			remove = append(remove, e.name(pk), e.name(sk))
			continue
		}
		assign(pk, str(k.PK))
		assign(sk, str(k.SK))
	}
	switch {
	case op.SetExpires == nil:
	case *op.SetExpires == 0:
		remove = append(remove, e.name(store.AttrExpires))
	default:
		assign(store.AttrExpires, num(*op.SetExpires))
	}
	var parts []string
	for word, list := range map[string][]string{"SET ": set, "ADD ": add, "REMOVE ": remove} {
		if len(list) > 0 {
			parts = append(parts, word+strings.Join(list, ", "))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	slices.Sort(parts)
	text := strings.Join(parts, " ")
	return &text
}
