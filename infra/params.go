// Package infra is the CDK app: the stacks of a plane on AWS. Tables, queues, functions and their permissions are made from
// shared/platform/resources, routes from the contract; nothing of that is listed here again.
package infra

import (
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Params is what an operator decides about a plane: the CDK context, read and checked.
type Params struct {
	Stage, Region string
	// Policy, Pools and Timeouts are the files that a new plane is seeded with.
	Policy, Pools, Timeouts string
	// PolicyKey is whose signature the policy must carry; "" for nobody's. PolicySignature is the file beside the policy, "" when there is none.
	PolicyKey, PolicySignature string
	// PoolNames are the pools of the file, sorted.
	PoolNames []string
	// Grpc and Edge say whether these two stacks exist.
	Grpc, Edge bool
	// Domain is the host of the edge, with its certificate; "" is CloudFront's own.
	Domain, Certificate string
	// GrpcDomain is the host of the gRPC service. Without a certificate the service is plain and inside the VPC only.
	GrpcDomain, GrpcCertificate string
	// Zone is the id of the hosted zone that gets records for the domains; "" leaves DNS to the operator.
	Zone string
	// WAF is "" for none, WAFCreate, or the ARN of a web ACL.
	WAF string
	// TenantHeader, Origins and ListShards go to the functions as they are.
	TenantHeader, Origins string
	ListShards            int
	// PackCatalog is the catalog of packs that a new plane begins with, "" for Cordum's own, NoCatalog for none. PackHosts are where packs may be beside
	// the hosts of catalogs.
	PackCatalog, PackHosts string
	// AlarmEmail gets the alarms; "" is nobody.
	AlarmEmail string
	LogDays    int
	// RequestRate is the most requests a second that the APIs take, SourceConcurrency the most invocations at once for one queue.
	RequestRate, SourceConcurrency int
	// MinContainers and MaxContainers bound autoscaling; one container is meant for ContainerConnections connections.
	MinContainers, MaxContainers, ContainerConnections int
	// Table is a table that exists already, restored from a backup; "" makes one.
	Table string
}

// WAFCreate makes a web ACL.
const WAFCreate = "create"

// NoCatalog leaves a plane without a catalog of packs.
const NoCatalog = "none"

// edgeRegion is where CloudFront wants its certificates and web ACLs.
const edgeRegion = "us-east-1"

// Param is one context parameter.
type Param struct {
	Name, Default, Meaning string
	read                   func(p *Params, value string) error
}

// Parameters are all context parameters, in the order of the guide.
var Parameters = []Param{
	{"stage", "dev", "names everything, so that planes can share an account",
		matching(func(p *Params) *string { return &p.Stage }, `^[a-z][a-z0-9]{0,11}$`, "up to 12 lower-case letters and digits, a letter first")},
	{"region", edgeRegion, "where the plane runs",
		matching(func(p *Params) *string { return &p.Region }, `^[a-z]{2}(-[a-z]+)+-[0-9]$`, "an AWS region such as eu-west-1")},
	{"policy", seedFolder + "policy.yaml", "the policy file that a deployment makes the base policy", policyFile},
	{"policyKey", "", "Ed25519 public key, in hex or base64, that must have signed the policy file: its signature lies beside it, `<file>.sig`", policyKey},
	{"pools", seedFolder + "pools.yaml", "the pools file: its pools get queues, and it is seeded once", pools},
	{"timeouts", seedFolder + "timeouts.yaml", "the timeouts file, seeded once", timeouts},
	{"edge", "true", "whether CloudFront puts REST, streams and the API page on one host", flag(func(p *Params) *bool { return &p.Edge })},
	{"grpc", "true", "whether the gRPC service runs; it is all that costs while idle", flag(func(p *Params) *bool { return &p.Grpc })},
	{"domain", "", "host name of the edge, with `certificate`", matching(func(p *Params) *string { return &p.Domain }, hostName, "a host name")},
	{"certificate", "", "ARN of its ACM certificate, in us-east-1",
		matching(func(p *Params) *string { return &p.Certificate }, `^arn:[a-z-]+:acm:us-east-1:\d{12}:certificate/.+$`, "the ARN of an ACM certificate in us-east-1")},
	{"grpcDomain", "", "host name of the gRPC service, with `grpcCertificate`",
		matching(func(p *Params) *string { return &p.GrpcDomain }, hostName, "a host name")},
	{"grpcCertificate", "", "ARN of its ACM certificate, in the plane's region; without it the service is plain and inside its VPC only",
		matching(func(p *Params) *string { return &p.GrpcCertificate }, `^arn:[a-z-]+:acm:[a-z0-9-]+:\d{12}:certificate/.+$`, "the ARN of an ACM certificate")},
	{"zone", "", "id of the Route 53 hosted zone that gets records for the domains",
		matching(func(p *Params) *string { return &p.Zone }, `^Z[A-Z0-9]{5,31}$`, "a hosted zone's id, such as Z0123456789ABC")},
	{"waf", "", "`create`, in us-east-1, or the ARN of a web ACL for CloudFront",
		matching(func(p *Params) *string { return &p.WAF }, `^(create|arn:[a-z-]+:wafv2:us-east-1:\d{12}:global/webacl/.+)$`,
			"create, or the ARN of a global web ACL")},
	{"tenantHeader", "required", "`optional` lets clients leave X-Tenant-ID out",
		matching(func(p *Params) *string { return &p.TenantHeader }, `^(required|optional)$`, "required or optional")},
	{"origins", "", "origins of browsers that may call, with commas between; `domain` is among them by itself",
		matching(func(p *Params) *string { return &p.Origins }, `^https?://[^\s,/]+(,https?://[^\s,/]+)*$`, "origins such as https://app.example.com, with commas between")},
	{"listShards", "4", "over how many partitions a tenant's lists are spread; it may not shrink", number(func(p *Params) *int { return &p.ListShards }, 1, 64)},
	{"packCatalog", "", "address of the catalog of packs that a new plane begins with, in place of Cordum's own; `none` for none",
		matching(func(p *Params) *string { return &p.PackCatalog }, `^(none|https://[^\s/]+\.[^\s/]+/\S+)$`, "none, or an address that begins with https://")},
	{"packHosts", "", "hosts that packs may be on beside those of catalogs, with commas between",
		matching(func(p *Params) *string { return &p.PackHosts }, `^[a-z0-9.-]+\.[a-z][a-z0-9-]*(,[a-z0-9.-]+\.[a-z][a-z0-9-]*)*$`, "hosts such as cdn.example.com, with commas between")},
	{"alarmEmail", "", "who gets the alarms", email},
	{"logDays", "30", "how long logs are kept", logDays},
	{"requestRate", "1000", "the most requests a second; bursts are twice that", number(func(p *Params) *int { return &p.RequestRate }, 1, 10000)},
	{"sourceConcurrency", "50", "the most invocations at once for one queue", number(func(p *Params) *int { return &p.SourceConcurrency }, 2, 1000)},
	{"minContainers", "2", "the fewest containers of the gRPC service", number(func(p *Params) *int { return &p.MinContainers }, 1, resources.DeliveryQueues)},
	{"maxContainers", strconv.Itoa(resources.DeliveryQueues), "the most; each leases a delivery queue",
		number(func(p *Params) *int { return &p.MaxContainers }, 1, resources.DeliveryQueues)},
	{"containerConnections", "500", "how many connections one container is meant for",
		number(func(p *Params) *int { return &p.ContainerConnections }, 1, 50000)},
	{"table", "", "a table restored from a backup, in place of the plane's own",
		matching(func(p *Params) *string { return &p.Table }, `^[A-Za-z0-9_.-]{3,255}$`, "the name of a DynamoDB table")},
}

// seedFolder holds the files that a plane is seeded with unless the operator names others.
const seedFolder = "infra/seed/"

const hostName = `^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$`

// ReadParams reads the context. Relative files are below root, the repository. Its error names every parameter that is wrong, and what is
// allowed.
func ReadParams(root string, context map[string]string) (Params, error) {
	var p Params
	problems := unknown(context)
	for _, q := range Parameters {
		value := q.Default
		if given, ok := context[q.Name]; ok {
			value = strings.TrimSpace(given)
		}
		if value == "" {
			continue
		}
		if slices.Contains([]string{"policy", "pools", "timeouts"}, q.Name) && !filepath.IsAbs(value) {
			value = filepath.Join(root, value)
		}
		if err := q.read(&p, value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", q.Name, err))
		}
	}
	if len(problems) == 0 {
		problems = p.contradictions()
	}
	return p, errors.Join(problems...)
}

func unknown(context map[string]string) []error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(context)) {
		if !slices.ContainsFunc(Parameters, func(q Param) bool { return q.Name == name }) {
			problems = append(problems, fmt.Errorf("%s: there is no such parameter; docs/deploy.md lists them", name))
		}
	}
	return problems
}

