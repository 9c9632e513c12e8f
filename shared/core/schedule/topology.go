package schedule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Topology says which pools take the jobs of a topic and what each pool offers. It is immutable; the zero Topology routes nothing.
type Topology struct {
	topics patterns[[]string]
	// offers holds the declared pools only; a topic may name others, which offer nothing.
	offers map[string]offer
}

// offer is what a pool declares as its requires: the words as they were written, and the same for comparison.
type offer struct {
	words []string
	set   map[string]bool
}

// poolName is what the name of a pool may be: a queue is named after it.
var poolName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// ParsePools reads the pools section, YAML or JSON:
//
//	topics: {<topic or glob>: <pool> | [<pool>, ...]}   required, at least one
//	pools:  {<pool>: {requires: [<word>, ...]}}         optional
//
// The schema is closed; an error names the key that is wrong.
func ParsePools(raw []byte) (*Topology, error) {
	t, err := parsePools(raw)
	if err == nil && len(t.topics.exact) == 0 {
		err = errors.New("topics: at least one topic is required")
	}
	if err != nil {
		return nil, fmt.Errorf("pools: %w", err)
	}
	return t, nil
}

func parsePools(raw []byte) (*Topology, error) {
	doc, err := parse(raw)
	if err != nil {
		return nil, err
	}
	sections, err := doc.members("topics", "pools")
	if err != nil {
		return nil, err
	}
	if sections["topics"].value == nil {
		return nil, errors.New("topics: required, an object of topic to pool")
	}
	topics, err := parseTopics(sections["topics"])
	if err != nil {
		return nil, err
	}
	offers, err := parseOffers(sections["pools"])
	if err != nil {
		return nil, err
	}
	return &Topology{topics: topics, offers: offers}, nil
}

func parseTopics(n node) (patterns[[]string], error) {
	entries, err := n.named()
	if err != nil {
		return patterns[[]string]{}, err
	}
	topics := make(map[string][]string, len(entries))
	for _, topic := range sortedKeys(entries) {
		if topics[topic], err = parsePoolList(entries[topic]); err != nil {
			return patterns[[]string]{}, err
		}
	}
	return compile(topics)
}

// parsePoolList reads one name or a list of them; a name that comes twice counts once.
func parsePoolList(n node) ([]string, error) {
	nodes := []node{n}
	if _, isList := n.value.([]any); isList {
		nodes, _ = n.list()
	}
	if len(nodes) == 0 {
		return nil, n.errorf("at least one pool is required")
	}
	var pools []string
	for _, item := range nodes {
		name, ok := item.value.(string)
		if !ok {
			return nil, item.errorf("must be the name of a pool or a list of them")
		}
		if err := item.checkPool(name); err != nil {
			return nil, err
		}
		if !slices.Contains(pools, name) {
			pools = append(pools, name)
		}
	}
	return pools, nil
}

func parseOffers(n node) (map[string]offer, error) {
	entries, err := n.named()
	if err != nil {
		return nil, err
	}
	offers := make(map[string]offer, len(entries))
	for _, name := range sortedKeys(entries) {
		entry := entries[name]
		if err := entry.checkPool(name); err != nil {
			return nil, err
		}
		members, err := entry.members("requires")
		if err != nil {
			return nil, err
		}
		words, err := members["requires"].texts()
		if err != nil {
			return nil, err
		}
		offers[name] = newOffer(words)
	}
	return offers, nil
}

func newOffer(words []string) offer {
	o := offer{words: words, set: make(map[string]bool, len(words))}
	for _, w := range words {
		o.set[fold(w)] = true
	}
	return o
}

func (n node) checkPool(name string) error {
	if poolName.MatchString(name) {
		return nil
	}
	return n.errorf("pool name %q: a name has 1 to 64 letters, digits, - or _ and begins with a letter or digit", name)
}

// fold is the form in which needs and offers are compared.
func fold(word string) string { return strings.ToLower(strings.TrimSpace(word)) }

// Pools answers the names of all pools, declared or named by a topic, sorted; never nil.
func (t *Topology) Pools() []string {
	names := make(map[string]bool, len(t.offers))
	for name := range t.offers {
		names[name] = true
	}
	for _, pools := range t.topics.exact {
		for _, name := range pools {
			names[name] = true
		}
	}
	return append([]string{}, sortedKeys(names)...)
}

// MarshalJSON writes the section in the form that ParsePools reads.
func (t *Topology) MarshalJSON() ([]byte, error) {
	type pool struct {
		Requires []string `json:"requires"`
	}
	doc := struct {
		Topics map[string]any  `json:"topics"`
		Pools  map[string]pool `json:"pools"`
	}{make(map[string]any, len(t.topics.exact)), make(map[string]pool, len(t.offers))}
	for topic, pools := range t.topics.exact {
		doc.Topics[topic] = pools
		if len(pools) == 1 {
			doc.Topics[topic] = pools[0]
		}
	}
	for name, o := range t.offers {
		doc.Pools[name] = pool{Requires: o.words}
	}
	return json.Marshal(doc)
}

// Hash identifies the content, 64 hex digits; the order of keys in the parsed document plays no part.
func (t *Topology) Hash() string { return hashJSON(t) }

// hashJSON hashes a value of this package, whose members are written in a fixed order.
func hashJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("schedule: hash: " + err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
