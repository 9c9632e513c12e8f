package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// staticKey is a configured API key without the key: its hash, and who it stands for.
type staticKey struct {
	hash       [sha256.Size]byte
	expires    time.Time // zero is never
	credential Credential
}

// keySpec is a key as the configuration spells it.
type keySpec struct {
	Key          string   `json:"key"`
	Tenant       string   `json:"tenant"`
	Role         string   `json:"role"`
	Principal    string   `json:"principal_id"`
	ExpiresAt    string   `json:"expires_at"`
	CrossTenant  bool     `json:"allow_cross_tenant"`
	Pools        []string `json:"pools"`
	TenantHeader string   `json:"tenant_header"`
}

// maxPools is how many pools a key may name: a claim compares the job's with each of them in one condition.
const maxPools = store.MaxOneOf

// The errors of a key never quote what stands in the configuration: fields that were mixed up may hold the key itself.
var (
	errKeyText     = errors.New("a key is 1 to 512 printable ASCII characters without spaces, commas and quotes")
	errKeyTenant   = errors.New("the tenant is not a tenant's name: " + tenantSyntax)
	errKeyRole     = errors.New("the role is not one of admin, operator, user, viewer, worker")
	errKeyExpiry   = errors.New("expires_at is not an RFC 3339 time, such as 2030-01-31T00:00:00Z")
	errKeyHeader   = errors.New(`tenant_header may only be "optional"`)
	errKeyWorker   = errors.New(`a key with the role worker names its pools, and no other does: "pools": ["etl"], or ["*"] for all`)
	errKeyPools    = fmt.Errorf(`a key names at most %d pools; ["*"] is all`, maxPools)
	errKeyName     = errors.New("principal_id is at most 256 printable characters without a comma")
	errKeyFields   = errors.New("an entry is key, tenant:key, tenant:key:role or tenant:key:role:principal, and no field is empty")
	errKeyObject   = errors.New("a key object has the members key, tenant, role, principal_id, expires_at, allow_cross_tenant, pools, tenant_header")
	errKeyJSON     = errors.New("it begins like JSON and is not a list of key objects, an object of them, or {\"keys\":[...]}")
	errKeyRepeated = errors.New("it repeats an earlier key with other properties")
)

func (s keySpec) parse(defaultTenant string) (staticKey, error) {
	role, ok := identity.Admin, true
	if s.Role != "" {
		role, ok = identity.ParseRole(s.Role)
	}
	tenant := s.Tenant
	if tenant == "" {
		tenant = defaultTenant
	}
	var expires time.Time
	var expiry error
	if s.ExpiresAt != "" {
		expires, expiry = time.Parse(time.RFC3339, s.ExpiresAt)
	}
	switch {
	case !validKey(s.Key):
		return staticKey{}, errKeyText
	case !validTenant(tenant):
		return staticKey{}, errKeyTenant
	case !ok || role == identity.Anonymous:
		return staticKey{}, errKeyRole
	case expiry != nil:
		return staticKey{}, errKeyExpiry
	case s.TenantHeader != "" && s.TenantHeader != "optional":
		return staticKey{}, errKeyHeader
	case (role == identity.Worker) != (len(s.Pools) > 0) || slices.Contains(s.Pools, ""):
		return staticKey{}, errKeyWorker
	case len(s.Pools) > maxPools:
		return staticKey{}, errKeyPools
	case s.Principal != "" && !validPrincipal(s.Principal):
		return staticKey{}, errKeyName
	}
	hash := sha256.Sum256([]byte(s.Key))
	return staticKey{hash: hash, expires: expires, credential: Credential{
		ID: keyID(hash), Tenant: tenant, Role: role, Principal: s.Principal, CrossTenant: s.CrossTenant,
		Pools: s.Pools, TenantOptional: s.TenantHeader == "optional", Expires: expires,
	}}, nil
}

func validKey(key string) bool {
	return key != "" && len(key) <= 512 && !strings.ContainsFunc(key, func(r rune) bool {
		return r <= ' ' || r > '~' || r == ',' || r == '"' || r == '\''
	})
}

