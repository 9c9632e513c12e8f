package policy

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// bucketParts are the members of a job that a velocity key may name, beside labels.<name>.
var bucketParts = []string{"tenant", "topic", "actor_id", "actor_type", "capability", "pack_id"}

func (v *Velocity) unknownPart() (string, bool) {
	for part := range strings.SplitSeq(v.Key, ":") {
		name, isLabel := strings.CutPrefix(part, "labels.")
		if isLabel && name != "" || slices.Contains(bucketParts, part) {
			continue
		}
		return part, true
	}
	return "", false
}

// Bucket is what somebody has to count for a rule with velocity: the requests of a sliding window.
type Bucket struct {
	RuleID string
	// Key names the bucket in Request.Counts. It is a function of the rule and the request.
	Key    string
	Window time.Duration
	// Max is how many requests the window may hold before the rule fires.
	Max int64
}

// bucketRule is a compiled velocity.
type bucketRule struct {
	ruleID, prefix string
	parts          []string
	window         time.Duration
	limit          int64
	policy         *Policy
}

func (b *bucketRule) exceeded(f *facts) bool {
	return len(f.request.Counts) > 0 && f.request.Counts[b.key(f.request)] > b.limit
}

// key escapes what it joins, so that no value of a job can pass for two.
func (b *bucketRule) key(r *Request) string {
	var key strings.Builder
	key.WriteString(b.prefix)
	for _, part := range b.parts {
		key.WriteByte(':')
		key.WriteString(url.QueryEscape(b.value(part, r)))
	}
	return key.String()
}

func (b *bucketRule) value(part string, r *Request) string {
	switch part {
	case "tenant":
		return lower(b.policy.tenantOf(r))
	case "topic":
		return strings.TrimSpace(r.Topic)
	case "actor_id":
		return lower(actorOf(r))
	case "actor_type":
		return lower(r.ActorType)
	case "capability":
		return lower(r.Capability)
	case "pack_id":
		return lower(r.PackID)
	default:
		return r.Labels[strings.TrimPrefix(part, "labels.")]
	}
}

// Buckets answers what must be counted for a request before it is decided: those of the rules with velocity that would match it and stand
// before the first rule that matches without. Their counts go into Request.Counts. Policies without velocity answer nil at no cost.
func (p *Policy) Buckets(r *Request) []Bucket {
	if len(p.velocity) == 0 || topicFault(r) != "" {
		return nil
	}
	uncounted := *r
	uncounted.Counts = nil
	var f facts
	f.topic = strings.TrimSpace(r.Topic)
	p.look(&f, &uncounted)
	limit := p.first(&f)
	var out []Bucket
	for _, i := range p.velocity {
		if i >= limit {
			break
		}
		if b := p.rules[i].velocity; p.rules[i].mismatch(&f) == fieldVelocity {
			out = append(out, Bucket{RuleID: b.ruleID, Key: b.key(r), Window: b.window, Max: b.limit})
		}
	}
	return out
}
