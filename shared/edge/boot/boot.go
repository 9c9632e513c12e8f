// Package boot turns an environment into what every door of the plane is made of. It is called by main packages, and by the local plane with
// an environment of its own.
package boot

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/cordum-serverless/cordum/shared/core/artifact"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/marketplace"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	packsignature "github.com/cordum-serverless/cordum/shared/core/pack/signature"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
	"github.com/cordum-serverless/cordum/shared/core/release"
	"github.com/cordum-serverless/cordum/shared/core/signature"
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/core/word"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/secret"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Ports are the adapters that a process has opened; those that it has no use for are nil, so that it does not carry them.
type Ports struct {
	Table  store.Table
	Queues queue.Queues
	Blobs  blob.Store
	// Connections reach clients.
	Connections push.Connections
}

// Dispatcher makes what moves jobs.
func Dispatcher(getenv func(string) string, p Ports, log *slog.Logger) (*dispatch.Dispatcher, error) {
	shards, err := Shards(getenv)
	if err != nil {
		return nil, err
	}
	senders, err := Senders(getenv)
	if err != nil {
		return nil, err
	}
	key, err := PolicyKey(getenv)
	if err != nil {
		return nil, err
	}
	return dispatch.New(dispatch.Platform{
		Table: p.Table, Queues: p.Queues, Blobs: p.Blobs, Clock: clock.System{}, IDs: ids.Source{}, Log: log, Shards: shards,
		Connections: p.Connections, Senders: senders, PolicyKey: key, Metrics: measures(getenv, log),
	}), nil
}

// measures puts metrics into the log; CORDUM_STAGE tells the planes of an account apart.
func measures(getenv func(string) string, log *slog.Logger) metrics.Sink {
	return metrics.Embedded{Log: log, Stage: cmp.Or(getenv("CORDUM_STAGE"), "local"), Clock: clock.System{}}
}

// secretWait is how long a process that starts waits for its secrets.
const secretWait = 5 * time.Second

// Settings are what an operator has set: an environment, and secrets that win over it.
type Settings struct {
	getenv  func(string) string
	secrets secret.Source
	// atStart answers the settings as they were when the process began; they are read once.
	atStart func() (func(string) string, error)
}

// With makes settings. Secrets may be nil.
func With(getenv func(string) string, secrets secret.Source) Settings {
	s := Settings{getenv: getenv, secrets: secrets}
	s.atStart = sync.OnceValues(func() (func(string) string, error) {
		if secrets == nil {
			return getenv, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), secretWait)
		defer cancel()
		return s.present(ctx)
	})
	return s
}

// present reads the settings as they are now.
func (s Settings) present(ctx context.Context) (func(string) string, error) {
	values, err := s.secrets(ctx)
	return secret.Over(s.getenv, values), err
}

// Edge reads the configuration of authentication, limits and origins, and makes the gate that knows the sessions and keys in the table.
func Edge(s Settings, table store.Table, clk clock.Clock, log *slog.Logger) (rest.Config, error) {
	now, err := s.atStart()
	if err != nil {
		return rest.Config{}, err
	}
	keys, err := auth.FromEnv(now)
	if err != nil {
		return rest.Config{}, err
	}
	if s.secrets != nil {
		keys.Reload = s.present
	}
	accounts, err := Accounts(s, table, nil, clk, log)
	if err != nil {
		return rest.Config{}, err
	}
	tokens, err := auth.NewTokens(now, keys.Reload, clk, log)
	if err != nil {
		return rest.Config{}, err
	}
	gate, err := auth.New(keys, clk, log, append(auth.Accounts(accounts), tokens)...)
	if err != nil {
		return rest.Config{}, err
	}
	gate.Share(table)
	cfg, err := rest.FromEnv(now)
	cfg.Gate, cfg.Log, cfg.Clock, cfg.IDs, cfg.Metrics = gate, log, clk, ids.Source{}, measures(s.getenv, log)
	return cfg, err
}

// Accounts reads what an operator decides about users, sessions and keys; ended is told which of them open nothing any more, and may be nil.
func Accounts(s Settings, table store.Table, ended user.Ended, clk clock.Clock, log *slog.Logger) (*user.Accounts, error) {
	getenv, err := s.atStart()
	if err != nil {
		return nil, err
	}
	settings, err := user.ReadSettings(getenv)
	return user.Open(user.Platform{Table: table, Clock: clk, IDs: ids.Source{}, Log: log, Ended: ended}, settings), err
}

