package lock

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// A lock is the item LK#<tenant>#<resource> | L; the plane's have no tenant. It stays for a while when the lock has ended, with its token.
//
//	by_link  LK#<tenant>#<shard>#<day> | <resource>   locks that are held, by the day, in UTC, in which they end: what was never given back is
//	                                                  listed until then
func (l Lock) key() store.Key {
	return store.Key{PK: "LK#" + listing.Segment(l.Tenant) + "#" + listing.Segment(l.Resource), SK: "L"}
}

// tenantShards spread what a tenant's locks write to the index; the plane has few locks.
const tenantShards = 4

func shards(tenant string) uint32 {
	if tenant == "" {
		return 1
	}
	return tenantShards
}

func partition(tenant string, shard uint32, day int64) string {
	return fmt.Sprintf("LK#%s#%d#%d", listing.Segment(tenant), shard, day)
}

func day(t time.Time) int64 { return t.Unix() / int64(24*time.Hour/time.Second) }

// spaces of resources that are the plane's.
var common = []string{"packs:", "pack:"}

// owned answers the lock of a resource that nobody ever held.
func owned(tenant, resource string) Lock {
	if slices.ContainsFunc(common, func(p string) bool { return strings.HasPrefix(resource, p) }) {
		tenant = ""
	}
	return Lock{Tenant: tenant, Resource: resource}
}

// Names of the attributes. Each owner has one: its name is a hash of his, so that a condition can ask whether he is there, and it holds the count and his
// name. A lock that was given back has neither a mode nor owners.
const (
	attrResource = "r"
	attrTenant   = "te"
	attrMode     = "m"
	attrUpdated  = "at" // microseconds, as the following
	attrExpires  = "ex"
	attrToken    = "t"
	attrWriters  = "w" // the operations that wrote it last, the newest first
	attrOwner    = "o#"
)

func ownerAttr(owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return attrOwner + hex.EncodeToString(sum[:16])
}

// kept is how long a lock that has ended is remembered: the next token is larger than the last one as long as clocks differ by less than that.
const kept = 30 * 24 * time.Hour

// remembered is how many of the operations that wrote an item are in it.
const remembered = 16

// record is a lock as it is stored; no writers is one that is not.
type record struct {
	Lock
	writers []string
}

// put replaces what is stored by what an operation made of it, if it is still that.
func (r record) put(after Lock, operation string) store.Op {
	attrs := store.Attrs{
		attrResource: after.Resource, attrTenant: after.Tenant, attrToken: after.Token,
		attrUpdated: after.UpdatedAt.UnixMicro(), attrExpires: after.ExpiresAt.UnixMicro(),
		attrWriters: strings.Join(append([]string{operation}, r.writers[:min(len(r.writers), remembered-1)]...), " "),
	}
	last := max(after.ExpiresAt.Unix(), time.UnixMicro(after.Token).Unix())
	item := store.Item{Key: after.key(), Attrs: attrs, Expires: last + int64(kept/time.Second)}
	if len(after.Owners) > 0 {
		attrs[attrMode] = after.Mode
		pk := partition(after.Tenant, listing.Hash(after.Resource)%shards(after.Tenant), day(after.ExpiresAt))
		item.Index = map[store.Index]store.Key{store.ByLink: {PK: pk, SK: after.Resource}}
	}
	for owner, count := range after.Owners {
		attrs[ownerAttr(owner)] = strconv.Itoa(count) + " " + owner
	}
	unchanged := store.NotExists()
	if len(r.writers) > 0 {
		unchanged = store.Equal(attrWriters, strings.Join(r.writers, " "))
	}
	return store.Put(item).If(unchanged)
}

func parse(it store.Item) (record, error) {
	r := record{
		Lock: Lock{
			Tenant: it.Attrs.String(attrTenant), Resource: it.Attrs.String(attrResource), Mode: it.Attrs.String(attrMode), Token: it.Attrs.Int(attrToken),
			UpdatedAt: time.UnixMicro(it.Attrs.Int(attrUpdated)).UTC(), ExpiresAt: time.UnixMicro(it.Attrs.Int(attrExpires)).UTC(),
		},
		writers: strings.Fields(it.Attrs.String(attrWriters)),
	}
	for name := range it.Attrs {
		if !strings.HasPrefix(name, attrOwner) {
			continue
		}
		text, owner, _ := strings.Cut(it.Attrs.String(name), " ")
		count, err := strconv.Atoi(text)
		if err != nil {
			return record{}, fmt.Errorf("lock %s: %w", it.Key, err)
		}
		if r.Owners == nil {
			r.Owners = map[string]int{}
		}
		r.Owners[owner] = count
	}
	return r, nil
}

// fate is what became of a write whose answer says that it failed, or was lost.
type fate int

const (
	// open: nobody has written since. It may still come.
	open fate = iota
	done
	// overtaken: others wrote first, so that it never will be.
	overtaken
	// unknown: so many have written since that nobody knows.
	unknown
)

// fate finds out, by what is stored now, what became of an operation's write over what was stored before.
func (r record) fate(before record, operation string) fate {
	switch {
	case slices.Equal(r.writers, before.writers):
		return open
	case slices.Contains(r.writers, operation):
		return done
	case len(r.writers) == 0, // what had ended long ago was removed
		len(before.writers) == 0 && len(r.writers) < remembered,
		len(before.writers) > 0 && slices.Contains(r.writers, before.writers[0]):
		return overtaken
	}
	return unknown
}
