package documents

import (
	"encoding/json"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// FuzzParse: a change is read or refused; what it names is a document that its author may have, and its data is JSON that settings can be read from.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"scope":"system","scope_id":"default","data":{"pools":{"topics":{"job.*":"main"}},"timeouts":null},"meta":{"a":"b"}}`,
		`{"pools":{}}`, `{"scope":7}`, `{"scope":"org","scope_id":"other","data":{}}`, `{"scope":" team ","data":[]}`, `null`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	by := identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := Parse(body)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Error(err)
			}
			return
		}
		if n, err := resolve(by, c.Scope, c.ID); err == nil && n.scope == "org" && n.id != by.Tenant {
			t.Errorf("%s: another tenant's document %s", body, n)
		}
		data, err := encode(c.Data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Errorf("%s: data %s", body, data)
		}
		if settings, problems := schedule.ParseSettings(data, nil); settings == nil && len(problems) == 0 {
			t.Errorf("%s: neither settings nor problems", body)
		}
		_, _ = config.Merge([]config.Document{{Scope: c.Scope, Data: data, Revision: 1}}) // it may be refused, and must not panic
	})
}
