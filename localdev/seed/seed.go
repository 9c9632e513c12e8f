// Package seed holds the files that the local plane begins with. A deployment begins with them too, unless it names its own.
package seed

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/seed"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// The files of the local plane.
var (
	//go:embed policy.yaml
	Policy []byte
	//go:embed pools.yaml
	Pools []byte
	//go:embed timeouts.yaml
	Timeouts []byte
)

// The keys of a local plane. They open nothing but this machine.
const (
	AdminKey  = "local-admin-key"
	WorkerKey = "local-worker-key"
	Tenant    = "default"
	// Keys is the CORDUM_API_KEYS that has them.
	Keys = `[{"key":"` + AdminKey + `","tenant":"` + Tenant + `","role":"admin","principal_id":"you"},` +
		`{"key":"` + WorkerKey + `","tenant":"` + Tenant + `","role":"worker","pools":["*"],"allow_cross_tenant":true}]`
)

// Apply seeds a plane, with the local plane's own file where one is nil, and makes the queues that its pools need. CDK makes those of a deployment.
func Apply(ctx context.Context, table store.Table, queues queue.Queues, heads *head.Store, f seed.Files, now time.Time) error {
	f.Policy, f.Pools, f.Timeouts = or(f.Policy, Policy), or(f.Pools, Pools), or(f.Timeouts, Timeouts)
	pools, err := seed.Apply(ctx, &config.Store{Table: table, Blobs: heads.Blobs}, heads, f, now)
	if err != nil {
		return err
	}
	if err := queues.Ensure(ctx, resources.Queues(pools...)...); err != nil {
		return fmt.Errorf("create queues: %w", err)
	}
	return nil
}

func or(text, otherwise []byte) []byte {
	if text == nil {
		return otherwise
	}
	return text
}
