package resources

import (
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Function is a Lambda function. Its code is the folder functions/<Name>, its door functions/<Name>/lambda. infra makes it from this, localdev
// hosts it by this, and a test compares the list with the folders.
type Function struct {
	Name string
	// Service is the service of the contract whose routes it answers, "cordum.v1.Jobs"; "" when it answers none.
	Service string
	// Default says that it answers every request that no other does.
	Default bool
	// Sockets says that it is behind the WebSocket API.
	Sockets bool
	// Every is the interval of the schedule that runs it; 0 is none.
	Every time.Duration
	// Setup says that a deployment runs it.
	Setup bool
	// Fetches says that it reads from addresses on the internet that others name.
	Fetches bool
	// Memory is in MiB; a function's share of a processor grows with it.
	Memory int
	// Timeout is the longest that one invocation may take.
	Timeout time.Duration
	// Grants are all that its role allows, beside writing its own log and taking messages from its Sources.
	Grants []Grant
}

// ContainerDef is the gRPC service: a container's size, and all that its role allows.
type ContainerDef struct {
	// CPU is in units of 1/1024 processor, Memory in MiB.
	CPU, Memory int
	// Stop is how long a container may take to leave.
	Stop   time.Duration
	Grants []Grant
}

// Grant is leave to do things with a resource, in IAM's words.
type Grant struct {
	// Actions are IAM actions, "dynamodb:GetItem".
	Actions []string
	On      Target
	// Unproven says why it is granted although the end-to-end suite never uses it; "" for what the suite proves to be needed.
	Unproven string
}

// Kind is a kind of resource.
type Kind string

// The kinds of resources of a plane. Where a kind has several, a Target names one.
const (
	TheTable      Kind = "table"
	TheRates      Kind = "rates" // the items of the table that count how often something was done
	AnIndex       Kind = "index"
	TheBucket     Kind = "bucket"     // the bucket itself, not what is in it
	Objects       Kind = "objects"    // those whose key begins with the name and a slash
	AQueue        Kind = "queue"      //
	AllPools      Kind = "pools"      // the queues of all pools
	AllDeliveries Kind = "deliveries" // the delivery queues of all containers
	Connections   Kind = "connections"
	TheSecret     Kind = "secret" // API keys, and whatever else is secret
	TheAuditKey   Kind = "audit"  // the secret that signs the audit trail; who has it needs no other
	SeedFiles     Kind = "seed"   // the policy, pools and timeouts of a deployment
)

// Target is a resource of the plane, or all of a kind.
type Target struct {
	Kind Kind
	Name string
}

// Prefixes of the keys of objects.
const (
	ArtifactObjects = "art"       // what clients have stored, by id
	PolicyObjects   = "policy"    // contents of policies, by their hash
	ContextObjects  = "ctx"       // contexts of jobs that are too large for the table
	ResultObjects   = "res"       // results likewise
	AuditObjects    = "audit"     // sealed blocks of the audit trail, kept for ever
	WorkflowObjects = "workflows" // definitions that are too large for the table, by their hash
	ConfigObjects   = "config"    // documents of the configuration that are too large for the table, by their hash
	RunObjects      = "runs"      // values of runs that are too large for the table, by run and hash; they go with the run
)

// Class is a retention class of objects: those with the tag class=<Name> are gone some time after Keep, which the bucket's lifecycle counts in
// whole days. Objects without a class are kept.
type Class struct {
	Name string
	Keep time.Duration
}

// ClassTag is the name of the tag.
const ClassTag = "class"

// Classes are all retention classes.
var Classes = []Class{{"short", day}, {"standard", 7 * day}, {"audit", 30 * day}}

// Functions are all Lambda functions, by name.
var Functions = []Function{
	{Name: "approvals", Service: "cordum.v1.Approvals", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, update, check,
		on(store.ByTime), on(store.ByLink), movesJobs, send(Runs), decides)},
	{Name: "artifacts", Service: "cordum.v1.Artifacts", Memory: 1024, Timeout: 25 * time.Second, Grants: grants(serves, get, put, update,
		readObjects(ArtifactObjects), writeObjects(ArtifactObjects))},
	{Name: "auth", Service: "cordum.v1.Auth", Memory: 1024, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, update, remove,
		send(Events))},
	{Name: "broadcast", Memory: 512, Timeout: 10 * time.Second, Grants: grants(get, batchGet, query, put, update, check,
		unproven("a client that went without a word is forgotten, and a tenant to which nobody listens", remove),
		unproven("a client that cannot be reached is caught up later", send(Events)),
		allow(Target{Kind: Connections}, "execute-api:ManageConnections"))},
	{Name: "bundles", Service: "cordum.v1.Bundles", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, query, put, remove,
		decides, allow(Target{Objects, PolicyObjects}, "s3:PutObject"), batchGet, send(Events))},
	{Name: "config", Service: "cordum.v1.Config", Memory: 512, Timeout: 25 * time.Second, Grants: grants(serves, get, batchGet, query, put, update, remove, check,
		readObjects(PolicyObjects), allow(Target{Objects, PolicyObjects}, "s3:PutObject"), readObjects(ConfigObjects),
		allow(Target{Objects, ConfigObjects}, "s3:PutObject"), makesPools, send(Events))},
	{Name: "deadletter", Memory: 512, Timeout: 10 * time.Second, Grants: grants(get, batchGet, send(Events),
		unproven("a message that nobody could handle is kept", put), unproven("a ticket that was received too often is sent again", toPools))},
	{Name: "dlq", Service: "cordum.v1.DeadLetters", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, remove,
		on(store.ByTime), on(store.ByLink), movesJobs, readObjects(ContextObjects), decides, writeObjects(ContextObjects),
		unproven("a tenant's jobs are counted where they are limited", update), unproven(velocities, query),
		unproven("a message that nobody could handle goes back to its queue", send(Inbox)), unproven(ofRuns, send(Runs)))},
	{Name: "engine", Memory: 512, Timeout: 10 * time.Second, Grants: grants(get, batchGet, query, put, remove, send(Dispatch), send(Events), send(Runs), toPools,
		decides, readObjects(RunObjects), unproven(carries, send(DeadLetters), toDeliveries, writeObjects(ContextObjects), readObjects(ResultObjects)),
		unproven("a tenant's runs, and its jobs, are counted where they are limited", update), unproven("the children of a cancelled job are cancelled", on(store.ByLink)),
		unproven("a large definition is kept as an object", readObjects(WorkflowObjects)),
		unproven("a large value of a run is kept as an object", allow(Target{Objects, RunObjects}, "s3:PutObject", "s3:DeleteObject")))},
	{Name: "fallback", Default: true, Memory: 256, Timeout: 5 * time.Second, Grants: grants(serves)},
	{Name: "inbox", Memory: 512, Timeout: 10 * time.Second, Grants: grants(get, batchGet, put, update, send(DeadLetters), send(Events),
		unproven("a worker that was forgotten is watched when it speaks again", send(Dispatch)), unproven(ofRuns, send(Runs)))},
	{Name: "jobs", Service: "cordum.v1.Jobs", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, query, put, update, check,
		on(store.ByTime), on(store.ByLink), movesJobs, readObjects(ContextObjects), writeObjects(ContextObjects), decides,
		readObjects(ResultObjects), unproven(ofRuns, send(Runs)))},
	{Name: "locks", Service: "cordum.v1.Locks", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, on(store.ByLink))},
	{Name: "marketplace", Service: "cordum.v1.Marketplace", Fetches: true, Memory: 1024, Timeout: 28 * time.Second, Grants: grants(serves, get, query,
		unproven("the suite has no catalog to install from", installs))},
	{Name: "memory", Service: "cordum.v1.Memory", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, query, readObjects(ContextObjects),
		readObjects(ResultObjects))},
	{Name: "packs", Service: "cordum.v1.Packs", Memory: 1024, Timeout: 29 * time.Second, Grants: grants(serves, installs, readObjects(ArtifactObjects))},
	{Name: "policy", Service: "cordum.v1.Policy", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, decides,
		unproven(velocities, query))},
	{Name: "runs", Service: "cordum.v1.Runs", Memory: 512, Timeout: 25 * time.Second, Grants: grants(serves, get, batchGet, query, put, update, remove, check,
		on(store.ByTime), on(store.ByLink), send(Dispatch), send(DeadLetters), send(Events), send(Runs), toPools, decides,
		readObjects(RunObjects), allow(Target{Objects, RunObjects}, "s3:PutObject", "s3:DeleteObject"),
		unproven(carries, toDeliveries, writeObjects(ContextObjects), readObjects(ResultObjects)),
		unproven("a large definition is kept as an object", readObjects(WorkflowObjects)))},
	{Name: "scheduler", Memory: 512, Timeout: 10 * time.Second, Grants: grants(get, update,
		unproven("it does what the sweep was not first to do", batchGet, put, remove, on(store.ByLink), send(Dispatch), send(DeadLetters), send(Events), send(Runs), toPools,
			toDeliveries, decides),
		unproven(keeps, query, readObjects(ContextObjects), writeObjects(ContextObjects)))},
	{Name: "schemas", Service: "cordum.v1.Schemas", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, put, remove, on(store.ByTime))},
	{Name: "sealer", Every: time.Minute, Memory: 1024, Timeout: 55 * time.Second, Grants: grants(get, on(store.ByTime),
		allow(Target{Kind: TheAuditKey}, "secretsmanager:GetSecretValue"),
		unproven("an entry is sealed when it is a minute old", batchGet, put, allow(Target{Objects, AuditObjects}, "s3:PutObject"), readObjects(AuditObjects)))},
	{Name: "seed", Setup: true, Memory: 512, Timeout: time.Minute, Grants: grants(secret, get, put, update, allow(Target{Kind: SeedFiles}, "s3:GetObject"),
		unproven("an operator may name the first administrator", batchGet, on(store.ByLink)),
		allow(Target{Objects, PolicyObjects}, "s3:PutObject"), readObjects(PolicyObjects),
		unproven(large, readObjects(ConfigObjects), allow(Target{Objects, ConfigObjects}, "s3:PutObject")))},
	{Name: "status", Service: "cordum.v1.Status", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, on(store.ByLink),
		readObjects(PolicyObjects), allow(Target{AQueue, Dispatch}, "sqs:GetQueueAttributes"))},
	{Name: "stream", Sockets: true, Memory: 512, Timeout: 10 * time.Second, Grants: grants(serves, get, query, put, remove, send(Events),
		unproven("what nobody has listened to for a while begins anew", update))},
	{Name: "sweep", Every: time.Minute, Memory: 1024, Timeout: 55 * time.Second, Grants: grants(knows, on(store.ByDue),
		unproven("it does what nobody was woken for", batchGet, send(Dispatch), get, put, update, remove, on(store.ByLink), send(DeadLetters), send(Events), send(Runs), toPools, toDeliveries,
			decides),
		unproven(keeps, query, readObjects(ContextObjects), writeObjects(ContextObjects)),
		unproven("a connection of two minutes gets a sign of life", allow(Target{Kind: Connections}, "execute-api:ManageConnections")))},
	{Name: "traces", Service: "cordum.v1.Traces", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, batchGet, on(store.ByLink))},
	{Name: "users", Service: "cordum.v1.Users", Memory: 1024, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, update, remove,
		on(store.ByLink), on(store.ByTime), send(Events))},
	{Name: "workers", Service: "cordum.v1.Workers", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, update, remove,
		on(store.ByLink), send(Dispatch), send(Events), readObjects(ContextObjects), writeObjects(ResultObjects),
		unproven("a job whose policy has changed is decided again before it is handed over", query, send(DeadLetters), toPools, toDeliveries,
			decides), unproven(ofRuns, send(Runs)))},
	{Name: "workflows", Service: "cordum.v1.Workflows", Memory: 512, Timeout: 15 * time.Second, Grants: grants(serves, get, batchGet, put, remove, decides, unproven(velocities, query),
		unproven("the rules of a workflow move the head of the policy", update),
		on(store.ByTime), readObjects(WorkflowObjects), allow(Target{Objects, WorkflowObjects}, "s3:PutObject"))},
}

