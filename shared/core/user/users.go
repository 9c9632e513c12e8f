package user

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// User is somebody who logs in with a password.
type User struct {
	// ID is a UUID. Name is as it was given, and unique in the tenant in any case.
	ID, Tenant, Name string
	Email, Display   string
	Role             identity.Role
	// Disabled is for ever: who is deleted keeps the name, so that an old entry in the trail is never about somebody new.
	Disabled bool
	// Generation counts what ends the user's sessions. A session holds while it has the user's.
	Generation int64
	// CreatedAt, UpdatedAt and LastLoginAt are in microseconds. No two changes of a user have one UpdatedAt.
	CreatedAt, UpdatedAt, LastLoginAt int64

	hash string
}

// Faults that tell of users.
var (
	ErrUnknown = fault.New(fault.NotFound, "user not found")
	errTaken   = fault.New(fault.Conflict, "user already exists")
	errBusy    = fault.New(fault.Conflict, "user was changed by somebody else meanwhile; retry")
)

// Limits of users.
const (
	maxName    = 128
	maxEmail   = 254
	maxDisplay = 256
	// maxListed is the most users, or keys, that a list shows.
	maxListed = 2000
	// tries is how often a change that collided with another is made anew.
	tries = 20
)

// Names of the attributes of a user.
const (
	attrID         = "id"
	attrTenant     = "tn"
	attrName       = "nm"
	attrEmail      = "em"
	attrDisplay    = "ds"
	attrRole       = "rl"
	attrDisabled   = "off"
	attrGeneration = "gen"
	attrHash       = "hash"
	attrCreated    = "cr"
	attrUpdated    = "up"
	attrLogin      = "li"
)

// Users keeps users. One is shared by everything in a process; all its methods may be called at once.
type Users struct {
	Table     store.Table
	Clock     clock.Clock
	IDs       ids.Source
	Passwords *Passwords
	Rule      Rule
	Ended     Ended

	micros clock.Unique
}

// New is a user that is to be made.
type New struct {
	Tenant, Name, Email, Password string
	// Role is a role's name; "" is user.
	Role string
}

func (n New) check(rule Rule) (identity.Role, error) {
	switch {
	case n.Name == "":
		return "", fault.New(fault.Invalid, "username required")
	case len(n.Name) > maxName || !printable(n.Name):
		return "", fault.New(fault.Invalid, "username must be at most %d printable characters without a comma", maxName)
	case n.Password == "":
		return "", fault.New(fault.Invalid, "password required")
	}
	if err := errors.Join(checkEmail(n.Email), rule.Check(n.Password)); err != nil {
		return "", fault.From(err)
	}
	if n.Role == "" {
		return identity.User, nil
	}
	return parseRole(n.Role)
}

// printable says whether a name can stand in headers and logs. A comma would part it: see auth.single.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r == ',' || !unicode.IsPrint(r) })
}

func checkEmail(email string) error {
	local, host, _ := strings.Cut(email, "@")
	if email != "" && (len(email) > maxEmail || !printable(email) || strings.Contains(email, " ") || local == "" || host == "") {
		return fault.New(fault.Invalid, "email is not an address")
	}
	return nil
}

func parseRole(name string) (identity.Role, error) {
	role, ok := identity.ParseRole(name)
	if !ok || role == identity.Worker || role == identity.Anonymous {
		return "", fault.New(fault.Invalid, "role must be admin, operator, user or viewer")
	}
	return role, nil
}

// Create makes a user. The entry in the trail is in the caller's tenant.
//
// Faults: Invalid for what a user cannot be, Conflict when the name or the e-mail address is taken in the tenant.
func (s *Users) Create(ctx context.Context, by identity.Identity, n New) (User, error) {
	return s.create(ctx, by, n)
}

