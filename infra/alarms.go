package infra

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// addAlarms makes the alarms of all that the control stack has, and of the state that it works on.
func (c *control) addAlarms() {
	if c.p.AlarmEmail != "" {
		topic := awssns.NewCfnTopic(c.stack, new("Alarms"), &awssns.CfnTopicProps{TopicName: new(c.p.topicName()), Subscription: []any{
			&awssns.CfnTopic_SubscriptionProperty{Protocol: new("email"), Endpoint: new(c.p.AlarmEmail)},
		}})
		explain(topic, map[string]any{
			"encryption": "it carries names of alarms, which leave by e-mail anyway; with the key that AWS manages, CloudWatch could not publish to it",
		})
	}
	for _, f := range resources.Functions {
		c.functionAlarms(f)
	}
	for _, def := range resources.Queues(c.p.PoolNames...) {
		c.alarm(queueAlarm(c.p, def))
	}
	c.deadLetterAlarms()
	c.apiAlarms()
	c.tableAlarms()
}

func (c *control) alarm(a alarm) { addAlarm(c.stack, c.p, a) }

// undone is what does not happen while a schedule stands still.
var undone = map[string]string{
	"sweep":  "nothing that is due happens.",
	"sealer": "the audit trail is not sealed, or the sealer cannot keep up.",
}

func (c *control) functionAlarms(f resources.Function) {
	m := func(name, statistic string) metric {
		return metric{"AWS/Lambda", name, statistic, []string{"FunctionName", c.p.functionName(f.Name)}}
	}
	c.alarm(alarm{
		kind: "function-errors", on: f.Name, metric: m("Errors", "Sum"), above: 1, minutes: 5, bad: 2, of: 3,
		says: f.Name + " crashed or ran out of time in two of three spans of five minutes.",
	})
	c.alarm(alarm{
		kind: "function-throttled", on: f.Name, metric: m("Throttles", "Sum"), above: 1, minutes: 5, bad: 2, of: 3,
		says: f.Name + " was not run for want of concurrency in two of three spans of five minutes.",
	})
	c.alarm(alarm{
		kind: "function-slow", on: f.Name, metric: m("Duration", "p99"), above: float64(f.Timeout.Milliseconds()) * 0.8, minutes: 5, bad: 3, of: 3,
		says: fmt.Sprintf("%s takes over four fifths of its %v, for a quarter of an hour.", f.Name, f.Timeout),
	})
	if f.Every > 0 {
		c.alarm(alarm{
			kind: "schedule-stopped", on: f.Name, above: 0, below: 1, minutes: 5, bad: 1, of: 1, silence: "breaching",
			series: []series{{id: "runs", metric: m("Invocations", "Sum")}, {id: "errors", metric: m("Errors", "Sum")},
				{id: "done", expression: "FILL(runs, 0) - FILL(errors, 0)"}},
			says: f.Name + " did not run to its end once in five minutes: " + undone[f.Name],
		})
	}
}

// queueAlarm is about a message that nobody takes. A pool may be slow, and so has longer than the plane's own functions.
func queueAlarm(p Params, def queue.Def) alarm {
	a := alarm{
		kind: "queue-stalled", on: def.Name, above: 300, minutes: 1, bad: 5, of: 5, metric: queueMetric(p, def.Name, "ApproximateAgeOfOldestMessage"),
		says: "The oldest message of " + def.Name + " is over five minutes old: nobody takes it.",
	}
	if strings.HasPrefix(def.Name, resources.Pool("")) {
		a.kind, a.above, a.says = "pool-starved", 900, "The oldest job of "+def.Name+" waits for a quarter of an hour: no worker of the pool has room."
	}
	return a
}

func queueMetric(p Params, name, of string) metric {
	return metric{"AWS/SQS", of, "Maximum", []string{"QueueName", p.queueName(name)}}
}