// large is why what reads the configuration reads objects.
const large = "a large document of the configuration is kept as an object"

// keeps is why what looks at jobs that are due handles their contexts.
const keeps = "what a job needs that waits for days is kept longer"

// ofRuns is why what may end a job tells runs.
const ofRuns = "a job that ends may be a run's"

// carries is why what gets runs on may do all that jobs need.
const carries = "the job of a step may be denied, for one worker, or large"

// velocities is why what decides looks at counts.
const velocities = "a policy may have velocities"

// Container is the gRPC service.
var Container = ContainerDef{CPU: 512, Memory: 1024, Stop: 120 * time.Second, Grants: grants(serves, get, batchGet, query, put, update, remove,
	on(store.ByLink), movesJobs, send(Runs), readObjects(ContextObjects), writeObjects(ContextObjects), decides, writeObjects(ResultObjects),
	allow(Target{Kind: AllPools}, takes...), allow(Target{Kind: AllDeliveries}, "sqs:ReceiveMessage", "sqs:DeleteMessage"),
	unproven("a job for one worker is given back when that has no room any more", allow(Target{Kind: AllDeliveries}, "sqs:ChangeMessageVisibility")))}

// FunctionNamed answers a function of the list.
func FunctionNamed(name string) (Function, bool) {
	i := slices.IndexFunc(Functions, func(f Function) bool { return f.Name == name })
	if i < 0 {
		return Function{}, false
	}
	return Functions[i], true
}

