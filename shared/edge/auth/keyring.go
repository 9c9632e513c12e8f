package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// keyring is the provider of static keys: those of the environment, asked for anew every minute where it changes, and those of the file, which
// is looked at no more than once a second.
type keyring struct {
	path, tenant string
	reload       func(context.Context) (getenv func(string) string, err error)
	log          *slog.Logger

	keys atomic.Pointer[index]

	mu       sync.Mutex // guards what follows
	env      []staticKey
	next     time.Time // when the file is looked at again
	reloadAt time.Time // when the environment is
	stamp    fileStamp
}

// How often the sources of keys are looked at, and how long a new environment may take.
const (
	fileEvery   = time.Second
	reloadEvery = time.Minute
	reloadWait  = 2 * time.Second
)

type fileStamp struct {
	modified time.Time
	size     int64
}

func newKeyring(cfg Config, log *slog.Logger, now time.Time) (*keyring, error) {
	k := &keyring{path: cfg.KeysPath, tenant: cfg.DefaultTenant, reload: cfg.Reload, env: cfg.keys, log: log}
	if err := k.load(); err != nil {
		return nil, err
	}
	k.next, k.reloadAt = now.Add(fileEvery), now.Add(reloadEvery)
	return k, nil
}

// Kind says that static keys are API keys.
func (k *keyring) Kind() Kind { return APIKey }

// Lookup answers the credential of a key. The map finds it by hash, so that nothing compares the secret byte by byte; the last comparison
// takes the same time wherever two hashes differ.
func (k *keyring) Lookup(ctx context.Context, secret string, now time.Time) (Credential, bool, error) {
	k.refresh(ctx, now)
	hash := sha256.Sum256([]byte(secret))
	key, ok := (*k.keys.Load())[hash]
	if !ok || subtle.ConstantTimeCompare(key.hash[:], hash[:]) != 1 {
		return Credential{}, false, nil
	}
	if !key.expires.IsZero() && !now.Before(key.expires) {
		return Credential{}, true, fault.New(fault.Unauthenticated, "key %s has expired", key.credential.ID)
	}
	return key.credential, true, nil
}

var errNoKeys = errors.New("this process was given no keys")

// Current finds a key by its id.
func (k *keyring) Current(ctx context.Context, id string, now time.Time) (Credential, bool, error) {
	if !strings.HasPrefix(id, staticID) {
		return Credential{}, false, nil
	}
	k.refresh(ctx, now)
	keys := *k.keys.Load()
	if len(keys) == 0 {
		return Credential{}, false, errNoKeys
	}
	for _, key := range keys {
		if key.credential.ID == id {
			return key.credential, key.expires.IsZero() || now.Before(key.expires), nil
		}
	}
	return Credential{}, false, nil
}

// refresh looks for changes. A source that cannot be used leaves the keys as they were: a rotation that goes wrong must not lock everybody out.
func (k *keyring) refresh(ctx context.Context, now time.Time) {
	if k.path == "" && k.reload == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	changed, err := k.environment(ctx, now)
	if err == nil && (changed || k.fileChanged(now)) {
		err = k.load()
	}
	if err != nil {
		k.log.ErrorContext(ctx, "static API keys stay as they were", "error", err)
	}
}

// environment reads the keys of the environment again when it is time.
func (k *keyring) environment(ctx context.Context, now time.Time) (changed bool, err error) {
	if k.reload == nil || now.Before(k.reloadAt) {
		return false, nil
	}
	k.reloadAt = now.Add(reloadEvery)
	ctx, cancel := context.WithTimeout(ctx, reloadWait)
	defer cancel()
	getenv, err := k.reload(ctx)
	if err != nil {
		return false, err
	}
	keys, err := envKeys(getenv, k.tenant)
	if err != nil {
		return false, err
	}
	k.env = keys
	return true, nil
}

func (k *keyring) fileChanged(now time.Time) bool {
	if k.path == "" || now.Before(k.next) {
		return false
	}
	k.next = now.Add(fileEvery)
	info, err := os.Stat(k.path)
	return err != nil || stampOf(info) != k.stamp
}

// load reads environment and file into one index. The stamp is kept also when the content is bad: it is reported once per change.
func (k *keyring) load() error {
	keys := append([]staticKey(nil), k.env...)
	if k.path != "" {
		info, err := os.Stat(k.path)
		if err != nil {
			return fmt.Errorf("CORDUM_API_KEYS_PATH: %w", err)
		}
		text, err := os.ReadFile(k.path)
		if err != nil {
			return fmt.Errorf("CORDUM_API_KEYS_PATH: %w", err)
		}
		k.stamp = stampOf(info)
		more, err := parseKeys(string(text), k.tenant)
		if err != nil {
			return fmt.Errorf("CORDUM_API_KEYS_PATH %s: %w", k.path, err)
		}
		keys = append(keys, more...)
	}
	ix, err := indexKeys(keys)
	if err != nil {
		return err
	}
	k.keys.Store(&ix)
	return nil
}

func stampOf(info os.FileInfo) fileStamp {
	return fileStamp{modified: info.ModTime(), size: info.Size()}
}
