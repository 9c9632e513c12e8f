package schedule

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"time"
)

// The timeouts that hold where the configuration says nothing, or 0.
const (
	DefaultDispatch = 300 * time.Second
	DefaultRunning  = 900 * time.Second
	DefaultScan     = 30 * time.Second
	DefaultPending  = 24 * time.Hour
)

// maxSeconds keeps every timeout far from the end of time.Duration: ten years.
const maxSeconds = 10 * 365 * 24 * 60 * 60

// Timeouts says how long jobs and workflows may take. It is immutable; the zero Timeouts has the defaults.
type Timeouts struct {
	reconciler reconciler
	topics     patterns[topicTimeouts]
	workflows  map[string]workflowTimeouts
}

// The sections as they are written. A member that is nil is not there; 0 seconds mean the default.
type (
	reconciler struct {
		Dispatch int64 `json:"dispatch_timeout_seconds"`
		Running  int64 `json:"running_timeout_seconds"`
		Scan     int64 `json:"scan_interval_seconds"`
		Pending  int64 `json:"pending_timeout_seconds"`
	}
	topicTimeouts struct {
		Timeout    *int64 `json:"timeout_seconds,omitempty"`
		MaxRetries *int64 `json:"max_retries,omitempty"`
	}
	workflowTimeouts struct {
		Child      *int64 `json:"child_timeout_seconds,omitempty"`
		Total      *int64 `json:"total_timeout_seconds,omitempty"`
		MaxRetries *int64 `json:"max_retries,omitempty"`
	}
)

// ParseTimeouts reads the timeouts section, YAML or JSON; every value is a whole number that is not negative:
//
//	topics:     {<topic or glob>: {timeout_seconds, max_retries}}
//	workflows:  {<workflow id>: {child_timeout_seconds, total_timeout_seconds, max_retries}, or a number, which is the total}
//	reconciler: {dispatch_timeout_seconds, running_timeout_seconds, scan_interval_seconds, pending_timeout_seconds}
//
// The schema is closed, and everything is optional: what is missing keeps its default. An error names the key that is wrong and comes
// with the zero Timeouts.
func ParseTimeouts(raw []byte) (Timeouts, error) {
	t, err := parseTimeouts(raw, nil)
	if err != nil {
		return Timeouts{}, fmt.Errorf("timeouts: %w", err)
	}
	return t, nil
}

// parseTimeouts hands entries of topics and workflows that are not valid to passOver and goes on without them; without passOver they make it fail.
func parseTimeouts(raw []byte, passOver func(error)) (t Timeouts, err error) {
	doc, err := parse(raw)
	if err != nil {
		return t, err
	}
	sections, err := doc.members("topics", "workflows", "reconciler")
	if err != nil {
		return t, err
	}
	if t.reconciler, err = parseReconciler(sections["reconciler"]); err != nil {
		return t, err
	}
	topics := map[string]topicTimeouts{}
	err = sections["topics"].each(passOver, func(name string, n node) error {
		v, err := n.counts("timeout_seconds", "max_retries")
		if err != nil {
			return err
		}
		if err := checkGlob(name); err != nil {
			return err
		}
		topics[name] = topicTimeouts{Timeout: v[0], MaxRetries: v[1]}
		return nil
	})
	if err != nil {
		return t, err
	}
	if t.topics, err = compile(topics); err != nil {
		return t, err
	}
	t.workflows = map[string]workflowTimeouts{}
	err = sections["workflows"].each(passOver, func(name string, n node) error {
		if _, bare := number(n.value); bare {
			total, err := n.count(maxSeconds)
			if err == nil {
				t.workflows[name] = workflowTimeouts{Total: total}
			}
			return err
		}
		v, err := n.counts("child_timeout_seconds", "total_timeout_seconds", "max_retries")
		if err != nil {
			return err
		}
		t.workflows[name] = workflowTimeouts{Child: v[0], Total: v[1], MaxRetries: v[2]}
		return nil
	})
	return t, err
}

func parseReconciler(n node) (r reconciler, err error) {
	v, err := n.counts("dispatch_timeout_seconds", "running_timeout_seconds", "scan_interval_seconds", "pending_timeout_seconds")
	if err != nil {
		return r, err
	}
	return reconciler{Dispatch: value(v[0]), Running: value(v[1]), Scan: value(v[2]), Pending: value(v[3])}, nil
}