// FirstAdmin reads CORDUM_ADMIN_USERNAME and CORDUM_ADMIN_PASSWORD, who is made the first administrator of the tenant TENANT_ID; nil is nobody.
func FirstAdmin(s Settings) (*user.First, error) {
	getenv, err := s.atStart()
	if err != nil {
		return nil, err
	}
	return user.ReadFirst(getenv)
}

// AuditKeys reads CORDUM_AUDIT_KEY, which signs the audit trail.
func AuditKeys(s Settings) (chain.Keys, error) {
	getenv, err := s.atStart()
	if err != nil {
		return chain.Keys{}, err
	}
	return chain.ParseKeys(getenv("CORDUM_AUDIT_KEY"))
}

// Artifacts reads what an operator decides about artifacts.
func Artifacts(s Settings) (artifact.Settings, error) {
	getenv, err := s.atStart()
	if err != nil {
		return artifact.Settings{}, err
	}
	return artifact.ReadSettings(getenv), nil
}

// Senders reads CORDUM_SENDER_KEYS, the public keys of workers that sign what they say.
func Senders(getenv func(string) string) (signature.Keys, error) {
	keys, err := signature.Parse(getenv("CORDUM_SENDER_KEYS"))
	if err != nil {
		return nil, fmt.Errorf("CORDUM_SENDER_KEYS: %w", err)
	}
	return keys, nil
}

// PolicyKey reads CORDUM_POLICY_PUBLIC_KEY, whose signature the base policy must carry; nil looks at none.
func PolicyKey(getenv func(string) string) (*signed.Key, error) {
	text := strings.TrimSpace(getenv("CORDUM_POLICY_PUBLIC_KEY"))
	if text == "" {
		return nil, nil
	}
	key, err := signed.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("CORDUM_POLICY_PUBLIC_KEY: %w", err)
	}
	return &key, nil
}

// Catalog reads CORDUM_PACK_CATALOG_URL, _ID and _TITLE: the catalog of packs that a plane begins with. CORDUM_PACK_CATALOG_DEFAULT_DISABLED leaves it
// without one.
func Catalog(getenv func(string) string) *marketplace.Catalog {
	if word.True(getenv("CORDUM_PACK_CATALOG_DEFAULT_DISABLED")) {
		return nil
	}
	given := func(name, otherwise string) string {
		return cmp.Or(strings.TrimSpace(getenv("CORDUM_PACK_CATALOG_"+name)), otherwise)
	}
	return &marketplace.Catalog{
		ID: given("ID", marketplace.OfficialID), Title: given("TITLE", marketplace.OfficialTitle), URL: given("URL", marketplace.OfficialURL), Enabled: true,
	}
}

// Packs reads what the plane asks of packs: CORDUM_PACK_PUBLIC_KEYS, whose signatures it trusts, and CORDUM_PACK_SIGNATURE, which is "required" where it
// installs no others.
func Packs(getenv func(string) string) (pack.Options, error) {
	asks := pack.Options{CoreVersion: release.Version}
	var err error
	if asks.Keys, err = packsignature.ParseKeys(getenv("CORDUM_PACK_PUBLIC_KEYS")); err != nil {
		return asks, fmt.Errorf("CORDUM_PACK_PUBLIC_KEYS: %w", err)
	}
	switch wish := strings.ToLower(strings.TrimSpace(getenv("CORDUM_PACK_SIGNATURE"))); {
	case wish == "required" && len(asks.Keys) == 0:
		return asks, fmt.Errorf("CORDUM_PACK_SIGNATURE is required, and CORDUM_PACK_PUBLIC_KEYS has no key")
	case wish == "required":
		asks.RequireSignature = true
	case wish != "" && wish != "optional":
		return asks, fmt.Errorf("CORDUM_PACK_SIGNATURE must be required or optional")
	}
	return asks, nil
}

// defaultShards spreads a tenant's lists over partitions that take about 1,000 writes a second each.
const defaultShards = 4

// Shards reads CORDUM_LIST_SHARDS. It must be the same for every function of a plane, and may not shrink.
func Shards(getenv func(string) string) (job.Shards, error) {
	text := getenv("CORDUM_LIST_SHARDS")
	if text == "" {
		return defaultShards, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 64 {
		return 0, fmt.Errorf("CORDUM_LIST_SHARDS must be a whole number from 1 to 64")
	}
	return job.Shards(n), nil
}

// Log writes JSON lines that carry the id of the Lambda request they belong to.
func Log() *slog.Logger { return lambdacontext.NewLogger() }

// Must ends a process that cannot start. Its environment says why not, and so does the log.
func Must(log *slog.Logger, err error) {
	if err != nil {
		log.Error("cannot start", "error", err)
		os.Exit(1)
	}
}
