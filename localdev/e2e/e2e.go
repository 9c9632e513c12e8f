// Package e2e is the end-to-end suite: what a plane promises, asked through its public doors, in real time. It runs against any plane that was
// seeded with localdev/seed: one in this process, one on LocalStack, one that is deployed somewhere.
//
// The plane may be used by others meanwhile, by other runs of the suite too. So everything that a case makes carries a name of its own, what it
// lists is filtered by that, and in the end it cancels what still waits and deletes its dead letters.
package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Target is a plane under test. URL and AdminKey are required; what else is missing makes cases not applicable.
type Target struct {
	// URL is where REST and WebSocket are: "https://cordum.example.com".
	URL string
	// GRPC is the address of workers and of CordumApi, "host:port". It is reached over TLS when URL is https.
	GRPC string
	// AdminKey is a key of role admin of Tenant, WorkerKey one of role worker that names the pools below.
	AdminKey, WorkerKey string
	Tenant              string
	// OtherKey is a key of role admin of OtherTenant.
	OtherKey, OtherTenant string
	// Queue answers a queue of the plane by its short name, "inbox" or "pool-<pool>".
	Queue func(name string) (Queue, error)
	// Lambda says that a Lambda worker with Handler, or several, serve PoolLambda.
	Lambda bool
	// Sweep is how often the plane looks for what is due: how long it may take to notice what it was not told.
	Sweep time.Duration
}

// Queue is what a worker without a stream needs of the plane's queues.
type Queue interface {
	worker.Queue
	worker.Sender
}

// The pools and topics of localdev/seed that belong to the suite.
const (
	// PoolWork is served by workers with a stream, of every run of the suite that goes on: each does what any case asks for.
	PoolWork  = "e2e"
	TopicWork = "job.e2e.work"
	// PoolPlaced takes jobs that are meant for one worker, by label. Its queue stays empty.
	PoolPlaced  = "e2e-placed"
	TopicPlaced = "job.e2e.placed"
	TopicFrail  = "job.e2e.frail" // has one attempt
	TopicBoxed  = "job.e2e.boxed" // has constraints
	// PoolPolled is served by workers that read its queue.
	PoolPolled  = "e2e-polled"
	TopicPolled = "job.e2e.polled"
	// PoolLambda has a function behind its queue.
	PoolLambda  = "e2e-lambda"
	TopicLambda = "job.e2e.lambda"
	// PoolLost loses workers. What lingers in the hands of one goes to the next.
	PoolLost      = "e2e-lost"
	TopicLost     = "job.e2e.lost"
	TopicDenied   = "job.e2e.denied"   // no worker gets a job of this and the following: the policy denies it
	TopicAsked    = "job.e2e.asked"    // a human must look at it first; then it is for PoolPlaced
	TopicChecked  = "job.e2e.checked"  // likewise; then it is for PoolWork
	TopicSlow     = "job.e2e.slow"     // the policy says: not now, each time that it is asked
	TopicUnrouted = "job.e2e.unrouted" // allowed, and no pool takes it
	// PoolAdded is there while the suite runs: it adds it. Its queue stays.
	PoolAdded  = "e2e-added"
	TopicAdded = "job.e2e.added"
)

// atOnce is how many cases run at one time: they wait much more than they work.
const atOnce = 16

// testCase is one promise.
type testCase struct {
	name  string
	needs need
	play  func(*story)
}

// Run plays every case as a subtest, and answers the names of those that are not applicable to the target.
func Run(t *testing.T, target Target) (left []string) {
	target.URL = strings.TrimRight(target.URL, "/")
	r := newRun(t, target)
	r.greet()
	defer r.dismiss()
	r.start()
	left = r.play(slices.Concat(slowCases, doorCases, policyCases, jobCases, workerCases, letterCases, approvalCases, streamCases, tenantCases,
		workflowCases, runCases, lockCases, marketCases, contextCases, artifactCases, accountCases))
	left = append(left, r.play(slices.Concat(bundleCases, packCases))...) // apart: another policy makes what waits for a human stale
	left = append(left, r.play(configCases)...)                           // apart: they write the bundles, too
	if len(left) > 0 {
		t.Logf("%d cases are not applicable to %s:\n  %s", len(left), target.URL, strings.Join(left, "\n  "))
	}
	return left
}

// play plays cases at one time.
func (r *run) play(cases []testCase) (left []string) {
	turns := make(chan struct{}, atOnce)
	var playing sync.WaitGroup
	for _, c := range cases {
		reason := r.target.lacks(c.needs)
		if reason != "" {
			left = append(left, fmt.Sprintf("%s (%s)", c.name, reason))
		}
		turns <- struct{}{}
		playing.Go(func() {
			defer func() { <-turns }()
			r.t.Run(c.name, func(t *testing.T) {
				if reason != "" {
					t.Skip("not applicable: " + reason)
				}
				c.play(r.story(t))
			})
		})
	}
	playing.Wait()
	return left
}

// need is what a case needs of a target beside REST and an administrator's key.
type need int

const (
	needGRPC need = 1 << iota
	needWorkerKey
	needQueues
	needLambda
	needOther

	// needStream is what a worker with a stream needs, needPolling one that reads a queue.
	needStream  = needGRPC | needWorkerKey
	needPolling = needQueues | needWorkerKey
)

// lacks says why a case with these needs is not applicable; "" when it is.
func (t Target) lacks(n need) string {
	for _, l := range []struct {
		need    need
		missing bool
		reason  string
	}{
		{needGRPC, t.GRPC == "", "no gRPC address"},
		{needWorkerKey, t.WorkerKey == "", "no key of a worker"},
		{needQueues, t.Queue == nil, "no access to the plane's queues"},
		{needLambda, !t.Lambda, "no Lambda worker with the suite's handler serves pool " + PoolLambda},
		{needOther, t.OtherKey == "", "no key of a second tenant"},
	} {
		if n&l.need != 0 && l.missing {
			return l.reason
		}
	}
	return ""
}

// greet ends the run before its first case when the target is not there, or not seeded as the suite needs it.
func (r *run) greet() {
	r.t.Helper()
	s := r.story(r.t)
	if a, err := s.send(call{method: http.MethodGet, path: "/health", keyless: true}); err != nil || a.Status != http.StatusOK {
		r.t.Fatalf("nothing healthy is at %s: %+v, %v", r.target.URL, a, err)
	}
	for topic, want := range map[string]string{TopicPlaced: "scheduled", TopicDenied: "denied", TopicAsked: "approval_required", TopicLost: "scheduled", TopicUnrouted: "failed"} {
		a := s.post("/jobs", s.body("topic", topic, "labels", s.here()))
		if a.Status != http.StatusOK {
			r.t.Fatalf("a job of topic %s cannot be submitted: %s", topic, a)
		}
		rc := s.receipt(a)
		if rc.Status != want {
			r.t.Fatalf("a job of topic %s is %q (%s), not %q: was this plane seeded with an older localdev/seed, or another policy?",
				topic, rc.Status, rc.Reason, want)
		}
	}
}