func (s *Users) create(ctx context.Context, by identity.Identity, n New, more ...store.Op) (User, error) {
	n.Name, n.Email = strings.TrimSpace(n.Name), strings.TrimSpace(n.Email)
	role, err := n.check(s.Rule)
	if err != nil {
		return User{}, err
	}
	micros := s.micros.Micros(s.Clock.Now())
	u := User{ID: s.IDs.UUID(), Tenant: n.Tenant, Name: n.Name, Email: n.Email, Role: role, CreatedAt: micros, UpdatedAt: micros}
	if u.hash, err = s.Passwords.Hash(ctx, n.Password); err != nil {
		return User{}, err
	}
	entry := audit.By(by, micros, "create", "user", u.ID)
	entry.ResourceName, entry.After = u.Name, string(role)
	ops := append([]store.Op{u.put(), claim(nameKey(u.Tenant, u.Name), u.ID), entry.Op()}, more...)
	if u.Email != "" {
		ops = append(ops, claim(emailKey(u.Tenant, u.Email), u.ID))
	}
	for range tries {
		owner, err := s.owner(ctx, u)
		switch {
		case err != nil:
			return User{}, err
		case owner == u.ID: // it was written, and the answer was lost
			return u, nil
		case owner != "":
			return User{}, errTaken
		}
		if err := s.Table.Write(ctx, ops...); !store.Overtaken(err) {
			return u, err
		}
	}
	return User{}, errBusy
}

// claim takes a name or an e-mail address for a user.
func claim(key store.Key, id string) store.Op {
	return store.Put(store.Item{Key: key, Attrs: store.Attrs{attrID: id}}).If(store.Any(store.NotExists(), store.Equal(attrID, id)))
}

// owner answers whose a user's name or address is, "" when both are free.
func (s *Users) owner(ctx context.Context, u User) (string, error) {
	taken := []store.Key{nameKey(u.Tenant, u.Name)}
	if u.Email != "" {
		taken = append(taken, emailKey(u.Tenant, u.Email))
	}
	items, err := s.Table.BatchGet(ctx, taken)
	if err != nil || len(items) == 0 {
		return "", err
	}
	for _, it := range items {
		if id := it.Attrs.String(attrID); id != u.ID {
			return id, nil
		}
	}
	return u.ID, nil
}

func (u User) attrs() store.Attrs {
	return store.Attrs{
		attrID: u.ID, attrTenant: u.Tenant, attrName: u.Name, attrEmail: u.Email, attrDisplay: u.Display, attrRole: string(u.Role),
		attrDisabled: u.Disabled, attrGeneration: u.Generation, attrHash: u.hash, attrCreated: u.CreatedAt, attrUpdated: u.UpdatedAt,
	}
}

func (u User) put() store.Op {
	return store.Put(store.Item{
		Key: userKey(u.Tenant, u.ID), Attrs: u.attrs(), Index: map[store.Index]store.Key{store.ByLink: listedUser(u)},
	}).If(store.NotExists())
}

// becomes changes a user who is still as before; when the user last logged in is not touched.
func (u User) becomes(after User) store.Op {
	op := store.Update(userKey(u.Tenant, u.ID)).If(store.Equal(attrUpdated, u.UpdatedAt)).SetAttrs(after.attrs())
	if after.Disabled {
		op = op.Move(store.ByLink, store.Key{})
	}
	return op
}

func read(it store.Item) User {
	a := it.Attrs
	return User{
		ID: a.String(attrID), Tenant: a.String(attrTenant), Name: a.String(attrName), Email: a.String(attrEmail), Display: a.String(attrDisplay),
		Role: identity.Role(a.String(attrRole)), Disabled: a.Bool(attrDisabled), Generation: a.Int(attrGeneration), CreatedAt: a.Int(attrCreated),
		UpdatedAt: a.Int(attrUpdated), LastLoginAt: a.Int(attrLogin), hash: a.String(attrHash),
	}
}

// Get answers a user of a tenant, disabled or not; an unknown one is ErrUnknown.
func (s *Users) Get(ctx context.Context, tenant, id string) (User, error) {
	id, ok := ids.ParseUUID(id)
	if !ok {
		return User{}, ErrUnknown
	}
	it, err := s.Table.Get(ctx, userKey(tenant, id))
	if errors.Is(err, store.ErrNotFound) {
		return User{}, ErrUnknown
	}
	return read(it), err
}

