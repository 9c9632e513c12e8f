package store

import "sync/atomic"

// Meter counts what a table would be billed for, by DynamoDB's rules for on-demand tables: a strong read costs one unit for each 4 KB, an
// eventual read half of that, a write one unit for each KB of the larger of the item before and after, each twice in a transaction;
// every index entry that is written or removed costs a write of its own. Adapters count into it: the embedded one computes, the AWS
// one reports what DynamoDB says. All fields count from the start of the process.
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
