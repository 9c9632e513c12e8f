package store

import "sync/atomic"

// Meter counts what a table would be billed for, by DynamoDB's rules for on-demand tables (see size.go). Adapters count into it: the
// embedded one computes, the AWS one reports what DynamoDB says. All fields count from the start of the process. A nil *Meter counts
// nothing.
type Meter struct {
	Reads      atomic.Int64 // requests that read
	Writes     atomic.Int64 // requests that write
	ReadUnits  atomic.Int64 // in halves of a read unit
	WriteUnits atomic.Int64 // in write units
}

// Usage is a reading of a Meter.
type Usage struct {
	Reads, Writes int64
	// ReadUnits and WriteUnits are capacity units.
	ReadUnits, WriteUnits float64
}

// Read answers the counts so far.
func (m *Meter) Read() Usage {
	return Usage{
		Reads: m.Reads.Load(), Writes: m.Writes.Load(),
		ReadUnits: float64(m.ReadUnits.Load()) / 2, WriteUnits: float64(m.WriteUnits.Load()),
	}
}

// Since answers what was used after an earlier reading.
func (u Usage) Since(before Usage) Usage {
	return Usage{
		Reads: u.Reads - before.Reads, Writes: u.Writes - before.Writes,
		ReadUnits: u.ReadUnits - before.ReadUnits, WriteUnits: u.WriteUnits - before.WriteUnits,
	}
}

// batchSize is the most keys of one BatchGetItem request.
const batchSize = 100

// CountGet counts a strongly consistent read of one item; absent is the zero Item.
func (m *Meter) CountGet(i Item) {
	if m != nil {
		m.Reads.Add(1)
		m.ReadUnits.Add(2 * blocks(i.Size(), readBlock))
	}
}

// CountBatch counts a strongly consistent read of n keys, of which these were there.
func (m *Meter) CountBatch(n int, found []Item) {
	if m == nil || n == 0 {
		return
	}
	m.Reads.Add(blocks(n, batchSize))
	units := int64(n - len(found))
	for _, i := range found {
		units += blocks(i.Size(), readBlock)
	}
	m.ReadUnits.Add(2 * units)
}

// CountQuery counts one page.
func (m *Meter) CountQuery(q Query, items []Item) {
	if m == nil {
		return
	}
	size := 0
	for _, i := range items {
		size += i.Size()
	}
	halves := blocks(size, readBlock)
	if q.Index == "" && !q.Eventual {
		halves *= 2
	}
	m.Reads.Add(1)
	m.ReadUnits.Add(halves)
}

// CountRequest counts a request that writes, whether or not it did.
func (m *Meter) CountRequest() {
	if m != nil {
		m.Writes.Add(1)
	}
}

// CountWrite counts one operation of a write: the item before and after, nil where it is not there.
func (m *Meter) CountWrite(before, after *Item, transaction bool) {
	if m == nil {
		return
	}
	var b, a Item
	if before != nil {
		b = *before
	}
	if after != nil {
		a = *after
	}
	units := max(blocks(b.Size(), writeBlock), blocks(a.Size(), writeBlock))
	if transaction {
		units *= 2
	}
	for _, index := range Indexes {
		if b.Index[index] == a.Index[index] && (before != nil) == (after != nil) {
			continue
		}
		for _, size := range []int{entrySize(b, index), entrySize(a, index)} {
			if size > 0 {
				units += blocks(size, writeBlock)
			}
		}
	}
	m.WriteUnits.Add(units)
}

const (
	readBlock  = 4096
	writeBlock = 1024
)

// blocks answers how many blocks bytes fill, one at least.
func blocks(bytes, block int) int64 { return int64(max(1, (bytes+block-1)/block)) }