// Serves answers the function that answers the routes of a service of the contract: the default one when no other does.
func Serves(service string) Function {
	var otherwise Function
	for _, f := range Functions {
		if service != "" && f.Service == service {
			return f
		}
		if f.Default {
			otherwise = f
		}
	}
	return otherwise
}

// SourcesOf answers the queues that drive a function.
func SourcesOf(function string) []Source {
	var out []Source
	for _, s := range Sources {
		if s.Function == function {
			out = append(out, s)
		}
	}
	return out
}

// What functions are granted.
var (
	// decides is for whatever goes by the policy or the settings in force.
	decides = slices.Concat(readObjects(PolicyObjects), unproven(large, readObjects(ConfigObjects)))
	// makesPools makes the queues of new pools, whose messages go to the dead letters when they come too often.
	makesPools = slices.Concat(allow(Target{Kind: AllPools}, "sqs:CreateQueue", "sqs:GetQueueAttributes"),
		allow(Target{AQueue, DeadLetters}, "sqs:GetQueueAttributes"))
	// installs is for whatever installs packs.
	installs = slices.Concat(get, batchGet, query, put, remove, check, decides, allow(Target{Objects, PolicyObjects}, "s3:PutObject"),
		readObjects(WorkflowObjects), allow(Target{Objects, WorkflowObjects}, "s3:PutObject"),
		unproven(large, allow(Target{Objects, ConfigObjects}, "s3:PutObject")), makesPools, send(Events))
	get      = allow(Target{Kind: TheTable}, "dynamodb:GetItem")
	batchGet = allow(Target{Kind: TheTable}, "dynamodb:BatchGetItem")
	query    = allow(Target{Kind: TheTable}, "dynamodb:Query")
	// put, update, remove and check are single writes and parts of transactions, which IAM sees as what is in them.
	put    = allow(Target{Kind: TheTable}, "dynamodb:PutItem")
	update = allow(Target{Kind: TheTable}, "dynamodb:UpdateItem")
	remove = allow(Target{Kind: TheTable}, "dynamodb:DeleteItem")
	check  = allow(Target{Kind: TheTable}, "dynamodb:ConditionCheckItem")
	secret = allow(Target{Kind: TheSecret}, "secretsmanager:GetSecretValue")
	// knows is for whatever asks who calls: keys in the secret, sessions and managed keys in the table, whose use is counted there.
	knows = slices.Concat(secret, unproven("the caller may have a session or a managed key", get, update))
	// serves is for whatever answers requests: it knows its callers, and counts who is busy.
	serves = slices.Concat(knows, unproven("who asks for little is not counted", allow(Target{Kind: TheRates}, "dynamodb:UpdateItem")))
	// takes is what a consumer of a queue does.
	takes = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}
	// movesJobs is for whatever takes a job a step further: to its pool or its worker, to its end, to those who listen.
	movesJobs    = slices.Concat(send(Dispatch), send(DeadLetters), send(Events), toPools, toDeliveries)
	toPools      = allow(Target{Kind: AllPools}, "sqs:SendMessage")
	toDeliveries = allow(Target{Kind: AllDeliveries}, "sqs:SendMessage")
)

