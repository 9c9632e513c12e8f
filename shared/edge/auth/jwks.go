package auth

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Times and bounds of the keys that an issuer publishes.
const (
	// keysFresh is how old keys may be before they are fetched again.
	keysFresh = 10 * time.Minute
	// keysStale is how old they may become while they cannot be fetched. After that nobody can tell whether the issuer still stands by them.
	keysStale = 24 * time.Hour
	// keysPause lies between two fetches, whatever asks for them: keys that are not known cost the issuer no more than that.
	keysPause = 30 * time.Second
	// keysRetry is the same while there are no keys at all.
	keysRetry  = 5 * time.Second
	keysWait   = 3 * time.Second // of one fetch
	maxKeySet  = 256 << 10
	maxKeyList = 100
)

// keySet is what an issuer publishes at an address that the operator names: its RSA keys by their ids.
type keySet struct {
	url    string
	client *http.Client
	clock  clock.Clock
	log    *slog.Logger

	mu      sync.Mutex
	keys    map[string][]*rsa.PublicKey
	fetched time.Time     // when keys were
	tried   time.Time     // when a fetch last began
	failed  error         // of the last fetch
	under   chan struct{} // closed when the fetch under way ends; nil: there is none
}

func newKeySet(url string, clk clock.Clock, log *slog.Logger) *keySet {
	return &keySet{url: url, clock: clk, log: log, client: &http.Client{
		Timeout: keysWait,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: keysWait, MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives: true, // minutes pass between two fetches
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the operator named one address
	}}
}

// errKeysDown says that nobody can tell who signed a token.
var errKeysDown = errors.New("the issuer's keys cannot be had")

// find answers the keys of an id. Keys that are getting old are fetched again by one caller while the others go on; for an id that is not known, and
// when there are no keys yet, all wait for the same fetch.
func (k *keySet) find(ctx context.Context, kid string, now time.Time) ([]*rsa.PublicKey, error) {
	k.mu.Lock()
	keys, known := k.usable(kid, now)
	pause := keysPause
	if k.fetched.IsZero() {
		pause = keysRetry
	}
	mine := k.under == nil && (k.tried.IsZero() || now.Sub(k.tried) >= pause) && (!known || now.Sub(k.fetched) >= keysFresh)
	if mine {
		k.tried, k.under = now, make(chan struct{})
	}
	wait := k.under
	k.mu.Unlock()
	switch {
	case mine:
		k.fetch(ctx)
	case known || wait == nil:
	default:
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, errKeysDown
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !known || mine {
		keys, known = k.usable(kid, k.clock.Now())
	}
	if !known && k.failed != nil {
		return nil, fmt.Errorf("%w: %w", errKeysDown, k.failed)
	}
	return keys, nil
}

// usable answers the keys of an id while they are not too old to be believed.
func (k *keySet) usable(kid string, now time.Time) (keys []*rsa.PublicKey, known bool) {
	if k.fetched.IsZero() || now.Sub(k.fetched) > keysStale {
		return nil, false
	}
	keys, known = k.keys[kid]
	return keys, known
}

// fetch gets the keys. It is for everybody who waits, so it does not end with the request that began it; when it fails, what there was stays.
func (k *keySet) fetch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysWait)
	defer cancel()
	keys, err := k.get(ctx)
	if err != nil {
		k.log.WarnContext(ctx, "keys of web tokens were not fetched; those that there were stay", "url", k.url, "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = err; err == nil {
		k.keys, k.fetched = keys, k.clock.Now()
	}
	close(k.under)
	k.under = nil
}

func (k *keySet) get(ctx context.Context) (map[string][]*rsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // what was read is complete, or of no use
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxKeySet)
	}
	return parseKeySet(body)
}

// publicKey is a key as RFC 7517 spells it.
type publicKey struct {
	Type       string   `json:"kty"`
	ID         string   `json:"kid"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	N          string   `json:"n"`
	E          string   `json:"e"`
}

// parseKeySet takes the RSA keys that verify signatures, and passes over every other kind. One that should be of use and is not makes the whole set
// refused: the old one is better than half a new one.
func parseKeySet(text []byte) (map[string][]*rsa.PublicKey, error) {
	var set struct {
		Keys []publicKey `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("it is no set of keys: {\"keys\":[...]}")
	}
	if len(set.Keys) > maxKeyList {
		return nil, fmt.Errorf("more than %d keys", maxKeyList)
	}
	keys := map[string][]*rsa.PublicKey{}
	for n, k := range set.Keys {
		if !k.verifies() {
			continue
		}
		key, err := k.parse()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", n+1, err)
		}
		keys[k.ID] = append(keys[k.ID], key)
	}
	return keys, nil
}

func (k publicKey) verifies() bool {
	return k.Type == "RSA" && k.ID != "" && (k.Use == "" || k.Use == "sig") && (k.Algorithm == "" || k.Algorithm == algorithmPublic) &&
		(len(k.Operations) == 0 || slices.Contains(k.Operations, "verify"))
}

func (k publicKey) parse() (*rsa.PublicKey, error) {
	n, err := base64.RawURLEncoding.DecodeString(k.N)
	if err != nil || len(n) > maxModulus/8 {
		return nil, errors.New("its modulus cannot be read")
	}
	e, err := base64.RawURLEncoding.DecodeString(k.E)
	if err != nil || len(e) > 4 {
		return nil, errors.New("its exponent cannot be read")
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	return key, checkModulus(key)
}
