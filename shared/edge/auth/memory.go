package auth

import (
	"sync"
	"time"
)

// memory is what a process knows of secrets that lie in a table: which credential one is, or that it is none. What it knows is at most memoryAge old, so
// that whatever was revoked is over everywhere that soon. It has two generations, as limiter has.
type memory struct {
	mu           sync.Mutex
	young, older map[string]known
}

const (
	memoryAge  = 2 * time.Second
	memoryHeld = 4096
)

type known struct {
	credential Credential
	found      bool
	at         time.Time
}

func (m *memory) get(id string, now time.Time) (known, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.young[id]
	if !ok {
		k, ok = m.older[id]
	}
	age := now.Sub(k.at)
	return k, ok && age >= 0 && age < memoryAge
}

func (m *memory) put(id string, k known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.young == nil || len(m.young) >= memoryHeld {
		m.young, m.older = make(map[string]known), m.young
	}
	m.young[id] = k
}
