package infra

import (
	"strings"

	"github.com/cordum-serverless/cordum/infra/rules"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Prices of us-east-1 in dollars, on demand, read in November 2026. They are for orientation: the bill says what is right.
const (
	hoursOfMonth    = 730
	minutesOfMonth  = hoursOfMonth * 60
	processorHour   = 0.03238 // Fargate on ARM, one vCPU
	gigabyteHour    = 0.00356 // Fargate on ARM
	endpointHour    = 0.01    // an interface endpoint, in one zone
	balancerHour    = 0.0225  // a network load balancer
	addressHour     = 0.005   // a public IPv4 address
	alarmMonth      = 0.10    // for each metric of an alarm
	freeAlarms      = 10
	secretMonth     = 0.40
	aclMonth        = 5.00 // a web ACL, and
	aclRuleMonth    = 1.00 // each of its rules
	queueCall       = 0.40e-6
	fifoCall        = 0.50e-6
	invocation      = 0.20e-6
	gigabyteSecond  = 0.0000133334
	readUnit        = 0.125e-6
	zones           = 2
	endpoints       = 5
	unitsOfOneThing = 1024 // processor units of a vCPU, MiB of a GiB
)

// What idles does little, but some of it all the time.
const (
	// idlePolls is how often Lambda asks a queue that is empty: five pollers, each for twenty seconds
	// (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html).
	idlePolls = 5 * minutesOfMonth * 3
)

// idleRuns is what a run of a schedule takes that finds nothing to do, in seconds and read units: the sweep looks at each shard of the due index, the
// sealer at its head and each partition of the log.
var idleRuns = map[string]struct{ seconds, reads float64 }{"sweep": {0.05, 10}, "sealer": {0.15, 9}}

// IdleCost is what the gRPC stack costs a month while nobody uses it, in dollars. A test compares it with the bill of the templates.
func IdleCost(p Params) float64 {
	if !p.Grpc {
		return 0
	}
	hour := balancerHour + zones*endpoints*endpointHour + float64(p.MinContainers)*containerHour()
	if p.GrpcCertificate != "" {
		hour += zones * addressHour
	}
	return hour * hoursOfMonth
}

func containerHour() float64 {
	def := resources.Container
	return float64(def.CPU)/unitsOfOneThing*processorHour + float64(def.Memory)/unitsOfOneThing*gigabyteHour
}

// Charge is one line of a bill: a month of something, in dollars.
type Charge struct {
	Stack, What string
	Count       int
	Dollars     float64
}

// IdleBill is what the resources of an app's templates cost a month while nobody uses them. What is paid by use is left out, but for schedules and
// for Lambda's looks at the queues.
func IdleBill(app rules.App) []Charge {
	var bill []Charge
	add := func(r rules.Resource, what string, count int, each float64) {
		for i := range bill {
			if bill[i].Stack == r.Stack && bill[i].What == what {
				bill[i].Count += count
				bill[i].Dollars += float64(count) * each
				return
			}
		}
		bill = append(bill, Charge{r.Stack, what, count, float64(count) * each})
	}
	free := freeAlarms
	for _, a := range app.Of("AWS::CloudWatch::Alarm") {
		n := alarmMetrics(a)
		paid := max(0, n-free)
		free = max(0, free-n)
		add(a, "metrics of alarms, beyond the first ten", paid, alarmMonth)
	}
	for _, s := range app.Of("AWS::SecretsManager::Secret") {
		add(s, "secrets", 1, secretMonth)
	}
	for _, s := range app.Of("AWS::Scheduler::Schedule", "AWS::Events::Rule") {
		name := scheduled(s)
		f, _ := resources.FunctionNamed(name)
		run := idleRuns[name]
		add(s, "runs of "+name, minutesOfMonth, invocation+float64(f.Memory)/unitsOfOneThing*run.seconds*gigabyteSecond+run.reads*readUnit)
	}
	for _, m := range app.Of("AWS::Lambda::EventSourceMapping") {
		each := queueCall
		if strings.HasSuffix(rules.Text(m.At("EventSourceArn")), ".fifo") {
			each = fifoCall
		}
		add(m, "looks at empty queues", idlePolls, each)
	}
	for _, e := range app.Of("AWS::EC2::VPCEndpoint") {
		if subnets, _ := e.At("SubnetIds").([]any); e.At("VpcEndpointType") == "Interface" {
			add(e, "interface endpoints, by zone", len(subnets), endpointHour*hoursOfMonth)
		}
	}
	for _, b := range app.Of("AWS::ElasticLoadBalancingV2::LoadBalancer") {
		add(b, "load balancer", 1, balancerHour*hoursOfMonth)
		if subnets, _ := b.At("Subnets").([]any); b.At("Scheme") == "internet-facing" {
			add(b, "public addresses", len(subnets), addressHour*hoursOfMonth)
		}
	}
	for _, s := range app.Of("AWS::ApplicationAutoScaling::ScalableTarget") {
		least, _ := s.At("MinCapacity").(float64)
		add(s, "containers", int(least), containerHour()*hoursOfMonth)
	}
	for _, w := range app.Of("AWS::WAFv2::WebACL") {
		all, _ := w.At("Rules").([]any)
		add(w, "web ACL", 1, aclMonth+float64(len(all))*aclRuleMonth)
	}
	return bill
}

// scheduled answers the function that a schedule runs.
func scheduled(s rules.Resource) string {
	targets, _ := s.At("Targets").([]any)
	if len(targets) != 1 {
		return ""
	}
	target, _ := targets[0].(map[string]any)
	name, _ := target["Id"].(string)
	return name
}

// alarmMetrics is how many metrics an alarm looks at.
func alarmMetrics(a rules.Resource) int {
	queries, ok := a.At("Metrics").([]any)
	if !ok {
		return 1
	}
	n := 0
	for _, q := range queries {
		if m, _ := q.(map[string]any); m["MetricStat"] != nil {
			n++
		}
	}
	return n
}
