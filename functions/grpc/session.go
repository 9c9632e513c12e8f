package grpc

import (
	"slices"
	"sync"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/core/worker"
)

// session is one worker's open stream.
type session struct {
	id   identity.Identity
	name string // the worker's id
	out  chan *agentv1.BusPacket
	done chan struct{} // closed when the session ends

	ending sync.Once

	mu       sync.Mutex
	beat     *agentv1.Heartbeat
	beatAt   time.Time
	storedAt time.Time
	delivery string // the queue that the worker's record names; guarded by the Workers' lock
	jobs     map[string]*held
	reserved int // slots promised to claims under way
	claiming map[string]bool
	wonders  bool
	draining bool
}

// held is a job that the session's worker has.
type held struct {
	tail     chan struct{} // closed when the packet before is handled; guarded by the session
	record   *job.Record   // likewise
	progress time.Time     // of the last progress that was stored
}

// holder is how the session's worker speaks of a job.
func (s *session) holder() worker.Worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return worker.Worker{Tenant: s.id.Home, CrossTenant: s.id.CrossTenant, Beat: s.beat, SeenAt: s.beatAt.UnixMicro()}
}

// candidate is the worker as scheduling sees it, with the jobs that it has or is promised by now.
func (s *session) candidate() (schedule.Worker, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := worker.Worker{Tenant: s.id.Home, Beat: s.beat, SeenAt: s.beatAt.UnixMicro()}.Candidate()
	c.ActiveJobs = len(s.jobs) + s.reserved
	return c, !s.draining
}

// free is how many more jobs the worker takes: jobs are pulled for it until it has as many as it said, unless its machine is busy.
func (s *session) free() int {
	c, ok := s.candidate()
	if !ok || schedule.Busy(c) {
		return 0
	}
	if c.MaxParallelJobs <= 0 {
		return unlimitedPull
	}
	return max(c.MaxParallelJobs-c.ActiveJobs, 0)
}

// unlimitedPull is how many jobs at once are pulled for a worker that sets no limit.
const unlimitedPull = 10

func (s *session) reserve(n int) {
	s.mu.Lock()
	s.reserved += n
	s.mu.Unlock()
}

// hold notes a job that the worker has.
func (s *session) hold(r *job.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[r.ID] = &held{record: r}
}

// fill turns a promised slot into a job.
func (s *session) fill(r *job.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved--
	s.jobs[r.ID] = &held{record: r}
}

// claim says whether a job may be claimed for the worker: it does not have it, and no other claim of it is under way. claimed ends it.
func (s *session) claim(jobID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[jobID] != nil || s.claiming[jobID] {
		return false
	}
	s.claiming[jobID] = true
	return true
}

func (s *session) claimed(jobID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claiming, jobID)
}

// wonder notes that a claim may have been made although it failed.
func (s *session) wonder() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wonders = true
}

// wondered says whether one has since it was last asked.
func (s *session) wondered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.wonders
	s.wonders = false
	return was
}

func (s *session) find(jobID string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[jobID]
}

// held lists the jobs that the worker has.
func (s *session) held() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.jobs))
	for id := range s.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// record is what was last seen of a job that the worker has, nil when it has none.
func (s *session) record(jobID string) *job.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.jobs[jobID]; h != nil {
		return h.record
	}
	return nil
}

func (s *session) remember(h *held, r *job.Record) {
	s.mu.Lock()
	h.record = r
	s.mu.Unlock()
}

func (s *session) release(jobID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.jobs, jobID)
}

// end closes the session; what is queued for the worker is dropped.
func (s *session) end() { s.ending.Do(func() { close(s.done) }) }

// leave says that the worker closed its side: it takes no more jobs.
func (s *session) leave() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
}

// drained says that the worker left on purpose and with nothing in its hands.
func (s *session) drained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining && len(s.jobs) == 0
}

func (s *session) pool() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beat.GetPool()
}

// beatNow takes a heartbeat and says whether it is time to store one.
func (s *session) beatNow(beat *agentv1.Heartbeat, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat, s.beatAt = beat, now
	if now.Sub(s.storedAt) < beatWrite {
		return false
	}
	s.storedAt = now
	return true
}

// unstored makes the next heartbeat be stored whatever the time.
func (s *session) unstored() {
	s.mu.Lock()
	s.storedAt = time.Time{}
	s.mu.Unlock()
}

// order waits for its turn to handle a packet about a job: packets of one job are handled one after the other.
func (s *session) order(jobID string) (unlock func()) {
	h := s.find(jobID)
	if h == nil {
		return func() {}
	}
	turn := make(chan struct{})
	s.mu.Lock()
	before := h.tail
	h.tail = turn
	s.mu.Unlock()
	if before != nil {
		<-before
	}
	return func() { close(turn) }
}

// send queues a packet for the worker; false when the stream has ended.
func (s *session) send(p *agentv1.BusPacket) bool {
	select {
	case <-s.done:
		return false
	default:
	}
	select {
	case s.out <- p:
		return true
	case <-s.done:
		return false
	}
}
