package rules

import (
	"slices"
	"strings"
)

// LongVisibility is the rule that a message stays hidden for six times as long as the function that it drives may take.
func LongVisibility(app App) []Finding {
	var found []Finding
	for _, m := range app.Of("AWS::Lambda::EventSourceMapping") {
		q, f, problem := ends(app, m)
		if problem != nil {
			found = append(found, *problem)
			continue
		}
		if hidden, runs := number(q.At("VisibilityTimeout")), number(f.At("Timeout")); hidden < 6*runs {
			found = append(found, q.finding("it hides messages for %v s, while %s may take %v s", hidden, f.Name(), runs))
		}
	}
	return found
}

// ends answers the queue and the function of an event source.
func ends(app App, m Resource) (q, f Resource, problem *Finding) {
	q, okQueue := app.Target(m.Stack, m.At("EventSourceArn"), "AWS::SQS::Queue")
	f, okFunction := app.Target(m.Stack, m.At("FunctionName"), "AWS::Lambda::Function")
	if !okQueue || !okFunction {
		p := m.finding("its queue %s or its function %s is not in the app", Text(m.At("EventSourceArn")), Text(m.At("FunctionName")))
		problem = &p
	}
	return q, f, problem
}

// PartialBatches is the rule that what one message of a batch fails at does not come back with the others, and no backlog takes all concurrency.
func PartialBatches(app App) []Finding {
	var found []Finding
	for _, m := range app.Of("AWS::Lambda::EventSourceMapping") {
		if !contains(list(m.At("FunctionResponseTypes")), "ReportBatchItemFailures") {
			found = append(found, m.finding("a batch fails as a whole"))
		}
		if number(m.At("ScalingConfig", "MaximumConcurrency")) == 0 {
			found = append(found, m.finding("its concurrency has no limit"))
		}
	}
	return found
}

// DeadLetters is the rule that whatever happens by itself has somewhere to go when it fails: messages after a number of receives, FIFO to
// FIFO; runs of a schedule, whether the rule or the function fails.
func DeadLetters(app App) []Finding {
	var found []Finding
	ends := deadLetterQueues(app)
	for _, q := range app.Of("AWS::SQS::Queue") {
		if slices.ContainsFunc(ends, func(d Resource) bool { return d.Stack == q.Stack && d.ID == q.ID }) {
			continue
		}
		d, ok := app.Target(q.Stack, q.At("RedrivePolicy", "deadLetterTargetArn"), "AWS::SQS::Queue")
		switch {
		case !ok:
			found = append(found, q.finding("messages that fail have nowhere to go"))
		case (d.At("FifoQueue") == true) != (q.At("FifoQueue") == true):
			found = append(found, q.finding("its dead letters go to a queue of the other kind, which SQS refuses"))
		}
	}
	for _, r := range app.Of("AWS::Events::Rule") {
		for _, t := range list(r.At("Targets")) {
			if _, ok := app.Target(r.Stack, at(t, "DeadLetterConfig", "Arn"), "AWS::SQS::Queue"); !ok {
				found = append(found, r.finding("a run that cannot be started leaves no trace"))
			}
			f, ok := app.Target(r.Stack, at(t, "Arn"), "AWS::Lambda::Function")
			if ok && !hasFailureTarget(app, f) {
				found = append(found, f.finding("a run that fails leaves no trace"))
			}
		}
	}
	return found
}

func hasFailureTarget(app App, f Resource) bool {
	return slices.ContainsFunc(app.Of("AWS::Lambda::EventInvokeConfig"), func(c Resource) bool {
		of, ok := app.Target(c.Stack, c.At("FunctionName"), "AWS::Lambda::Function")
		return ok && of.Stack == f.Stack && of.ID == f.ID && c.At("DestinationConfig", "OnFailure", "Destination") != nil
	})
}

// deadLetterQueues are the queues that others, rules and functions name as theirs.
func deadLetterQueues(app App) []Resource {
	var named []Resource
	add := func(stack string, arn any) {
		if q, ok := app.Target(stack, arn, "AWS::SQS::Queue"); ok && arn != nil {
			named = append(named, q)
		}
	}
	for _, q := range app.Of("AWS::SQS::Queue") {
		add(q.Stack, q.At("RedrivePolicy", "deadLetterTargetArn"))
	}
	for _, r := range app.Of("AWS::Events::Rule") {
		for _, t := range list(r.At("Targets")) {
			add(r.Stack, at(t, "DeadLetterConfig", "Arn"))
		}
	}
	for _, c := range app.Of("AWS::Lambda::EventInvokeConfig") {
		add(c.Stack, c.At("DestinationConfig", "OnFailure", "Destination"))
	}
	return named
}

// Watched is the rule that every queue has an alarm on the age of its oldest message, or, where nobody reads, on its depth; dead letters on
// their depth; every function on errors, throttles and time; a schedule on not having run; and every alarm says what it is about and where
// to read on.
func Watched(app App) []Finding {
	found := append(unwatchedQueues(app), unwatchedFunctions(app)...)
	for _, a := range app.Of("AWS::CloudWatch::Alarm") {
		if !strings.Contains(Text(a.At("AlarmDescription")), "docs/runbook.md#") || a.At("TreatMissingData") == nil {
			found = append(found, a.finding("it does not say what to do, or what silence means"))
		}
	}
	return found
}

