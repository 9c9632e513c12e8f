package rules

import (
	"slices"
	"strings"
)

// Recoverable is the rule that tables and buckets survive their stack, tables can be restored to any second, and both forget what has expired.
func Recoverable(app App) []Finding {
	var found []Finding
	for _, t := range app.Of("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable") {
		if t.At("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled") != true {
			found = append(found, t.finding("no point-in-time recovery"))
		}
		if t.At("DeletionProtectionEnabled") != true {
			found = append(found, t.finding("not protected from deletion"))
		}
		if t.At("TimeToLiveSpecification", "Enabled") != true {
			found = append(found, t.finding("items do not expire"))
		}
		if t.DeletionPolicy != "Retain" {
			found = append(found, t.finding("it goes with its stack"))
		}
	}
	for _, b := range app.Of("AWS::S3::Bucket") {
		if b.DeletionPolicy == "Retain" {
			if b.At("VersioningConfiguration", "Status") != "Enabled" || b.At("LifecycleConfiguration", "Rules", 0) == nil {
				found = append(found, b.finding("a bucket that is kept has versions and a lifecycle"))
			}
		} else if b.Reason("recovery") == "" {
			found = append(found, b.finding("it goes with its stack, without a reason"))
		}
	}
	return found
}

// Retention is the rule that every log ends some day, and everything that runs has its own.
func Retention(app App) []Finding {
	var found []Finding
	for _, g := range app.Of("AWS::Logs::LogGroup") {
		if number(g.At("RetentionInDays")) == 0 {
			found = append(found, g.finding("it is kept for ever"))
		}
	}
	owners := map[string]string{}
	for _, f := range app.Of("AWS::Lambda::Function") {
		g, ok := app.Target(f.Stack, f.At("LoggingConfig", "LogGroup"), "AWS::Logs::LogGroup")
		if !ok {
			found = append(found, f.finding("it has no log group of the app"))
			continue
		}
		if other, taken := owners[g.Stack+g.ID]; taken {
			found = append(found, f.finding("it shares its log with %s", other))
		}
		owners[g.Stack+g.ID] = f.ID
	}
	for _, t := range app.Of("AWS::ECS::TaskDefinition") {
		for _, c := range list(t.At("ContainerDefinitions")) {
			if _, ok := app.Target(t.Stack, at(c, "LogConfiguration", "Options", "awslogs-group"), "AWS::Logs::LogGroup"); !ok {
				found = append(found, t.finding("container %s has no log group of the app", Text(at(c, "Name"))))
			}
		}
	}
	return found
}

// Sized is the rule that every function says how long and with how much memory it runs, and runs as all do: arm64, traced, with a log of
// JSON lines. CDK's own helpers say why they do not.
func Sized(app App) []Finding {
	var found []Finding
	for _, f := range app.Of("AWS::Lambda::Function") {
		if number(f.At("Timeout")) == 0 || number(f.At("MemorySize")) == 0 {
			found = append(found, f.finding("it has no timeout, or no memory"))
		}
		if f.Reason("runtime") != "" {
			continue
		}
		for _, p := range []struct {
			want string
			path []any
		}{
			{"provided.al2023", []any{"Runtime"}}, {"arm64", []any{"Architectures", 0}}, {"Active", []any{"TracingConfig", "Mode"}},
			{"JSON", []any{"LoggingConfig", "LogFormat"}},
		} {
			if got := Text(f.At(p.path...)); got != p.want {
				found = append(found, f.finding("%v is %s, not %s", p.path[0], got, p.want))
			}
		}
	}
	return found
}

// Container is the rule that a container cannot write to its own disk, is not root, leaves in peace, and there are never more of them than most.
func Container(most int) Rule {
	return func(app App) []Finding {
		delay := deregistration(app)
		var found []Finding
		for _, t := range app.Of("AWS::ECS::TaskDefinition") {
			for _, c := range list(t.At("ContainerDefinitions")) {
				if at(c, "ReadonlyRootFilesystem") != true || at(c, "User") == nil || strings.HasPrefix(Text(at(c, "User")), "0") {
					found = append(found, t.finding("a container may write to its disk, or is root"))
				}
				if stop := number(at(c, "StopTimeout")); delay == "" || stop <= float64(integer(delay)) {
					found = append(found, t.finding("a container is killed after %v s, while it is deregistered for %s s", stop, delay))
				}
			}
		}
		for _, s := range app.Of("AWS::ApplicationAutoScaling::ScalableTarget") {
			if int(number(s.At("MaxCapacity"))) > most {
				found = append(found, s.finding("there may be more containers than the %d delivery queues", most))
			}
		}
		return found
	}
}

// deregistration is the delay of the load balancer's targets, in seconds; "" is none.
func deregistration(app App) string {
	for _, g := range app.Of("AWS::ElasticLoadBalancingV2::TargetGroup") {
		for _, a := range list(g.At("TargetGroupAttributes")) {
			if at(a, "Key") == "deregistration_delay.timeout_seconds" {
				return Text(at(a, "Value"))
			}
		}
	}
	return ""
}

func integer(text string) int {
	n := 0
	for _, r := range text {
		if r < '0' || r > '9' {
			return n
		}
		n = 10*n + int(r-'0')
	}
	return n
}

// Small is the rule that no stack has more resources than most; CloudFormation's own limit is 500.
func Small(most int) Rule {
	return func(app App) []Finding {
		var found []Finding
		for _, s := range app.Stacks {
			if len(s.Resources) > most {
				found = append(found, Finding{s.Name, "it has too many resources"})
			}
		}
		return found
	}
}

// Complete is the rule that a plane has these kinds of resources, so that no rule above holds for want of anything to look at.
func Complete(types ...string) Rule {
	return func(app App) []Finding {
		var found []Finding
		for _, t := range types {
			if len(app.Of(t)) == 0 {
				found = append(found, Finding{t, "there is none"})
			}
		}
		return found
	}
}

// Rule is what must be true.
type Rule func(App) []Finding

func contains(list []any, text string) bool {
	return slices.ContainsFunc(list, func(v any) bool { return Text(v) == text })
}
