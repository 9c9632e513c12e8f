package user

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Failures counts failed logins, in the table, so that all instances count together. An attempt counts as failed from before its password is looked at
// until it has succeeded: guesses at one time are as many as guesses one after the other.
type Failures struct {
	Table store.Table
	Clock clock.Clock
	IDs   ids.Source
	Log   *slog.Logger
	// Most is how many failures a name may have from one address within Period, MostOfName from anywhere.
	Most, MostOfName int
	Period           time.Duration
}

// ErrLocked is the answer to an attempt too many.
var ErrLocked = fault.New(fault.Limited, "rate limit exceeded")

const (
	attrFailures = "f"
	attrVersion  = "v"
)

// failure is an attempt that has not succeeded: when, and from where. Those of two instances may share a microsecond; the random number tells them
// apart.
type failure struct {
	micros         int64
	network, which uint32 // the network is a hash: two that share it are counted as one, and no more comes of it
}

// Attempt is one that is under way.
type Attempt struct {
	of   *Failures
	key  store.Key
	mine failure
}

// Take begins an attempt to log in as somebody, "" where nobody is named, from an address. ErrLocked says that there were too many.
func (f *Failures) Take(ctx context.Context, tenant, name, address string) (Attempt, error) {
	from := network(address)
	a := Attempt{of: f, key: failuresKey(tenant, name, from), mine: failure{f.Clock.Now().UnixMicro(), listing.Hash(from), listing.Hash(f.IDs.UUID())}}
	named := fold(name) != ""
	err := f.change(ctx, a.key, func(all []failure) ([]failure, error) {
		if slices.Contains(all, a.mine) { // it was written, and the answer was lost
			return all, nil
		}
		if named && len(all) >= f.MostOfName || f.from(all, a.mine.network) >= f.Most {
			return nil, ErrLocked
		}
		return append(all, a.mine), nil
	})
	return a, err
}

func (f *Failures) from(all []failure, network uint32) (n int) {
	for _, one := range all {
		if one.network == network {
			n++
		}
	}
	return n
}

// Succeeded clears what had failed from the same address. A guesser elsewhere gains nothing by it.
func (a Attempt) Succeeded(ctx context.Context) {
	err := a.of.change(ctx, a.key, func(all []failure) ([]failure, error) {
		return slices.DeleteFunc(all, func(one failure) bool { return one.network == a.mine.network }), nil
	})
	if err != nil { // it counts as failed until its time is over
		a.of.Log.WarnContext(ctx, "failed logins are not cleared", "error", err)
	}
}

// network is the part of an address that one client has: all of it, or the 64 bits that providers give to one.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	whole, _ := ip.Prefix(64) // an address of 128 bits has one
	return whole.String()
}

// change makes others of the failures of a name. When others change them meanwhile, they are made anew; whoever is overtaken again and again is one of
// many who guess at once, and is locked out with them.
func (f *Failures) change(ctx context.Context, key store.Key, become func([]failure) ([]failure, error)) error {
	for try := range tries {
		it, err := f.Table.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		now := f.Clock.Now()
		before := parseFailures(it.Attrs.Bytes(attrFailures), now.Add(-f.Period).UnixMicro())
		after, err := become(slices.Clone(before))
		if err != nil || slices.Equal(before, after) {
			return err
		}
		version := it.Attrs.Int(attrVersion)
		same := store.NotExists()
		if version != 0 {
			same = store.Equal(attrVersion, version)
		}
		put := store.Put(store.Item{
			Key: key, Expires: now.Add(f.Period).Unix() + 1, Attrs: store.Attrs{attrFailures: encodeFailures(after), attrVersion: version + 1},
		}).If(same)
		if err := f.Table.Write(ctx, put); !store.Overtaken(err) {
			return err
		}
		if err := clock.Pause(ctx, time.Duration(listing.Hash(key.PK+now.String())%(1000<<min(try, 5)))*time.Microsecond); err != nil {
			return err
		}
	}
	return ErrLocked
}

const failureSize = 16

// parseFailures leaves out those of before a microsecond.
func parseFailures(text []byte, since int64) (all []failure) {
	for one := range slices.Chunk(text, failureSize) {
		if len(one) < failureSize {
			break
		}
		f := failure{int64(binary.BigEndian.Uint64(one)), binary.BigEndian.Uint32(one[8:]), binary.BigEndian.Uint32(one[12:])}
		if f.micros > since {
			all = append(all, f)
		}
	}
	return all
}

func encodeFailures(all []failure) []byte {
	text := make([]byte, 0, len(all)*failureSize)
	for _, one := range all {
		text = binary.BigEndian.AppendUint64(text, uint64(one.micros))
		text = binary.BigEndian.AppendUint32(text, one.network)
		text = binary.BigEndian.AppendUint32(text, one.which)
	}
	return text
}