// each reads the entries of an object in the order of their names. One that cannot be read goes to passOver; without it, it is the answer.
func (n node) each(passOver func(error), read func(name string, n node) error) error {
	entries, err := n.children(func(k string) string { return at(n.path, k).path })
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(entries) {
		err := checkName(name, entries[name])
		if err == nil {
			err = read(name, entries[name])
		}
		switch {
		case err != nil && passOver == nil:
			return err
		case err != nil:
			passOver(err)
		}
	}
	return nil
}

// counts reads an object whose only members are these, all of them numbers.
func (n node) counts(keys ...string) ([]*int64, error) {
	members, err := n.members(keys...)
	if err != nil {
		return nil, err
	}
	values := make([]*int64, len(keys))
	for i, k := range keys {
		limit := int64(maxSeconds)
		if k == "max_retries" {
			limit = math.MaxInt32
		}
		if values[i], err = members[k].count(limit); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Dispatch is how long a job may be in a worker's hands without a word from it, and the age at which a pending job is tried again.
func (t Timeouts) Dispatch() time.Duration { return seconds(t.reconciler.Dispatch, DefaultDispatch) }

// Pending is how long a job without a deadline may wait for its decision, its turn or a worker.
func (t Timeouts) Pending() time.Duration { return seconds(t.reconciler.Pending, DefaultPending) }

// Held is how long a worker may hold a job of this topic before it must be looked at: the dispatch timeout or the running timeout, whichever
// is shorter. HeldUsually is the same for topics without a timeout of their own.
func (t Timeouts) Held(topic string) time.Duration { return min(t.Dispatch(), t.Running(topic)) }

// HeldUsually is Held for topics without a timeout of their own.
func (t Timeouts) HeldUsually() time.Duration {
	return min(t.Dispatch(), seconds(t.reconciler.Running, DefaultRunning))
}

// Scan is the interval of the sweep that finds overdue jobs.
func (t Timeouts) Scan() time.Duration { return seconds(t.reconciler.Scan, DefaultScan) }

// Running is how long a job of this topic may run.
func (t Timeouts) Running(topic string) time.Duration {
	entry, _ := t.topics.lookup(topic)
	return seconds(value(entry.Timeout), seconds(t.reconciler.Running, DefaultRunning))
}

// MaxRetries is how often a job of this topic may be tried again where its policy does not say; ok is false when the topic does not
// say either.
func (t Timeouts) MaxRetries(topic string) (n int, ok bool) {
	entry, _ := t.topics.lookup(topic)
	return int(value(entry.MaxRetries)), entry.MaxRetries != nil
}

// WorkflowTimeouts are the limits of one workflow. A duration of 0 is no limit.
type WorkflowTimeouts struct {
	// Child is for each step's job, Total for the whole run.
	Child, Total time.Duration
	// MaxRetries is for steps without a number of their own; nil when the configuration does not say.
	MaxRetries *int
}

// Workflow answers the limits of a workflow, the zero value when none are configured.
func (t Timeouts) Workflow(id string) WorkflowTimeouts {
	entry := t.workflows[id]
	w := WorkflowTimeouts{Child: seconds(value(entry.Child), 0), Total: seconds(value(entry.Total), 0)}
	if entry.MaxRetries != nil {
		n := int(*entry.MaxRetries)
		w.MaxRetries = &n
	}
	return w
}

// MarshalJSON writes the section in the form that ParseTimeouts reads, defaults filled in.
func (t Timeouts) MarshalJSON() ([]byte, error) {
	doc := struct {
		Topics     map[string]topicTimeouts    `json:"topics"`
		Workflows  map[string]workflowTimeouts `json:"workflows"`
		Reconciler reconciler                  `json:"reconciler"`
	}{Topics: map[string]topicTimeouts{}, Workflows: map[string]workflowTimeouts{}}
	maps.Copy(doc.Topics, t.topics.exact)
	maps.Copy(doc.Workflows, t.workflows)
	doc.Reconciler = reconciler{
		Dispatch: int64(t.Dispatch() / time.Second),
		Running:  int64(seconds(t.reconciler.Running, DefaultRunning) / time.Second),
		Scan:     int64(t.Scan() / time.Second),
		Pending:  int64(t.Pending() / time.Second),
	}
	return json.Marshal(doc)
}

// Hash identifies the content, 64 hex digits; the order of keys in the parsed document plays no part.
func (t Timeouts) Hash() string { return hashJSON(t) }

func seconds(n int64, otherwise time.Duration) time.Duration {
	if n == 0 {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

func value(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}
