package sim

import (
	"context"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// sealersTable is the table of the sealer: what it reads does not park, since a run reads much and in its own order, and what it writes does.
type sealersTable struct{ table }

func (t sealersTable) Get(ctx context.Context, key store.Key) (store.Item, error) {
	return t.Table.Get(ctx, key)
}

func (t sealersTable) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	return t.Table.BatchGet(ctx, keys)
}

func (t sealersTable) Query(ctx context.Context, q store.Query) (store.Page, error) {
	return t.Table.Query(ctx, q)
}

func auditKeys() chain.Keys {
	keys, err := chain.ParseKeys("the audit trail of a simulated plane")
	if err != nil {
		panic(err) // it is long enough
	}
	return keys
}

// sealAll has the sealer run until all is old enough.
func (w *world) sealAll() {
	for range 3 {
		time.Sleep(chain.Lag)
		w.drive(w.functions["sealer"])
		w.flow()
	}
	time.Sleep(chain.Overlap)
}

// judgeTrail looks at the audit trail: it holds, everything that the log lists is sealed, once, and so is the decision of every job that a client
// knows of.
func (w *world) judgeTrail() {
	ctx := context.Background()
	v := chain.Verifier{Table: w.platform.Table(), Blobs: w.platform.Blobs(), Now: time.Now(), Trusted: auditKeys().Public()}
	verdict, err := v.Run(ctx)
	if err != nil {
		w.violated("the audit trail cannot be verified: %v", err)
		return
	}
	for _, f := range verdict.Findings {
		w.violated("audit trail: %v", f)
	}
	if verdict.Waiting != 0 {
		w.violated("audit trail: %d entries wait to be sealed", verdict.Waiting)
	}
	w.seen["sealed"] += verdict.Sealed
	sealed := map[store.Key]bool{}
	for e, err := range chain.List(ctx, w.platform.Table(), w.platform.Blobs(), time.Now()) {
		if err != nil {
			w.violated("the audit trail cannot be listed: %v", err)
			return
		}
		sealed[e.Key()] = true
	}
	w.each(func(a *acked, r *job.Record, err error) {
		if err == nil && !sealed[store.Key{PK: job.Partition(a.id), SK: "B#" + r.Body}] {
			w.violated("audit trail: the submission of job %s is not in it", a.id)
		}
	})
}
