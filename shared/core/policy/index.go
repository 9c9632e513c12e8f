package policy

import (
	"slices"
	"sort"
	"strings"
)

// facet is a field by which rules are found without looking at each of them.
type facet uint8

const (
	byTopic facet = iota // the whole topic
	byLabel
	byCapability
	byPack
	byActor
	byWorkflow
	byRisk
	byRequires
	byTenant
	byServer // the MCP fields, in their order
	byTool
	byResource
	byAction
	byPrefix // what a topic begins with
	facets
)

// index finds the rules that may match a request. Every rule is filed under one facet only, the one under which the fewest others would
// be found with it, so that what a decision looks at depends on how specific rules are and not on how many there are.
type index struct {
	lists    [facets][][]uint32 // by facet and word: rules in their order
	topics   vocabulary
	mcp      [mcpFields]vocabulary
	prefixes prefixes
	rest     []uint32 // rules that nothing tells apart
}

// entry is one word of one facet.
type entry struct {
	facet facet
	word  uint32
}

func (x *index) build(rules []rule) {
	x.topics = vocabulary{}
	for f := range mcpFields {
		x.mcp[f] = vocabulary{}
	}
	prefixWords := vocabulary{}
	ways := make([][][]entry, len(rules)) // in how many ways each rule could be filed: each the entries it needs
	crowd := map[entry]int{}
	for i := range rules {
		ways[i] = x.ways(&rules[i], prefixWords)
		for _, way := range ways[i] {
			for _, e := range way {
				crowd[e]++
			}
		}
	}
	for i := range rules {
		x.file(uint32(i), quietest(ways[i], crowd))
	}
	x.prefixes.build(prefixWords)
}

func (x *index) file(rule uint32, way []entry) {
	if way == nil {
		x.rest = append(x.rest, rule)
		return
	}
	for _, e := range way {
		if missing := int(e.word) + 1 - len(x.lists[e.facet]); missing > 0 {
			x.lists[e.facet] = append(x.lists[e.facet], make([][]uint32, missing)...)
		}
		x.lists[e.facet][e.word] = append(x.lists[e.facet][e.word], rule)
	}
}

func quietest(ways [][]entry, crowd map[entry]int) (best []entry) {
	fewest := 0
	for _, way := range ways {
		n := 0
		for _, e := range way {
			n += crowd[e]
		}
		if best == nil || n < fewest {
			best, fewest = way, n
		}
	}
	return best
}

func (x *index) ways(r *rule, prefixWords vocabulary) (ways [][]entry) {
	anyWord := func(f facet, words []uint32) {
		if len(words) == 0 {
			return
		}
		way := make([]entry, len(words))
		for i, w := range words {
			way[i] = entry{f, w}
		}
		ways = append(ways, way)
	}
	eachWord := func(f facet, words []uint32) {
		for _, w := range words {
			ways = append(ways, []entry{{f, w}})
		}
	}
	if len(r.topics) > 0 {
		ways = append(ways, x.topicWay(r.topics, prefixWords))
	}
	eachWord(byLabel, r.labels)
	if len(r.capabilityGlobs) == 0 {
		anyWord(byCapability, r.capabilities)
	}
	anyWord(byPack, r.packs)
	anyWord(byActor, r.actors)
	anyWord(byWorkflow, r.workflows)
	anyWord(byRisk, r.risk)
	eachWord(byRequires, r.requires)
	anyWord(byTenant, r.tenants)
	if r.mcp != nil {
		for f := range mcpFields {
			anyWord(byServer+facet(f), x.mcp[f].addAll(r.mcp.allow[f]))
		}
	}
	return ways
}

func (x *index) topicWay(topics []glob, prefixWords vocabulary) (way []entry) {
	for _, g := range topics {
		e := entry{byPrefix, 0}
		if g.form == globLiteral {
			e = entry{byTopic, x.topics.add(g.literal)}
		} else {
			e.word = prefixWords.add(g.literal)
		}
		if !slices.Contains(way, e) {
			way = append(way, e)
		}
	}
	return way
}

// first answers the first rule that matches, len(p.rules) for none. Each list is read up to the best match so far, so the order of the
// lists does not change the result; the most specific come first because they are the shortest.
func (p *Policy) first(f *facts) uint32 {
	s := search{rules: p.rules, facts: f, best: uint32(len(p.rules))}
	x := &p.index
	s.word(x.lists[byTopic], x.topics.exact(f.topic))
	s.words(x.lists[byLabel], &f.labels)
	s.word(x.lists[byCapability], f.capable)
	s.word(x.lists[byPack], f.pack)
	s.word(x.lists[byActor], f.actor)
	s.word(x.lists[byWorkflow], f.workflow)
	s.words(x.lists[byRisk], &f.risk)
	s.words(x.lists[byRequires], &f.requires)
	s.word(x.lists[byTenant], f.tenant)
	for i := range mcpFields {
		if lists := x.lists[byServer+facet(i)]; len(lists) > 0 && f.mcp[i] != "" {
			s.word(lists, x.mcp[i].find(f.mcp[i]))
		}
	}
	if lists := x.lists[byPrefix]; len(lists) > 0 {
		for at := x.prefixes.longest(f.topic); at >= 0; at = x.prefixes.shorter[at] {
			s.word(lists, x.prefixes.words[at])
		}
	}
	s.list(x.rest)
	return s.best
}

type search struct {
	rules []rule
	facts *facts
	best  uint32
}

func (s *search) word(lists [][]uint32, word uint32) {
	if int64(word) < int64(len(lists)) {
		s.list(lists[word])
	}
}

func (s *search) words(lists [][]uint32, words *idSet) {
	if len(lists) == 0 {
		return
	}
	for _, w := range words.few[:words.n] {
		s.word(lists, w)
	}
	for _, w := range words.more {
		s.word(lists, w)
	}
}

func (s *search) list(list []uint32) {
	for _, i := range list {
		if i >= s.best {
			return
		}
		if s.rules[i].mismatch(s.facts) == noField {
			s.best = i
			return
		}
	}
}

// prefixes finds all of a set of strings that a topic begins with, by one binary search: what precedes a topic in the alphabet begins with
// every member of the set that the topic begins with, so those are on one chain.
type prefixes struct {
	sorted  []string
	words   []uint32
	shorter []int // the longest other member that each one begins with, -1 for none
}

func (p *prefixes) build(v vocabulary) {
	p.sorted = words(v)
	p.words, p.shorter = make([]uint32, len(v)), make([]int, len(v))
	for i, s := range p.sorted {
		p.words[i], p.shorter[i] = v[s], i-1
		for at := i - 1; at >= 0 && !strings.HasPrefix(s, p.sorted[at]); at = p.shorter[at] {
			p.shorter[i] = p.shorter[at]
		}
	}
}

// longest answers the longest member that the topic begins with, -1 for none.
func (p *prefixes) longest(topic string) int {
	at := sort.Search(len(p.sorted), func(i int) bool { return p.sorted[i] > topic }) - 1
	for at >= 0 && !strings.HasPrefix(topic, p.sorted[at]) {
		at = p.shorter[at]
	}
	return at
}
