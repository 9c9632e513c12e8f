package dispatch

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// Limits of a submission.
const (
	MaxPromptBytes = 100_000
	MaxTags        = 50
	MaxTopicChars  = 256
	// MaxName bounds every other short text: ids, names, tags.
	MaxName = 512
	// MaxWords bounds risk_tags and requires.
	MaxWords = 100
)

// Defaults of a submission.
const (
	DefaultTopic           = "job.default"
	DefaultMaxInputTokens  = 8000
	DefaultMaxOutputTokens = 1024
)

// Submission is a job as a client asks for it, whatever door it came through.
type Submission struct {
	Prompt string
	// Context is any JSON, nil when absent.
	Context  json.RawMessage
	Topic    string
	Priority string
	Adapter  string
	// OrgID and TenantID name a tenant; each must be the caller's, or empty.
	OrgID, TenantID       string
	TeamID, ProjectID     string
	Principal             string
	ActorID, ActorType    string
	IdempotencyKey        string
	PackID, Capability    string
	RiskTags, Requires    []string
	Labels                map[string]string
	MemoryID, ContextMode string
	MaxInputTokens        int64
	MaxOutputTokens       int64
	MaxTotalTokens        int64
	DeadlineMS            int64
	AllowSummarization    bool
	AllowRetrieval        bool
	Tags                  []string
	// Parent is the job that asked for this one, "" for none.
	Parent string
}

var topicForm = regexp.MustCompile(`^job(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)+$`)

// normalise fills defaults and checks everything that the caller alone decides. It changes s in place.
func (s *Submission) normalise(id identity.Identity) error {
	if strings.TrimSpace(s.Prompt) == "" {
		return fault.New(fault.Invalid, "prompt is required")
	}
	if len(s.Prompt) > MaxPromptBytes {
		return fault.New(fault.Invalid, "prompt too long (>%d chars)", MaxPromptBytes)
	}
	if err := s.checkTopic(); err != nil {
		return err
	}
	if err := s.checkTokens(); err != nil {
		return err
	}
	switch s.ActorType = strings.ToLower(strings.TrimSpace(s.ActorType)); s.ActorType {
	case "", "human", "service":
	default:
		return fault.New(fault.Invalid, "actor_type must be 'human' or 'service'")
	}
	if err := s.checkLabels(); err != nil {
		return err
	}
	if len(s.Tags) > MaxTags {
		return fault.New(fault.Invalid, "too many tags (max %d)", MaxTags)
	}
	s.RiskTags, s.Requires = words(s.RiskTags), words(s.Requires)
	if len(s.RiskTags) > MaxWords || len(s.Requires) > MaxWords {
		return fault.New(fault.Invalid, "too many risk_tags or requires (max %d)", MaxWords)
	}
	if err := s.checkNames(); err != nil {
		return err
	}
	for _, named := range []string{s.OrgID, s.TenantID} {
		if named = strings.TrimSpace(named); named != "" && named != id.Tenant {
			return fault.New(fault.Denied, "tenant access denied")
		}
	}
	s.resolveActor(id)
	s.scanSecrets()
	return nil
}

func (s *Submission) checkTopic() error {
	switch s.Topic = strings.TrimSpace(s.Topic); {
	case s.Topic == "":
		s.Topic = DefaultTopic
	case !strings.HasPrefix(s.Topic, "job."):
		return fault.New(fault.Invalid, "topic must start with job.")
	case len(s.Topic) > MaxTopicChars || !topicForm.MatchString(s.Topic):
		return fault.New(fault.Invalid, "invalid topic format")
	}
	return nil
}

func (s *Submission) checkTokens() error {
	if s.MaxInputTokens < 0 || s.MaxOutputTokens < 0 || s.MaxTotalTokens < 0 {
		return fault.New(fault.Invalid, "token limits must be non-negative")
	}
	if s.MaxInputTokens > math.MaxInt32 {
		return fault.New(fault.Invalid, "max_input_tokens is too large")
	}
	if err := s.checkDeadline(); err != nil {
		return err
	}
	if s.MaxInputTokens == 0 {
		s.MaxInputTokens = DefaultMaxInputTokens
	}
	if s.MaxOutputTokens == 0 {
		s.MaxOutputTokens = DefaultMaxOutputTokens
	}
	return nil
}