// deadLetterAlarms are about depth. Every unsuccessful outcome passes through the dead letters, so that only a queue which is never empty means
// something there; a run of a schedule in the queue of missed ones always does.
func (c *control) deadLetterAlarms() {
	for _, name := range []string{resources.DeadLetters, resources.DeadLettersFIFO} {
		depth := queueMetric(c.p, name, "ApproximateNumberOfMessagesVisible")
		depth.statistic = "Minimum"
		c.alarm(alarm{
			kind: "dead-letters-pile-up", on: name, metric: depth, above: 1, minutes: 5, bad: 3, of: 3,
			says: name + " has not been empty for a quarter of an hour: dead letters are not recorded.",
		})
	}
	c.alarm(alarm{
		kind: "runs-missed", on: Missed, metric: queueMetric(c.p, Missed, "ApproximateNumberOfMessagesVisible"), above: 1, minutes: 5, bad: 1, of: 1,
		says: "Runs of a schedule failed or did not happen.",
	})
}

func (c *control) apiAlarms() {
	m := func(name, statistic string) metric {
		return metric{"AWS/ApiGateway", name, statistic, []string{"ApiId", *c.http.Ref()}}
	}
	c.alarm(alarm{
		kind: "api-errors", above: 1, minutes: 5, bad: 2, of: 3,
		series: []series{{id: "errors", metric: m("5xx", "Sum")}, {id: "all", metric: m("Count", "Sum")},
			{id: "rate", expression: "IF(errors >= 5, 100 * errors / all, 0)"}},
		says: "One request in a hundred, and at least five in five minutes, is answered with 5xx.",
	})
	c.alarm(alarm{
		kind: "api-slow", metric: m("Latency", "p99"), above: float64((3 * time.Second).Milliseconds()), minutes: 5, bad: 3, of: 3,
		says: "One request in a hundred takes three seconds or more, for a quarter of an hour.",
	})
	socket := func(name string) metric {
		return metric{"AWS/ApiGateway", name, "Sum", []string{"ApiId", *c.sockets.Ref(), "Stage", socketStage}}
	}
	c.alarm(alarm{
		kind: "streams-failing", above: 5, minutes: 5, bad: 2, of: 3,
		series: []series{{id: "integration", metric: socket("IntegrationError")}, {id: "execution", metric: socket("ExecutionError")},
			{id: "all", expression: "FILL(integration, 0) + FILL(execution, 0)"}},
		says: "At least five times in five minutes a stream could not be served.",
	})
}

// tableAlarms are about the table and its indexes: an index that cannot keep up throttles the table.
func (c *control) tableAlarms() {
	for _, direction := range []string{"Read", "Write"} {
		all := []series{{id: "t", metric: tableMetric(c.p, direction+"ThrottleEvents")}}
		sum := []string{"FILL(t, 0)"}
		for n, i := range resources.Indexes {
			id := fmt.Sprintf("i%d", n)
			all = append(all, series{id: id, metric: tableMetric(c.p, direction+"ThrottleEvents", "GlobalSecondaryIndexName", string(i.Name))})
			sum = append(sum, "FILL("+id+", 0)")
		}
		c.alarm(alarm{
			kind: "table-throttled", on: strings.ToLower(direction), series: append(all, series{id: "sum", expression: strings.Join(sum, " + ")}), above: 10, minutes: 5,
			bad: 2, of: 3, says: "The table or an index refused " + strings.ToLower(direction) + "s ten times in five minutes: a partition is hot.",
		})
	}
	var all []series
	var sum []string
	for n, operation := range operations() {
		id := fmt.Sprintf("o%d", n)
		all = append(all, series{id: id, metric: tableMetric(c.p, "SystemErrors", "Operation", operation)})
		sum = append(sum, "FILL("+id+", 0)")
	}
	c.alarm(alarm{
		kind: "table-errors", series: append(all, series{id: "sum", expression: strings.Join(sum, " + ")}), above: 5, minutes: 5, bad: 2, of: 3,
		says: "DynamoDB itself failed five times in five minutes.",
	})
}

func tableMetric(p Params, name string, more ...string) metric {
	return metric{"AWS/DynamoDB", name, "Sum", append([]string{"TableName", p.tableName()}, more...)}
}

// operations are those of the store port.
func operations() []string {
	return []string{"GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"}
}