// Named answers who has a name in a tenant, or else, where it has an @, who has that e-mail address; an unknown one is ErrUnknown.
func (s *Users) Named(ctx context.Context, tenant, name string) (User, error) {
	if fold(name) == "" || len(name) > maxEmail {
		return User{}, ErrUnknown
	}
	ways := []store.Key{nameKey(tenant, name)}
	if strings.Contains(name, "@") {
		ways = append(ways, emailKey(tenant, name))
	}
	items, err := s.Table.BatchGet(ctx, ways)
	if err != nil {
		return User{}, err
	}
	if len(items) == 0 {
		return User{}, ErrUnknown
	}
	return s.Get(ctx, tenant, items[0].Attrs.String(attrID))
}

// List answers the users of a tenant that are not disabled, by name. One who was made within the last moments may be missing.
func (s *Users) List(ctx context.Context, tenant string) ([]User, error) {
	items, err := listed(ctx, s.Table, store.Query{Index: store.ByLink, PK: users(tenant)})
	out := make([]User, 0, len(items))
	for _, it := range items {
		if u := read(it); !u.Disabled {
			out = append(out, u)
		}
	}
	return out, err
}

// listed answers the items that an index lists, whole, at most maxListed.
func listed(ctx context.Context, table store.Table, q store.Query) ([]store.Item, error) {
	q.Limit = maxListed
	var keys []store.Key
	for it, err := range store.Items(ctx, table, q) {
		if err != nil {
			return nil, err
		}
		if keys = append(keys, it.Key); len(keys) == maxListed {
			break
		}
	}
	return table.BatchGet(ctx, keys)
}

// Change is what an update changes; what is empty stays.
type Change struct{ Email, Display, Role string }

// Update changes a user of the caller's tenant. Another role ends the user's sessions.
//
// Faults: Invalid, NotFound, Conflict when the address is taken or others keep changing the user.
func (s *Users) Update(ctx context.Context, by identity.Identity, id string, c Change) (User, error) {
	c.Email, c.Display = strings.TrimSpace(c.Email), strings.TrimSpace(c.Display)
	if err := checkEmail(c.Email); err != nil {
		return User{}, err
	}
	if len(c.Display) > maxDisplay || !utf8.ValidString(c.Display) || strings.ContainsFunc(c.Display, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return User{}, fault.New(fault.Invalid, "display_name must be at most %d printable characters", maxDisplay)
	}
	role := identity.Role("")
	if c.Role != "" {
		var err error
		if role, err = parseRole(c.Role); err != nil {
			return User{}, err
		}
	}
	return s.change(ctx, by, id, "update", "", func(u User) (User, []store.Op, error) {
		var more []store.Op
		if c.Email != "" && c.Email != u.Email {
			more = addresses(u, c.Email)
			u.Email = c.Email
		}
		if c.Display != "" {
			u.Display = c.Display
		}
		if role != "" && role != u.Role {
			u.Role = role
			u.Generation++
		}
		return u, more, nil
	})
}

// addresses gives a user another e-mail address, "" for none, and frees the old one.
func addresses(u User, email string) (ops []store.Op) {
	if fold(u.Email) == fold(email) {
		return nil
	}
	if u.Email != "" {
		ops = append(ops, store.Delete(emailKey(u.Tenant, u.Email)).If(store.Any(store.NotExists(), store.Equal(attrID, u.ID))))
	}
	if email != "" {
		ops = append(ops, claim(emailKey(u.Tenant, email), u.ID))
	}
	return ops
}

// Delete disables a user of the caller's tenant for ever, frees the e-mail address and ends the user's sessions.
//
// Faults: NotFound, Conflict when others keep changing the user.
func (s *Users) Delete(ctx context.Context, by identity.Identity, id string) error {
	_, err := s.change(ctx, by, id, "delete", "", func(u User) (User, []store.Op, error) {
		more := addresses(u, "")
		u.Disabled, u.Email = true, ""
		u.Generation++
		return u, more, nil
	})
	return err
}

