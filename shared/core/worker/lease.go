package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// leaseTTL is how long a container's lease of a delivery queue holds unless it is renewed.
const leaseTTL = 30 * time.Second

func leaseKey(n int) store.Key { return store.Key{PK: fmt.Sprintf("DELIVERY#%d", n), SK: "L"} }

// Lease takes one of the delivery queues for a container that nobody else has; ok is false when all are taken.
func (r *Registry) Lease(ctx context.Context, owner string, now time.Time) (n int, ok bool, err error) {
	for n := range resources.DeliveryQueues {
		free := store.Any(store.NotExists(), store.Less("until", now.UnixMicro()), store.Equal("owner", owner))
		err := r.Table.Write(ctx, leaseOp(owner, n, now).If(free))
		if err == nil {
			return n, true, nil
		}
		if !gone(err) && !errors.Is(err, store.ErrConflict) {
			return 0, false, err
		}
	}
	return 0, false, nil
}

// Renew prolongs a lease; ok is false when it was lost.
func (r *Registry) Renew(ctx context.Context, owner string, n int, now time.Time) (ok bool, err error) {
	err = r.Table.Write(ctx, leaseOp(owner, n, now).If(store.Equal("owner", owner)))
	if gone(err) {
		return false, nil
	}
	return err == nil, err
}

func leaseOp(owner string, n int, now time.Time) store.Op {
	return store.Put(store.Item{
		Key: leaseKey(n), Attrs: store.Attrs{"owner": owner, "until": now.Add(leaseTTL).UnixMicro()},
		Expires: now.Add(retention).Unix(),
	})
}