// contradictions are values that are right by themselves and wrong together.
func (p Params) contradictions() []error {
	var problems []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	wrong((p.Domain == "") != (p.Certificate == ""), "domain and certificate: give both or neither")
	wrong(p.GrpcDomain != "" && p.GrpcCertificate == "", "grpcCertificate: grpcDomain needs one")
	wrong(p.GrpcCertificate != "" && !strings.Contains(p.GrpcCertificate, ":acm:"+p.Region+":"),
		"grpcCertificate: it must be in the plane's region, %s", p.Region)
	wrong(p.Zone != "" && p.Domain == "" && p.GrpcDomain == "", "zone: neither domain nor grpcDomain is given")
	wrong(p.WAF == WAFCreate && p.Region != edgeRegion,
		"waf: create works in %s only; create the web ACL there first, and give its ARN", edgeRegion)
	wrong(!p.Edge && (p.Domain != "" || p.WAF != ""), "edge: domain and waf need it, and it is false")
	wrong(!p.Grpc && p.GrpcCertificate != "", "grpc: grpcCertificate needs it, and it is false")
	if p.PolicyKey != "" {
		err := p.policySigned()
		wrong(err != nil, "policyKey: %s: %w", p.Policy, err)
	}
	wrong(p.MinContainers > p.MaxContainers, "minContainers: %d is more than maxContainers, %d", p.MinContainers, p.MaxContainers)
	return problems
}

