// Package override keeps the rules that a workflow has beside the policy of the plane. They are a member of its definition, and stand once more in
// an item of their own, which every decision about a job of the workflow goes by. Whoever writes a definition writes that item in the same
// transaction, and moves the head, so that what was acknowledged before a decision began is in it.
package override

import (
	"fmt"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Key is the item with the rules of a tenant's workflow: WFP#<tenant>#<workflow> | P. There is none for a workflow without rules.
func Key(tenant, workflow string) store.Key {
	return store.Key{PK: "WFP#" + listing.Segment(tenant) + "#" + listing.Segment(workflow), SK: "P"}
}

// attrRules is the attribute with the document.
const attrRules = "rules"

// Change are the operations that put other rules of a workflow in the place of some; before and after are the documents, blank for none. There are none
// when they are the same. They are in force when the head moves with them.
func Change(tenant, workflow, before, after string) []store.Op {
	if before == after {
		return nil
	}
	op := store.Delete(Key(tenant, workflow))
	if strings.TrimSpace(after) != "" {
		op = store.Put(store.Item{Key: Key(tenant, workflow), Attrs: store.Attrs{attrRules: after}})
	}
	return []store.Op{op}
}

// Read compiles the rules of a workflow from their item.
func Read(workflow string, it store.Item) (*policy.Override, error) {
	o, err := policy.CompileOverride(workflow, []byte(it.Attrs.String(attrRules)))
	if err != nil {
		return nil, fmt.Errorf("policy override %s: %w", it.Key, err)
	}
	return o, nil
}
