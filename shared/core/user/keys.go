package user

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// The items of identities:
//
//	US#<tenant>#<id>     | U   a user
//	UN#<tenant>#<name>   | U   whose name that is, in lower case
//	UE#<tenant>#<email>  | U   whose e-mail address that is, likewise
//	UB#<tenant>          | U   the tenant's first administrator has been made
//	SE#<id>              | S   a session; its id is made from the token
//	AK#<id>              | K   a managed key; its id is made from the secret
//	LN#<tenant>#<name>   | F   failed logins of a name
//	LA#<tenant>#<net>    | F   failed logins of an address that named nobody
//
// Indexes:
//
//	by_link  US#<tenant> | <name>           users that are not disabled
//	by_time  AK#<tenant> | <micros>#<id>    managed keys
func userKey(tenant, id string) store.Key { return store.Key{PK: users(tenant) + "#" + id, SK: "U"} }
func nameKey(tenant, name string) store.Key {
	return store.Key{PK: "UN#" + listing.Segment(tenant) + "#" + listing.Segment(fold(name)), SK: "U"}
}

func emailKey(tenant, email string) store.Key {
	return store.Key{PK: "UE#" + listing.Segment(tenant) + "#" + listing.Segment(fold(email)), SK: "U"}
}
func firstKey(tenant string) store.Key {
	return store.Key{PK: "UB#" + listing.Segment(tenant), SK: "U"}
}
func sessionKey(id string) store.Key { return store.Key{PK: "SE#" + id, SK: "S"} }
func keyKey(id string) store.Key     { return store.Key{PK: "AK#" + id, SK: "K"} }
func failuresKey(tenant, name, network string) store.Key {
	kind, of := "LN#", fold(name)
	if of == "" {
		kind, of = "LA#", network
	}
	sum := sha256.Sum256([]byte(of)) // a name that nobody has may be of any length
	return store.Key{PK: kind + listing.Segment(tenant) + "#" + hex.EncodeToString(sum[:16]), SK: "F"}
}

func users(tenant string) string { return "US#" + listing.Segment(tenant) }
func keys(tenant string) string  { return "AK#" + listing.Segment(tenant) }

func listedUser(u User) store.Key { return store.Key{PK: users(u.Tenant), SK: fold(u.Name)} }
func listedKey(k Key) store.Key {
	return store.Key{PK: keys(k.Tenant), SK: listing.Sortable(k.CreatedAt) + "#" + k.ID}
}

// fold makes names equal that differ in case.
func fold(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// idOf is the id of what has a secret: who knows the secret finds the item, and who knows the id knows nothing of the secret.
func idOf(kind, secret string) (id string, hash []byte) {
	sum := sha256.Sum256([]byte(secret))
	return ids.Named(kind, hex.EncodeToString(sum[:])), sum[:]
}