// allowedOrigins are those of the parameter and the edge's own.
func (p Params) allowedOrigins() string {
	if p.Domain == "" {
		return p.Origins
	}
	return strings.TrimSuffix("https://"+p.Domain+","+p.Origins, ",")
}

func matching(field func(*Params) *string, pattern, allowed string) func(*Params, string) error {
	syntax := regexp.MustCompile(pattern)
	return func(p *Params, value string) error {
		if !syntax.MatchString(value) {
			return fmt.Errorf("%q is not allowed: %s", value, allowed)
		}
		*field(p) = value
		return nil
	}
}

func flag(field func(*Params) *bool) func(*Params, string) error {
	return func(p *Params, value string) error {
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is not allowed: true or false", value)
		}
		*field(p) = value == "true"
		return nil
	}
}

func number(field func(*Params) *int, least, most int) func(*Params, string) error {
	return func(p *Params, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not allowed: a whole number from %d to %d", value, least, most)
		}
		*field(p) = n
		return nil
	}
}

// logRetentions are the spans that CloudWatch Logs knows, in days.
var logRetentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

func logDays(p *Params, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || !slices.Contains(logRetentions, n) {
		return fmt.Errorf("%q is not allowed: one of %v", value, logRetentions)
	}
	p.LogDays = n
	return nil
}

func email(p *Params, value string) error {
	if a, err := mail.ParseAddress(value); err != nil || a.Address != value {
		return fmt.Errorf("%q is not allowed: one e-mail address", value)
	}
	p.AlarmEmail = value
	return nil
}

func policyFile(p *Params, value string) error {
	text, err := os.ReadFile(value)
	if err != nil {
		return fmt.Errorf("%q is not a file that can be read", value)
	}
	if _, err := policy.Parse(value, text); err != nil {
		return err // it names the file and the line
	}
	p.Policy = value
	if _, err := os.Stat(value + signatureSuffix); err == nil {
		p.PolicySignature = value + signatureSuffix
	}
	return nil
}

// signatureSuffix is what the name of a policy's signature has more than that of the policy.
const signatureSuffix = ".sig"

func policyKey(p *Params, value string) error {
	if _, err := signed.ParseKey(value); err != nil {
		return err
	}
	p.PolicyKey = value
	return nil
}

// policySigned says whether the policy file carries the signature that the plane will want.
func (p Params) policySigned() error {
	key, err := signed.ParseKey(p.PolicyKey)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(p.Policy)
	if err != nil {
		return err
	}
	var signature []byte
	if p.PolicySignature != "" {
		if signature, err = os.ReadFile(p.PolicySignature); err != nil {
			return err
		}
	}
	return key.Verify(text, signature)
}

func pools(p *Params, value string) error {
	text, err := os.ReadFile(value)
	if err != nil {
		return fmt.Errorf("%q is not a file that can be read", value)
	}
	topology, err := schedule.ParsePools(text)
	if err != nil {
		return fmt.Errorf("%s: %w", value, err)
	}
	p.Pools, p.PoolNames = value, topology.Pools()
	return nil
}

func timeouts(p *Params, value string) error {
	text, err := os.ReadFile(value)
	if err != nil {
		return fmt.Errorf("%q is not a file that can be read", value)
	}
	if _, err := schedule.ParseTimeouts(text); err != nil {
		return fmt.Errorf("%s: %w", value, err)
	}
	p.Timeouts = value
	return nil
}
