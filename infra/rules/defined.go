package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Defined is the rule that table, indexes, queues, classes of objects, functions and container are those of shared/platform/resources, each
// with exactly its values. prefix is what names of the plane begin with; more names queues of infra's own.
func Defined(prefix string, pools []string, more ...string) Rule {
	return func(app App) []Finding {
		found := table(app)
		found = append(found, queues(app, prefix, pools, more)...)
		found = append(found, classes(app)...)
		found = append(found, functions(app, prefix)...)
		return append(found, container(app)...)
	}
}

// same compares what a resource says with what it should.
func same(r Resource, want map[string]any) []Finding {
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := fmt.Sprint(r.At(name)); got != fmt.Sprint(want[name]) {
			found = append(found, r.finding("%s is %s, defined is %v", name, got, want[name]))
		}
	}
	return found
}

func table(app App) []Finding {
	var found []Finding
	for _, t := range app.Of("AWS::DynamoDB::Table") {
		attributes := []any{attribute(resources.PK), attribute(resources.SK)}
		var indexes []any
		for _, i := range resources.Indexes {
			attributes = append(attributes, attribute(i.PK), attribute(i.SK))
			indexes = append(indexes, map[string]any{
				"IndexName": string(i.Name), "KeySchema": keys(i.PK, i.SK), "Projection": map[string]any{"ProjectionType": "KEYS_ONLY"},
			})
		}
		found = append(found, same(t, map[string]any{
			"KeySchema": keys(resources.PK, resources.SK), "AttributeDefinitions": attributes, "GlobalSecondaryIndexes": indexes,
			"TimeToLiveSpecification": map[string]any{"AttributeName": resources.Expires, "Enabled": true}, "BillingMode": "PAY_PER_REQUEST",
		})...)
	}
	return found
}

func attribute(name string) any { return map[string]any{"AttributeName": name, "AttributeType": "S"} }

func keys(pk, sk string) []any {
	return []any{map[string]any{"AttributeName": pk, "KeyType": "HASH"}, map[string]any{"AttributeName": sk, "KeyType": "RANGE"}}
}

func queues(app App, prefix string, pools, more []string) []Finding {
	var found []Finding
	made := map[string]Resource{}
	for _, q := range app.Of("AWS::SQS::Queue") {
		made[strings.TrimPrefix(q.Name(), prefix)] = q
	}
	for _, def := range resources.Queues(pools...) {
		q, ok := made[def.Name]
		delete(made, def.Name)
		if !ok {
			found = append(found, Finding{def.Name, "the queue is defined and not made"})
			continue
		}
		want := map[string]any{
			"QueueName": prefix + def.Name, "VisibilityTimeout": def.Visibility.Seconds(), "MessageRetentionPeriod": def.Retention.Seconds(),
		}
		if def.FIFO {
			want["FifoQueue"] = true
		}
		found = append(found, same(q, want)...)
		if got := int(number(q.At("RedrivePolicy", "maxReceiveCount"))); got != def.MaxReceives {
			found = append(found, q.finding("a message is received %d times, defined is %d", got, def.MaxReceives))
		}
		d, _ := app.Target(q.Stack, q.At("RedrivePolicy", "deadLetterTargetArn"), "AWS::SQS::Queue")
		if def.DeadLetter != "" && d.Name() != prefix+def.DeadLetter {
			found = append(found, q.finding("dead letters go to %s, defined is %s", d.Name(), def.DeadLetter))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		if !slices.Contains(more, name) {
			found = append(found, made[name].finding("the queue is made and not defined"))
		}
	}
	return found
}

func classes(app App) []Finding {
	var found []Finding
	for _, b := range app.Of("AWS::S3::Bucket") {
		if b.DeletionPolicy != "Retain" {
			continue
		}
		kept := map[string]float64{}
		for _, r := range list(b.At("LifecycleConfiguration", "Rules")) {
			if at(r, "TagFilters", 0, "Key") == resources.ClassTag && at(r, "Status") == "Enabled" {
				kept[Text(at(r, "TagFilters", 0, "Value"))] = number(at(r, "ExpirationInDays"))
			}
		}
		for _, c := range resources.Classes {
			if kept[c.Name] != c.Keep.Hours()/24 {
				found = append(found, b.finding("objects of class %s are kept for %v days, defined is %v", c.Name, kept[c.Name], c.Keep))
			}
			delete(kept, c.Name)
		}
		for name := range kept {
			found = append(found, b.finding("class %s is not defined", name))
		}
	}
	return found
}

func functions(app App, prefix string) []Finding {
	var found []Finding
	made := map[string]Resource{}
	for _, f := range app.Of("AWS::Lambda::Function") {
		if f.Reason("runtime") == "" {
			made[strings.TrimPrefix(f.Name(), prefix)] = f
		}
	}
	for _, def := range resources.Functions {
		f, ok := made[def.Name]
		delete(made, def.Name)
		if !ok {
			found = append(found, Finding{def.Name, "the function is listed and not made"})
			continue
		}
		found = append(found, same(f, map[string]any{"MemorySize": def.Memory, "Timeout": int(def.Timeout / time.Second)})...)
		found = append(found, granted(app, f, def)...)
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		found = append(found, made[name].finding("the function is made and not listed"))
	}
	return found
}

// granted compares actions alone: where they are allowed is asserted by the test of the statements. What every function does is set aside.
func granted(app App, f Resource, def resources.Function) []Finding {
	role, _ := app.Target(f.Stack, f.At("Role"), "AWS::IAM::Role")
	want := map[string]bool{
		"logs:CreateLogStream": true, "logs:PutLogEvents": true, "xray:PutTraceSegments": true, "xray:PutTelemetryRecords": true,
	}
	for _, g := range def.Grants {
		for _, a := range g.Actions {
			want[a] = true
		}
	}
	if len(resources.SourcesOf(def.Name)) > 0 {
		for _, a := range resources.TakesFromSource {
			want[a] = true
		}
	}
	if def.Every > 0 {
		want["sqs:SendMessage"] = true // of a run that failed
	}
	return allows(role, want)
}

// container is the gRPC service, where there is one.
func container(app App) []Finding {
	var found []Finding
	def := resources.Container
	for _, t := range app.Of("AWS::ECS::TaskDefinition") {
		found = append(found, same(t, map[string]any{"Cpu": def.CPU, "Memory": def.Memory})...)
		if stop := number(t.At("ContainerDefinitions", 0, "StopTimeout")); stop != def.Stop.Seconds() {
			found = append(found, t.finding("it may take %v s to leave, defined is %v", stop, def.Stop))
		}
		want := map[string]bool{}
		for _, g := range def.Grants {
			for _, a := range g.Actions {
				want[a] = true
			}
		}
		role, _ := app.Target(t.Stack, t.At("TaskRoleArn"), "AWS::IAM::Role")
		found = append(found, allows(role, want)...)
	}
	return found
}

// allows compares the actions of a role with those that it should have.
func allows(role Resource, want map[string]bool) []Finding {
	has := map[string]bool{}
	for _, s := range statements(role) {
		for _, a := range list(s["Action"]) {
			has[Text(a)] = true
		}
	}
	var found []Finding
	for _, a := range slices.Sorted(maps.Keys(want)) {
		if !has[a] {
			found = append(found, role.finding("%s is granted and not allowed", a))
		}
	}
	for _, a := range slices.Sorted(maps.Keys(has)) {
		if !want[a] {
			found = append(found, role.finding("%s is allowed and not granted", a))
		}
	}
	return found
}
