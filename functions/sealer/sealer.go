// Package sealer is the function that a schedule starts: it seals the entries of the audit trail.
package sealer

import (
	"context"
	"log/slog"

	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
)

// Handler seals what is old enough. The log has a line for every head that it writes, so that the log too is a checkpoint. An error means that something
// is unsealed still; the next run finds it.
func Handler(s *chain.Sealer, log *slog.Logger) func(context.Context) (chain.Report, error) {
	return func(ctx context.Context) (chain.Report, error) {
		did, err := s.Run(ctx)
		if did.Head > 0 {
			log.InfoContext(ctx, "audit trail sealed", "head", did.Head, "digest", did.Digest, "key", did.Key, "blocks", did.Blocks, "entries", did.Entries)
		}
		return did, err
	}
}
