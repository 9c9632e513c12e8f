// Package seed puts the first configuration into a plane: the policy, the pools and the timeouts of files.
package seed

import (
	"context"
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
)

// Files is what a plane begins with, as YAML.
type Files struct {
	Policy, Pools, Timeouts []byte
	// Settings are further members of the document system/default.
	Settings map[string]json.RawMessage
}

// Apply stores what is not stored yet: pools, timeouts and settings that an operator has changed stay as they are. The policy file is the
// base policy: a file that has changed since takes effect. Files that are not valid are refused, and nothing is stored. It answers the pools that
// the plane has then.
func Apply(ctx context.Context, documents *config.Store, heads *head.Store, f Files, now time.Time) (pools []string, err error) {
	members, err := f.members()
	if err != nil {
		return nil, err
	}
	source := policy.Source{Name: "policy.yaml", Content: f.Policy}
	if _, err := policy.Compile(&source, nil); err != nil {
		return nil, err
	}
	if _, err := documents.Seed(ctx, config.SystemScope, config.DefaultID, members, now); err != nil {
		return nil, fmt.Errorf("seed settings: %w", err)
	}
	d, err := documents.Get(ctx, config.SystemScope, config.DefaultID)
	if err != nil {
		return nil, err
	}
	settings, _, err := documents.Compile(ctx, d, nil) // what is not valid is logged by who reads it
	if err != nil {
		return nil, fmt.Errorf("stored settings: %w", err)
	}
	if _, err := heads.SetBase(ctx, source); err != nil {
		return nil, fmt.Errorf("seed policy: %w", err)
	}
	return settings.Topology.Pools(), nil
}

func (f Files) members() (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	for name, text := range map[string][]byte{"pools": f.Pools, "timeouts": f.Timeouts} {
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
