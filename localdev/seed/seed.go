// Package seed puts the first configuration into a plane: the policy, the pools and the timeouts of files, and the queues that they need.
package seed

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
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

// Files is what a plane begins with, as YAML; nil is the local plane's own file.
type Files struct {
	Policy, Pools, Timeouts []byte
	// Settings are further members of the document system/default.
	Settings map[string]json.RawMessage
}

// Apply stores what is not stored yet: pools, timeouts and settings that an operator has changed stay as they are. The policy file is the
// base policy: a file that has changed since takes effect. Files that are not valid are refused, and nothing is stored.
func Apply(ctx context.Context, table store.Table, queues queue.Queues, heads *head.Store, f Files, now time.Time) error {
	members, err := f.members()
	if err != nil {
		return err
	}
	documents := &config.Store{Table: table}
	if _, err := documents.Seed(ctx, config.SystemScope, config.DefaultID, members, now); err != nil {
		return fmt.Errorf("seed settings: %w", err)
	}
	d, err := documents.Get(ctx, config.SystemScope, config.DefaultID)
	if err != nil {
		return err
	}
	settings, problems := schedule.ParseSettings(d.Data, nil)
	if len(problems) > 0 {
		return fmt.Errorf("stored settings: %w", errors.Join(problems...))
	}
	if err := queues.Ensure(ctx, resources.Queues(settings.Topology.Pools()...)...); err != nil {
		return fmt.Errorf("create queues: %w", err)
	}
	if _, err := heads.SetBase(ctx, policy.Source{Name: "policy.yaml", Content: or(f.Policy, Policy)}); err != nil {
		return fmt.Errorf("seed policy: %w", err)
	}
	return nil
}

func (f Files) members() (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	for name, text := range map[string][]byte{"pools": or(f.Pools, Pools), "timeouts": or(f.Timeouts, Timeouts)} {
		raw, err := yaml.YAMLToJSON(text)
		if err != nil {
			return nil, fmt.Errorf("%s.yaml: %w", name, err)
		}
		members[name] = raw
	}
	maps.Copy(members, f.Settings)
	all, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	if _, problems := schedule.ParseSettings(all, nil); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return members, nil
}

func or(text, otherwise []byte) []byte {
	if text == nil {
		return otherwise
	}
	return text
}
