package store

// Sizes and prices are DynamoDB's, for on-demand tables (AWS documentation: "DynamoDB item sizes and formats", "DynamoDB read and write
// operations", "Managing capacity for transactions", "Using global secondary indexes"):
//
//   - an item is its attribute names and values, keys, index keys and expiry included: text and binary by bytes, a number one byte for two
//     significant digits and one more, a flag one byte;
//   - a strong read is 1 unit for each 4 KB, an eventual one half of that, and what is not there costs like 4 KB; BatchGet rounds each item,
//     a query the sum of its page;
//   - a write is 1 unit for each KB of the larger of the item before and after, 1 at least, also when its condition fails; in a transaction
//     it is twice that, checks included;
//   - an index entry written or removed is a write of its own, a moved one is both, an unchanged one none; it is outside the transaction's
//     doubling. Entries project keys only, so that they are 1 unit unless the keys are huge.

// Size is what the item counts for, in bytes.
func (i Item) Size() int {
	size := len(AttrPK) + len(i.PK) + len(AttrSK) + len(i.SK)
	for index, entry := range i.Index {
		if entry != (Key{}) {
			pk, sk := index.KeyNames()
			size += len(pk) + len(entry.PK) + len(sk) + len(entry.SK)
		}
	}
	if i.Expires != 0 {
		size += len(AttrExpires) + numberSize(i.Expires)
	}
	for name, value := range i.Attrs {
		size += len(name) + valueSize(value)
	}
	return size
}

// entrySize is what the item's entry in an index counts for, 0 when it has none.
func entrySize(i Item, index Index) int {
	entry := i.Index[index]
	if entry == (Key{}) {
		return 0
	}
	return Item{Key: i.Key, Index: map[Index]Key{index: entry}}.Size()
}

func valueSize(value any) int {
	switch v := value.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	case int64:
		return numberSize(v)
	}
	return 1
}

// numberSize: trailing zeros are no significant digits.
func numberSize(n int64) int {
	size := 1
	if n < 0 {
		size++
	}
	for n != 0 && n%10 == 0 {
		n /= 10
	}
	digits := 0
	for ; n != 0; n /= 10 {
		digits++
	}
	return size + (digits+1)/2
}