func unwatchedQueues(app App) []Finding {
	var found []Finding
	read := map[string]bool{}
	for _, m := range app.Of("AWS::Lambda::EventSourceMapping") {
		if q, _, problem := ends(app, m); problem == nil {
			read[q.Stack+q.ID] = true
		}
	}
	dead := deadLetterQueues(app)
	for _, q := range app.Of("AWS::SQS::Queue") {
		isDead := slices.ContainsFunc(dead, func(d Resource) bool { return d.Stack == q.Stack && d.ID == q.ID })
		if isDead {
			found = append(found, unwatched(app, q, "QueueName", "ApproximateNumberOfMessagesVisible")...)
		}
		if !isDead || read[q.Stack+q.ID] {
			found = append(found, unwatched(app, q, "QueueName", "ApproximateAgeOfOldestMessage")...)
		}
	}
	return found
}

func unwatchedFunctions(app App) []Finding {
	var found []Finding
	for _, f := range app.Of("AWS::Lambda::Function") {
		if f.Reason("runtime") == "" {
			found = append(found, unwatched(app, f, "FunctionName", "Errors", "Throttles", "Duration")...)
		}
	}
	for _, r := range app.Of("AWS::Events::Rule") {
		for _, t := range list(r.At("Targets")) {
			if f, ok := app.Target(r.Stack, at(t, "Arn"), "AWS::Lambda::Function"); ok {
				found = append(found, unwatched(app, f, "FunctionName", "Invocations")...)
			}
		}
	}
	return found
}

func unwatched(app App, r Resource, dimension string, metrics ...string) []Finding {
	var found []Finding
	for _, m := range metrics {
		if !alarmed(app, m, dimension, r.Name()) {
			found = append(found, r.finding("no alarm on %s", m))
		}
	}
	return found
}

func alarmed(app App, metric, dimension, value string) bool {
	return slices.ContainsFunc(app.Of("AWS::CloudWatch::Alarm"), func(a Resource) bool {
		measured := []any{any(a.Properties)}
		for _, q := range list(a.At("Metrics")) {
			measured = append(measured, at(q, "MetricStat", "Metric"))
		}
		return slices.ContainsFunc(measured, func(m any) bool {
			return at(m, "MetricName") == metric && slices.ContainsFunc(list(at(m, "Dimensions")), func(d any) bool {
				return at(d, "Name") == dimension && Text(at(d, "Value")) == value
			})
		})
	})
}

// Routed is the rule that every operation of an HTTP API leads to a function that lets the API start it, without a warning on import; every
// function has a route or an event; and an unknown path has somewhere to go.
func Routed(app App) []Finding {
	var found []Finding
	started := map[string]bool{}
	for _, api := range app.Of("AWS::ApiGatewayV2::Api") {
		if api.At("Body") == nil {
			continue
		}
		if api.At("FailOnWarnings") != true {
			found = append(found, api.finding("warnings of the import are passed over"))
		}
		found = append(found, operations(app, api, started)...)
	}
	for _, i := range app.Of("AWS::ApiGatewayV2::Integration") {
		mark(app, i.Stack, Text(i.At("IntegrationUri")), started)
	}
	for _, m := range app.Of("AWS::Lambda::EventSourceMapping") {
		if _, f, problem := ends(app, m); problem == nil {
			started[f.Stack+f.ID] = true
		}
	}
	for _, r := range app.Of("AWS::Events::Rule") {
		for _, t := range list(r.At("Targets")) {
			mark(app, r.Stack, Text(at(t, "Arn")), started)
		}
	}
	for _, s := range app.Stacks {
		for _, r := range s.Resources {
			if strings.HasPrefix(r.Type, "Custom::") {
				mark(app, r.Stack, Text(r.At("ServiceToken")), started)
			}
		}
	}
	for _, f := range app.Of("AWS::Lambda::Function") {
		if !started[f.Stack+f.ID] {
			found = append(found, f.finding("nothing starts it"))
		}
	}
	return found
}

func operations(app App, api Resource, started map[string]bool) []Finding {
	var found []Finding
	fallback := false
	paths, _ := api.At("Body", "paths").(map[string]any)
	for path, methods := range paths {
		all, _ := methods.(map[string]any)
		for method := range all {
			integration := at(all[method], "x-amazon-apigateway-integration")
			if ref, ok := at(integration, "$ref").(string); ok {
				integration = api.At("Body", "components", "x-amazon-apigateway-integrations", ref[strings.LastIndex(ref, "/")+1:])
			}
			f, ok := mark(app, api.Stack, Text(at(integration, "uri")), started)
			switch {
			case !ok:
				found = append(found, api.finding("%s %s leads to no function of the app", method, path))
			case !permitted(app, api, f):
				found = append(found, api.finding("%s %s leads to %s, which the API may not start", method, path, f.Name()))
			}
			fallback = fallback || at(all[method], "isDefaultRoute") == true
		}
	}
	if !fallback {
		found = append(found, api.finding("it has no default route"))
	}
	return found
}

// mark notes that the function that a URI or an ARN names is started by something.
func mark(app App, stack, uri string, started map[string]bool) (Resource, bool) {
	for _, f := range app.Of("AWS::Lambda::Function") {
		if f.Stack == stack && strings.Contains(uri, "${"+f.ID+".Arn}") {
			started[f.Stack+f.ID] = true
			return f, true
		}
	}
	return Resource{}, false
}

func permitted(app App, api, f Resource) bool {
	return slices.ContainsFunc(app.Of("AWS::Lambda::Permission"), func(p Resource) bool {
		of, ok := app.Target(p.Stack, p.At("FunctionName"), "AWS::Lambda::Function")
		return ok && of.Stack == f.Stack && of.ID == f.ID && p.At("Principal") == "apigateway.amazonaws.com" &&
			strings.Contains(Text(p.At("SourceArn")), "${"+api.ID+"}")
	})
}
