package rules

import "github.com/cordum-serverless/cordum/shared/platform/resources"

// Named is a rule with its name.
type Named struct {
	Name  string
	Check Rule
}

// MostResources leaves room below CloudFormation's 500 for an upgrade that makes the new beside the old.
const MostResources = 400

// All are the rules for a plane whose names begin with prefix, with these pools, and with these queues beside the defined ones.
func All(prefix string, pools []string, more ...string) []Named {
	return []Named{
		{"no wildcards without a reason", Wildcards},
		{"one role a function", OwnRoles},
		{"no public access", NotPublic},
		{"no plain secrets", NoPlainSecrets},
		{"encryption", Encrypted},
		{"TLS only", OnlyTLS},
		{"recovery", Recoverable},
		{"retention of logs", Retention},
		{"sizes of functions", Sized},
		{"containers", Container(resources.DeliveryQueues)},
		{"visibility", LongVisibility},
		{"partial batches", PartialBatches},
		{"dead letters", DeadLetters},
		{"alarms", Watched},
		{"routes", Routed},
		{"definitions", Defined(prefix, pools, more...)},
		{"few resources", Small(MostResources)},
	}
}