func (s *Submission) checkDeadline() error {
	if s.DeadlineMS < 0 {
		return fault.New(fault.Invalid, "deadline_ms must be non-negative")
	}
	if s.DeadlineMS > int64(maxDeadline/time.Millisecond) {
		return fault.New(fault.Invalid, "deadline_ms must be at most %d", int64(maxDeadline/time.Millisecond))
	}
	return nil
}

// maxDeadline is the longest time a job may be given: a year.
const maxDeadline = 366 * 24 * time.Hour

func (s *Submission) checkLabels() error {
	labels := maps.Clone(s.Labels)
	maps.DeleteFunc(labels, func(k, _ string) bool { return reservedLabel(k) })
	if err := job.CheckLabels(labels); err != nil {
		return err
	}
	s.Labels = labels
	return nil
}

// reservedLabel says whether only the plane may set a label. A client's is dropped without a word.
func reservedLabel(key string) bool {
	k := strings.ToLower(strings.TrimSpace(key))
	return strings.HasPrefix(k, "approval_") || strings.HasPrefix(k, "_") || k == "cordum.bus_msg_id"
}

func (s *Submission) checkNames() error {
	for name, v := range map[string]string{
		"adapter_id": s.Adapter, "team_id": s.TeamID, "project_id": s.ProjectID, "principal_id": s.Principal, "actor_id": s.ActorID,
		"idempotency_key": s.IdempotencyKey, "pack_id": s.PackID, "capability": s.Capability, "context_mode": s.ContextMode,
	} {
		if len(v) > MaxName {
			return fault.New(fault.Invalid, "%s too long (max %d bytes)", name, MaxName)
		}
	}
	for _, w := range slices.Concat(s.RiskTags, s.Requires, s.Tags) {
		if len(w) > MaxName {
			return fault.New(fault.Invalid, "tag too long (max %d bytes)", MaxName)
		}
	}
	s.IdempotencyKey = strings.TrimSpace(s.IdempotencyKey)
	s.PackID, s.Capability = strings.TrimSpace(s.PackID), strings.TrimSpace(s.Capability)
	s.MemoryID = strings.TrimSpace(s.MemoryID)
	if s.MemoryID != "" && !ValidMemoryID(s.MemoryID) {
		return fault.New(fault.Invalid, "invalid memory id")
	}
	return nil
}

// ValidMemoryID says whether a memory may have the id.
func ValidMemoryID(id string) bool { return memoryForm.MatchString(id) }

var memoryForm = regexp.MustCompile(`^[A-Za-z0-9:._-]{1,256}$`)

// resolveActor settles who asks: the body's word, then the credential's; the actor is the principal unless named.
func (s *Submission) resolveActor(id identity.Identity) {
	if s.Principal == "" {
		s.Principal = id.Principal
	}
	if s.ActorID == "" {
		s.ActorID = s.Principal
	}
}

// The mark that a submission refers to a secret.
const (
	secretScheme = "secret://"
	secretsTag   = "secrets"
	secretsLabel = "secrets_present"
)