// SetPassword replaces the password of a user of the caller's tenant and ends the user's sessions.
//
// Faults: Invalid for a password that breaks the rule, NotFound, Conflict when others keep changing the user.
func (s *Users) SetPassword(ctx context.Context, by identity.Identity, id, password string) error {
	if password == "" {
		return fault.New(fault.Invalid, "password required")
	}
	if err := s.Rule.Check(password); err != nil {
		return err
	}
	switch u, err := s.Get(ctx, by.Tenant, id); { // a hash is dear
	case err != nil:
		return err
	case u.Disabled:
		return ErrUnknown
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = s.change(ctx, by, id, "change_password", "", func(u User) (User, []store.Op, error) {
		u.hash = hash
		u.Generation++
		return u, nil, nil
	})
	return err
}

// change makes another of a user of the caller's tenant, with the entry in the trail; one of another generation has no sessions any more but the one with
// the credential stays. When others change the user meanwhile, it is made anew after what they did.
func (s *Users) change(ctx context.Context, by identity.Identity, id, action, stays string, become func(User) (User, []store.Op, error)) (User, error) {
	tried := int64(-1)
	for range tries {
		before, err := s.Get(ctx, by.Tenant, id)
		switch {
		case err != nil:
			return User{}, err
		case before.UpdatedAt == tried: // it was written, and the answer was lost
			s.Ended.tell(ctx, before.Tenant, before.ID, stays)
			return before, nil
		case before.Disabled:
			return User{}, ErrUnknown
		}
		after, more, err := become(before)
		if err != nil {
			return User{}, err
		}
		if err := s.free(ctx, before, after); err != nil {
			return User{}, err
		}
		tried = s.micros.Micros(s.Clock.Now())
		after.UpdatedAt = tried
		entry := audit.By(by, tried, action, "user", before.ID)
		entry.ResourceName = before.Name
		if before.Role != after.Role {
			entry.Before, entry.After = string(before.Role), string(after.Role)
		}
		ops := append([]store.Op{before.becomes(after), entry.Op()}, more...)
		err = s.Table.Write(ctx, ops...)
		if err == nil && before.Generation != after.Generation {
			s.Ended.tell(ctx, after.Tenant, after.ID, stays)
		}
		if !store.Overtaken(err) {
			return after, err
		}
	}
	return User{}, errBusy
}

// free says whether the address that a user gets is somebody else's.
func (s *Users) free(ctx context.Context, before, after User) error {
	if after.Email == "" || fold(before.Email) == fold(after.Email) {
		return nil
	}
	it, err := s.Table.Get(ctx, emailKey(after.Tenant, after.Email))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case it.Attrs.String(attrID) != after.ID:
		return errTaken
	}
	return nil
}

// First makes the first administrator of a tenant: once, and only where no user of it is one. made says whether it did.
func (s *Users) First(ctx context.Context, tenant, name, password string) (made bool, err error) {
	if _, err := s.Table.Get(ctx, firstKey(tenant)); !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	all, err := s.List(ctx, tenant)
	if err != nil || slices.ContainsFunc(all, func(u User) bool { return u.Role == identity.Admin }) {
		return false, err
	}
	by := identity.Identity{Tenant: tenant, Home: tenant, Role: identity.Admin, KeyID: "seed"}
	once := store.Put(store.Item{Key: firstKey(tenant), Attrs: store.Attrs{attrName: name}}).If(store.NotExists())
	_, err = s.create(ctx, by, New{Tenant: tenant, Name: name, Password: password, Role: string(identity.Admin)}, once)
	if fault.Is(err, fault.Conflict) {
		if _, there := s.Table.Get(ctx, firstKey(tenant)); there == nil { // another process made the same one
			return false, nil
		}
	}
	return err == nil, err
}
