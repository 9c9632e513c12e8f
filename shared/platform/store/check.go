package store

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// Names of the attributes that hold what is no attribute of the domain. No Attrs may use them, nor the key names of an index.
const (
	AttrPK      = "pk"
	AttrSK      = "sk"
	AttrExpires = "ttl"
)

// Indexes are the secondary indexes.
var Indexes = []Index{ByTime, ByDue, ByLink}

// KeyNames answers the names of the attributes that an index (or the table) is keyed by, "" for an unknown index.
func (i Index) KeyNames() (pk, sk string) {
	switch i {
	case "":
		return AttrPK, AttrSK
	case ByTime:
		return "g1pk", "g1sk"
	case ByDue:
		return "g2pk", "g2sk"
	case ByLink:
		return "g3pk", "g3sk"
	}
	return "", ""
}

var reserved = map[string]bool{
	AttrPK: true, AttrSK: true, AttrExpires: true, "g1pk": true, "g1sk": true, "g2pk": true, "g2sk": true, "g3pk": true, "g3sk": true,
}

// Check answers ErrInvalid, with the reason, for what is no key.
func (k Key) Check() error {
	switch {
	case k.PK == "" || k.SK == "":
		return invalid("key %q has an empty part", k)
	case len(k.PK) > MaxPK || len(k.SK) > MaxSK:
		return invalid("key %.60q... is too long: %d and %d bytes, at most %d and %d", k, len(k.PK), len(k.SK), MaxPK, MaxSK)
	case !utf8.ValidString(k.PK) || !utf8.ValidString(k.SK):
		return invalid("key %q is not UTF-8", k)
	}
	return nil
}

// Check answers ErrInvalid, with the reason, for a query that no adapter takes.
func (q Query) Check() error {
	pk, _ := q.Index.KeyNames()
	switch {
	case pk == "":
		return invalid("unknown index %q", q.Index)
	case q.PK == "":
		return invalid("query without partition")
	case q.Prefix != "" && (q.From != "" || q.To != ""):
		return invalid("query with a prefix and bounds")
	case q.Limit < 0:
		return invalid("limit %d", q.Limit)
	}
	return nil
}

// CheckOps answers ErrInvalid or ErrTooLarge, with the reason, for operations that no adapter takes in one Write.
func CheckOps(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxTransaction {
		return invalid("%d operations in one write, 1 to %d are possible", len(ops), MaxTransaction)
	}
	total := 0
	for i, op := range ops {
		size, err := op.check()
		if err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		total += size
	}
	if total > MaxTransactionBytes {
		return fmt.Errorf("%w: transaction of %d bytes, at most %d", ErrTooLarge, total, MaxTransactionBytes)
	}
	return checkDistinct(ops)
}

func checkDistinct(ops []Op) error {
	if len(ops) == 1 {
		return nil
	}
	seen := make(map[Key]bool, len(ops))
	for _, op := range ops {
		if seen[op.Key] {
			return invalid("item %v appears twice in one transaction", op.Key)
		}
		seen[op.Key] = true
	}
	return nil
}

// check answers how many bytes the operation carries.
func (o Op) check() (size int, err error) {
	if err := o.Key.Check(); err != nil {
		return 0, err
	}
	if err := o.Cond.check(); err != nil {
		return 0, err
	}
	switch o.Kind {
	case OpPut:
		return o.Item.check()
	case OpUpdate:
		return o.checkUpdate()
	case OpDelete:
		return 0, nil
	case OpCheck:
		if o.Cond.Kind == 0 {
			return 0, invalid("check of %v without condition", o.Key)
		}
		return 0, nil
	}
	return 0, invalid("operation without kind")
}

func (i Item) check() (size int, err error) {
	if i.Expires < 0 {
		return 0, invalid("%v expires at %d", i.Key, i.Expires)
	}
	if err := checkAttrs(i.Attrs); err != nil {
		return 0, err
	}
	if err := checkEntries(i.Index); err != nil {
		return 0, err
	}
	if size = i.Size(); size > MaxItemBytes {
		return 0, fmt.Errorf("%w: %v has %d bytes, at most %d", ErrTooLarge, i.Key, size, MaxItemBytes)
	}
	return size, nil
}

func (o Op) checkUpdate() (size int, err error) {
	if err := checkAttrs(o.Set); err != nil {
		return 0, err
	}
	if err := checkEntries(o.SetIndex); err != nil {
		return 0, err
	}
	if o.SetExpires != nil && *o.SetExpires < 0 {
		return 0, invalid("%v expires at %d", o.Key, *o.SetExpires)
	}
	for name, value := range o.Set {
		size += len(name) + valueSize(value)
	}
	for name := range o.Add {
		if _, twice := o.Set[name]; twice {
			return 0, invalid("attribute %q is set and added to", name)
		}
		if err := checkName(name); err != nil {
			return 0, err
		}
	}
	for _, name := range o.Remove {
		_, set := o.Set[name]
		if _, added := o.Add[name]; set || added {
			return 0, invalid("attribute %q is changed and removed", name)
		}
		if err := checkName(name); err != nil {
			return 0, err
		}
	}
	return size, nil
}

func checkEntries(entries map[Index]Key) error {
	for index, entry := range entries {
		if index == "" || !slices.Contains(Indexes, index) {
			return invalid("unknown index %q", index)
		}
		if entry == (Key{}) {
			continue
		}
		if err := entry.Check(); err != nil {
			return fmt.Errorf("index %s: %w", index, err)
		}
	}
	return nil
}

func checkAttrs(attrs Attrs) error {
	for name, value := range attrs {
		if err := checkName(name); err != nil {
			return err
		}
		if err := checkValue(name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > 255 || reserved[name] || !utf8.ValidString(name) {
		return invalid("attribute name %q", name)
	}
	return nil
}

func checkValue(name string, value any) error {
	switch v := value.(type) {
	case string:
		if !utf8.ValidString(v) {
			return invalid("attribute %q is text that is not UTF-8; use bytes", name)
		}
		return nil
	case int64, bool, []byte:
		return nil
	}
	return invalid("attribute %q is a %T; use string, int64, bool or []byte", name, value)
}

func (c Cond) check() error {
	switch c.Kind {
	case 0, CondExists, CondNotExists:
		return nil
	case CondAll, CondAny:
		if c.Kind == CondAny && len(c.Conds) == 0 {
			return invalid("any of no conditions")
		}
		for _, inner := range c.Conds {
			if err := inner.check(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := checkName(c.Attr); err != nil {
		return err
	}
	switch c.Kind {
	case CondHas, CondHasNot:
		return nil
	case CondOneOf:
		if len(c.Values) == 0 || len(c.Values) > MaxOneOf {
			return invalid("%q is to be one of %d values; 1 to %d are possible", c.Attr, len(c.Values), MaxOneOf)
		}
	case CondLess, CondGreater:
		if !ordered(c.Values) {
			return invalid("%q is compared with what is neither string nor int64", c.Attr)
		}
	case CondEqual:
		if len(c.Values) != 1 {
			return invalid("%q is to equal %d values", c.Attr, len(c.Values))
		}
	default:
		return invalid("condition of kind %d", c.Kind)
	}
	for _, v := range c.Values {
		if err := checkValue(c.Attr, v); err != nil {
			return err
		}
	}
	return nil
}

func ordered(values []any) bool {
	if len(values) != 1 {
		return false
	}
	switch values[0].(type) {
	case string, int64:
		return true
	}
	return false
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
