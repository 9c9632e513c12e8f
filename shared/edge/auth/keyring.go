package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// keyring is the provider of static keys: those of the environment and those of the file, which is looked at no more than once a second.
type keyring struct {
	path, tenant string
	env          []staticKey
	log          *slog.Logger

	keys atomic.Pointer[index]

	mu    sync.Mutex // guards what follows
	next  time.Time  // when the file is looked at again
	stamp fileStamp
}

type fileStamp struct {
	modified time.Time
	size     int64
}

func newKeyring(cfg Config, log *slog.Logger, now time.Time) (*keyring, error) {
	k := &keyring{path: cfg.KeysPath, tenant: cfg.DefaultTenant, env: cfg.keys, log: log}
	if err := k.load(); err != nil {
		return nil, err
	}
	k.next = now.Add(time.Second)
	return k, nil
}

// Kind says that static keys are API keys.
func (k *keyring) Kind() Kind { return APIKey }

// Lookup answers the credential of a key. The map finds it by hash, so that nothing compares the secret byte by byte; the last comparison
// takes the same time wherever two hashes differ.
func (k *keyring) Lookup(_ context.Context, secret string, now time.Time) (Credential, bool, error) {
	k.refresh(now)
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

// refresh reads the file again when it has changed. A file that cannot be used leaves the keys as they were: a rotation that goes wrong
// must not lock everybody out.
func (k *keyring) refresh(now time.Time) {
	if k.path == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Before(k.next) {
		return
	}
	k.next = now.Add(time.Second)
	if info, err := os.Stat(k.path); err == nil && stampOf(info) == k.stamp {
		return
	}
	if err := k.load(); err != nil {
		k.log.Error("static API keys stay as they were", "error", err)
	}
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