// scanSecrets marks a job whose prompt, or any string inside its context, is a reference to a secret. Keys, and references inside a
// longer text, do not count.
func (s *Submission) scanSecrets() {
	if !isSecret(s.Prompt) && !holdsSecret(s.Context) {
		return
	}
	if !slices.ContainsFunc(s.RiskTags, func(t string) bool { return strings.EqualFold(t, secretsTag) }) {
		s.RiskTags = append(s.RiskTags, secretsTag)
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.Labels[secretsLabel] = "true"
}

func isSecret(v string) bool { return strings.HasPrefix(strings.TrimSpace(v), secretScheme) }

// holdsSecret looks at every string value of a JSON text, decoded, so that an escape does not hide a reference.
func holdsSecret(text json.RawMessage) bool {
	if !bytes.Contains(text, []byte("secret")) && !bytes.Contains(text, []byte(`\`)) {
		return false
	}
	var tree any
	if json.Unmarshal(text, &tree) != nil {
		return false
	}
	return secretIn(tree)
}

func secretIn(v any) bool {
	switch v := v.(type) {
	case string:
		return isSecret(v)
	case []any:
		return slices.ContainsFunc(v, secretIn)
	case map[string]any:
		for _, member := range v {
			if secretIn(member) {
				return true
			}
		}
	}
	return false
}

// words trims, and drops what is blank or there already.
func words(in []string) []string {
	var out []string
	for _, w := range in {
		if w = strings.TrimSpace(w); w != "" && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// request is the job as a worker will get it, without what a decision adds.
func (s *Submission) request(jobID, tenant string) *agentv1.JobRequest {
	memory := s.MemoryID
	if memory == "" {
		memory = "mem:" + jobID
	}
	env := map[string]string{
		"tenant_id": tenant, "memory_id": memory,
		"max_input_tokens":  strconv.FormatInt(s.MaxInputTokens, 10),
		"max_output_tokens": strconv.FormatInt(s.MaxOutputTokens, 10),
	}
	for name, v := range map[string]string{"team_id": s.TeamID, "project_id": s.ProjectID, "context_mode": s.ContextMode} {
		if v != "" {
			env[name] = v
		}
	}
	return &agentv1.JobRequest{
		JobId: jobID, Topic: s.Topic, Priority: priority(s.Priority), ContextPtr: "redis://ctx:" + jobID, AdapterId: s.Adapter, Env: env,
		MemoryId: memory, TenantId: tenant, PrincipalId: s.Principal, Labels: s.Labels,
		ContextHints: &agentv1.ContextHints{
			MaxInputTokens: int32(s.MaxInputTokens), AllowSummarization: s.AllowSummarization, AllowRetrieval: s.AllowRetrieval, Tags: s.Tags,
		},
		Budget: &agentv1.Budget{
			MaxInputTokens: s.MaxInputTokens, MaxOutputTokens: s.MaxOutputTokens, MaxTotalTokens: s.MaxTotalTokens, DeadlineMs: s.DeadlineMS,
		},
		Meta: &agentv1.JobMetadata{
			TenantId: tenant, ActorId: s.ActorID, ActorType: actorType(s.ActorType), IdempotencyKey: s.IdempotencyKey,
			Capability: s.Capability, RiskTags: s.RiskTags, Requires: s.Requires, PackId: s.PackID, Labels: s.Labels,
		},
	}
}

func priority(word string) agentv1.JobPriority {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "batch":
		return agentv1.JobPriority_JOB_PRIORITY_BATCH
	case "critical":
		return agentv1.JobPriority_JOB_PRIORITY_CRITICAL
	default:
		return agentv1.JobPriority_JOB_PRIORITY_INTERACTIVE
	}
}

func actorType(word string) agentv1.ActorType {
	switch word {
	case "human":
		return agentv1.ActorType_ACTOR_TYPE_HUMAN
	case "service":
		return agentv1.ActorType_ACTOR_TYPE_SERVICE
	default:
		return agentv1.ActorType_ACTOR_TYPE_UNSPECIFIED
	}
}

// contextPayload is what lies behind redis://ctx:<job>, as submitted: an absent priority stays "".
func (s *Submission) contextPayload(tenant string, now time.Time) []byte {
	p := struct {
		Prompt    string `json:"prompt"`
		AdapterID string `json:"adapter_id"`
		Priority  string `json:"priority"`
		Topic     string `json:"topic"`
		CreatedAt string `json:"created_at"`
		TenantID  string `json:"tenant_id"`
	}{s.Prompt, s.Adapter, s.Priority, s.Topic, now.UTC().Format(time.RFC3339), tenant}
	head, err := marshal(p)
	if err != nil {
		panic("dispatch: context payload: " + err.Error()) // strings always encode
	}
	if len(s.Context) == 0 {
		return head
	}
	// splice the context in as it came: encoding/json would compact it and escape its text
	head = append(head[:len(head)-1], `,"context":`...)
	return append(append(head, s.Context...), '}')
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
