// Package resources defines what the plane stands on: the table with its indexes, the queues, the bucket. infra, localdev and the
// conformance suites all read these definitions; nothing else creates or names a resource.
package resources

import (
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Names of the table's key attributes. Every item has PK and SK; Expires is DynamoDB's TTL attribute.
const (
	PK      = store.AttrPK
	SK      = store.AttrSK
	Expires = store.AttrExpires
)

// IndexDef is a secondary index: keys only, both keys strings.
type IndexDef struct {
	Name   store.Index
	PK, SK string
}

// Indexes are the table's secondary indexes.
var Indexes = indexes()

func indexes() []IndexDef {
	defs := make([]IndexDef, len(store.Indexes))
	for i, name := range store.Indexes {
		pk, sk := name.KeyNames()
		defs[i] = IndexDef{Name: name, PK: pk, SK: sk}
	}
	return defs
}

// Names of the queues that always exist. Pool and delivery queues are named by Pool and Delivery.
const (
	// Inbox takes CAP BusPackets from workers with AWS credentials.
	Inbox = "inbox"
	// Dispatch wakes functions/scheduler: jobs to be decided or sent again, and runs to be looked at, sooner than the next sweep.
	Dispatch = "dispatch"
	// Runs wakes functions/engine, grouped by run.
	Runs = "runs.fifo"
	// Events carries live events to functions/broadcast, grouped by job or run, and the names of connections that must be caught up.
	Events = "events.fifo"
	// DeadLetters takes what was received too often on a standard queue, and every unsuccessful outcome.
	DeadLetters = "dead-letters"
	// DeadLettersFIFO does so for FIFO queues.
	DeadLettersFIFO = "dead-letters.fifo"
)

// Pool names the queue of a worker pool.
func Pool(name string) string { return "pool-" + name }

// Delivery names the queue of the n-th container of the gRPC service, for jobs that one certain worker must take.
func Delivery(n int) string { return fmt.Sprintf("delivery-%d", n) }

const (
	day = 24 * time.Hour
	// maxReceives lets a message survive a few crashes; business retries send a new message instead.
	maxReceives = 5
	// maxOffers is the same for the queues of pools and containers, whose messages are also given back: for want of a free worker of the
	// right tenant, or while the store is out of reach.
	maxOffers = 100
)

// Source is a queue that drives a function.
type Source struct {
	Queue    string
	Function string // the name of its folder
	// Batch is the most messages of one invocation.
	Batch int
}

// Sources are the functions that queues drive. A function that is not in this list is not driven by a queue.
var Sources = []Source{
	{Inbox, "inbox", 10},
	{Dispatch, "scheduler", 10},
	{Runs, "engine", 10},
	{Events, "broadcast", 10},
	{DeadLetters, "deadletter", 10},
	{DeadLettersFIFO, "deadletter", 10},
}

// DeliveryQueues is N: the most containers of the gRPC service.
const DeliveryQueues = 8

// RatePrefix is what the partition keys of the items begin with that count how often something was done. Who counts may write those and no others.
const RatePrefix = "RATE#"

// Queues answers the definitions of every queue of a plane with these pools, dead-letter queues first.
func Queues(pools ...string) []queue.Def {
	defs := []queue.Def{
		{Name: DeadLetters, Visibility: time.Minute, Retention: 14 * day},
		{Name: DeadLettersFIFO, FIFO: true, Visibility: time.Minute, Retention: 14 * day},
		standard(Inbox), standard(Dispatch), fifo(Runs), fifo(Events),
	}
	for n := range DeliveryQueues {
		defs = append(defs, offers(Delivery(n)))
	}
	for _, p := range pools {
		defs = append(defs, PoolQueue(p))
	}
	return defs
}

// PoolQueue answers the definition of one pool's queue. A message waits there as long as a job may: a job still unclaimed is sent again
// by the sweep, so losing a message loses nothing.
func PoolQueue(pool string) queue.Def { return offers(Pool(pool)) }

func offers(name string) queue.Def {
	def := standard(name)
	def.MaxReceives = maxOffers
	return def
}

func standard(name string) queue.Def {
	return queue.Def{Name: name, Visibility: time.Minute, Retention: 4 * day, MaxReceives: maxReceives, DeadLetter: DeadLetters}
}

func fifo(name string) queue.Def {
	return queue.Def{Name: name, FIFO: true, Visibility: time.Minute, Retention: 4 * day, MaxReceives: maxReceives, DeadLetter: DeadLettersFIFO}
}
