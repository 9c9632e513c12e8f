package store

import "maps"

// OpKind is what an Op does.
type OpKind uint8

// The kinds of operations.
const (
	// OpPut replaces the whole item, or creates it.
	OpPut OpKind = iota + 1
	// OpUpdate changes named attributes and creates the item where it is not there (use If(Exists()) to prevent that).
	OpUpdate
	// OpDelete removes the item; an absent one is no error.
	OpDelete
	// OpCheck writes nothing; its condition takes part in the transaction.
	OpCheck
)

// Op is one operation of a Write. Build it with Put, Update, Delete or Check.
type Op struct {
	Kind OpKind
	Key  Key
	Item Item // of a put
	// What an update changes. An attribute appears in one of the three at most.
	Set    Attrs
	Add    map[string]int64 // absent counts as 0
	Remove []string
	// SetIndex moves the item's entries; a zero Key takes the item out of that index. Indexes not named stay as they are.
	SetIndex map[Index]Key
	// SetExpires replaces Expires when it is not nil.
	SetExpires *int64
	Cond       Cond
}

// Put replaces or creates an item.
func Put(item Item) Op { return Op{Kind: OpPut, Key: item.Key, Item: item} }

// Update changes attributes of the item at key; chain SetAttr and friends.
func Update(key Key) Op { return Op{Kind: OpUpdate, Key: key} }

// Delete removes the item at key.
func Delete(key Key) Op { return Op{Kind: OpDelete, Key: key} }

// Check makes a transaction depend on an item that it does not change.
func Check(key Key, c Cond) Op { return Op{Kind: OpCheck, Key: key, Cond: c} }

// If makes the operation depend on a condition; conditions given before must hold too.
func (o Op) If(c Cond) Op {
	if o.Cond.Kind != 0 {
		c = All(o.Cond, c)
	}
	o.Cond = c
	return o
}

// SetAttr gives an attribute a value.
func (o Op) SetAttr(name string, value any) Op {
	set := make(Attrs, len(o.Set)+1)
	maps.Copy(set, o.Set)
	set[name] = value
	o.Set = set
	return o
}

// SetAttrs gives several attributes their values.
func (o Op) SetAttrs(attrs Attrs) Op {
	set := make(Attrs, len(o.Set)+len(attrs))
	maps.Copy(set, o.Set)
	maps.Copy(set, attrs)
	o.Set = set
	return o
}

// AddInt adds to a number.
func (o Op) AddInt(name string, n int64) Op {
	add := make(map[string]int64, len(o.Add)+1)
	maps.Copy(add, o.Add)
	add[name] = n
	o.Add = add
	return o
}

// RemoveAttr takes attributes away.
func (o Op) RemoveAttr(names ...string) Op {
	o.Remove = append(append([]string(nil), o.Remove...), names...)
	return o
}

// Move changes the item's entry in an index; the zero Key takes it out.
func (o Op) Move(index Index, key Key) Op {
	m := make(map[Index]Key, len(o.SetIndex)+1)
	maps.Copy(m, o.SetIndex)
	m[index] = key
	o.SetIndex = m
	return o
}

// ExpireAt replaces the item's expiry, in Unix seconds; 0 is never.
func (o Op) ExpireAt(unix int64) Op { o.SetExpires = &unix; return o }