// keyID names a key in logs: 32 bits of a second hash, so that it tells keys apart and says nothing of them.
func keyID(hash [sha256.Size]byte) string {
	id := sha256.Sum256(append([]byte("cordum key id\x00"), hash[:]...))
	return "key-" + hex.EncodeToString(id[:4])
}

// parseKeys reads any of the encodings of CORDUM_API_KEYS; "" is no key.
func parseKeys(text, defaultTenant string) ([]staticKey, error) {
	specs, err := keySpecs(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	keys := make([]staticKey, 0, len(specs))
	for i, spec := range specs {
		key, err := spec.parse(defaultTenant)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func keySpecs(text string) ([]keySpec, error) {
	switch {
	case strings.HasPrefix(text, "["):
		return specList([]byte(text))
	case strings.HasPrefix(text, "{"):
		return specObject([]byte(text))
	default:
		return specFields(text)
	}
}

func specFields(text string) ([]keySpec, error) {
	var specs []keySpec
	for _, entry := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		fields := strings.Split(entry, ":")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if len(fields) > 4 || slices.Contains(fields, "") {
			return nil, fmt.Errorf("entry %d: %w", len(specs)+1, errKeyFields)
		}
		specs = append(specs, colonSpec(fields))
	}
	return specs, nil
}

// colonSpec reads 1 to 4 fields: a lone field is the key, otherwise the tenant comes first.
func colonSpec(fields []string) keySpec {
	if len(fields) == 1 {
		return keySpec{Key: fields[0]}
	}
	fields = append(fields, "", "")
	return keySpec{Tenant: fields[0], Key: fields[1], Role: fields[2], Principal: fields[3]}
}

func specList(text []byte) ([]keySpec, error) {
	var items []json.RawMessage
	if json.Unmarshal(text, &items) != nil {
		return nil, errKeyJSON
	}
	specs := make([]keySpec, len(items))
	for i, item := range items {
		if err := specs[i].read(item); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return specs, nil
}

// specObject reads {"keys":[...]}, or a map from key to its properties. The order of a map's entries is that of the sorted keys, so that
// the number in an error is always the same.
func specObject(text []byte) ([]keySpec, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return nil, errKeyJSON
	}
	if list, ok := members["keys"]; ok && len(members) == 1 && bytes.HasPrefix(list, []byte("[")) {
		return specList(list)
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	specs := make([]keySpec, len(names))
	for i, name := range names {
		if err := specs[i].read(members[name]); err != nil {
			return nil, fmt.Errorf("entry %d in the order of the keys: %w", i+1, err)
		}
		if specs[i].Key != "" && specs[i].Key != name {
			return nil, fmt.Errorf("entry %d in the order of the keys: %w", i+1, errKeyObject)
		}
		specs[i].Key = name
	}
	return specs, nil
}

func (s *keySpec) read(item json.RawMessage) error {
	d := json.NewDecoder(bytes.NewReader(item))
	d.DisallowUnknownFields()
	if !bytes.HasPrefix(item, []byte("{")) || d.Decode(s) != nil {
		return errKeyObject
	}
	return nil
}

// index is what a presented key is looked up in.
type index map[[sha256.Size]byte]*staticKey

// indexKeys refuses a key that is listed twice with different properties: which of them holds must not depend on an order.
func indexKeys(keys []staticKey) (index, error) {
	ix := make(index, len(keys))
	for i := range keys {
		k := &keys[i]
		if earlier, ok := ix[k.hash]; ok && !earlier.same(k) {
			return nil, fmt.Errorf("static API key %d: %w", i+1, errKeyRepeated)
		}
		ix[k.hash] = k
	}
	return ix, nil
}

func (k *staticKey) same(o *staticKey) bool {
	a, b := k.credential, o.credential
	return k.expires.Equal(o.expires) && a.Tenant == b.Tenant && a.Role == b.Role && a.Principal == b.Principal &&
		a.CrossTenant == b.CrossTenant && a.TenantOptional == b.TenantOptional && slices.Equal(a.Pools, b.Pools)
}