// TakesFromSource is what Lambda does with a function's role to bring it the messages of a queue.
var TakesFromSource = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

func allow(on Target, actions ...string) []Grant { return []Grant{{Actions: actions, On: on}} }

func grants(of ...[]Grant) []Grant { return slices.Concat(of...) }

// unproven says of grants why they are needed though the end-to-end suite does not show it.
func unproven(why string, of ...[]Grant) []Grant {
	all := slices.Concat(of...)
	for i := range all {
		if all[i].Unproven == "" {
			all[i].Unproven = why
		}
	}
	return all
}

func on(index store.Index) []Grant { return allow(Target{AnIndex, string(index)}, "dynamodb:Query") }

func send(queue string) []Grant { return allow(Target{AQueue, queue}, "sqs:SendMessage") }

// readObjects includes what makes S3 say that an object is not there, instead of that it is forbidden.
func readObjects(prefix string) []Grant {
	return append(allow(Target{Objects, prefix}, "s3:GetObject"),
		Grant{[]string{"s3:ListBucket"}, Target{Kind: TheBucket}, "without it S3 answers 403 for an object that is not there"})
}

// writeObjects includes the tag that says how long an object is kept.
func writeObjects(prefix string) []Grant {
	return allow(Target{Objects, prefix}, "s3:PutObject", "s3:PutObjectTagging")
}
