package infra

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

func (p Params) dashboardName() string { return "cordum-" + p.Stage }

// widget is one graph of the dashboard.
type widget struct {
	Type       string     `json:"type"`
	X          int        `json:"x"`
	Y          int        `json:"y"`
	Width      int        `json:"width"`
	Height     int        `json:"height"`
	Properties properties `json:"properties"`
}

type properties struct {
	Title   string  `json:"title"`
	Region  string  `json:"region"`
	View    string  `json:"view"`
	Stacked bool    `json:"stacked"`
	Period  int     `json:"period"`
	Stat    string  `json:"stat"`
	Metrics [][]any `json:"metrics"`
}

// graph is a widget before it has its place.
type graph struct {
	title, stat string
	metrics     [][]any
}

func of(parts ...any) []any { return parts }

// addDashboard draws one page: what is asked of the plane, what becomes of jobs, what waits, and what it all stands on.
func (c *control) addDashboard() {
	p, stage := c.p, []any{"Stage", c.p.Stage}
	own := func(namespace string, names ...string) [][]any {
		var out [][]any
		for _, n := range names {
			out = append(out, append(of(namespace, n), stage...))
		}
		return out
	}
	http := func(name string) []any { return of("AWS/ApiGateway", name, "ApiId", *c.http.Ref()) }
	graphs := []graph{
		{"Jobs", "Sum", own("cordum_scheduler", "jobs_received_total", "jobs_dispatched_total", "jobs_completed_total", "safety_denied_total")},
		{"Requests", "Sum", [][]any{http("Count"), http("4xx"), http("5xx")}},
		{"Time of requests, ms", "p99", [][]any{http("Latency"), append(http("Latency"), map[string]string{"stat": "p50"})}},
		{"Requests by the functions' own count", "Sum", own("cordum_api_gateway", "http_requests_total")},
		{"Oldest message, s", "Maximum", c.perQueue("ApproximateAgeOfOldestMessage")},
		{"Messages waiting", "Maximum", c.perQueue("ApproximateNumberOfMessagesVisible")},
		{"Errors of functions", "Sum", c.perFunction("Errors")},
		{"Throttled functions", "Sum", c.perFunction("Throttles")},
		{"Time of functions, ms", "p99", c.perFunction("Duration")},
		{"Functions at once", "Maximum", c.perFunction("ConcurrentExecutions")},
		{"Capacity units of the table", "Sum", [][]any{
			of("AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", p.tableName()),
			of("AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", p.tableName()),
		}},
		{"Refused by the table", "Sum", [][]any{
			of("AWS/DynamoDB", "ReadThrottleEvents", "TableName", p.tableName()), of("AWS/DynamoDB", "WriteThrottleEvents", "TableName", p.tableName()),
		}},
		{"Streams", "Sum", [][]any{
			of("AWS/ApiGateway", "ConnectCount", "ApiId", *c.sockets.Ref()), of("AWS/ApiGateway", "MessageCount", "ApiId", *c.sockets.Ref()),
		}},
	}
	if p.Grpc {
		graphs = append(graphs,
			graph{"Containers, %", "Average", [][]any{
				of("AWS/ECS", "CPUUtilization", "ClusterName", p.clusterName(), "ServiceName", p.clusterName()),
				of("AWS/ECS", "MemoryUtilization", "ClusterName", p.clusterName(), "ServiceName", p.clusterName()),
			}},
			graph{"Connections of the gRPC service", "Average", [][]any{of(map[string]string{
				"expression": fmt.Sprintf("SEARCH('{AWS/NetworkELB,LoadBalancer} ActiveFlowCount \"net/%s\"', 'Average')", p.clusterName()),
			})}})
	}
	body := struct {
		Widgets []widget `json:"widgets"`
	}{layOut(p, graphs)}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	awscloudwatch.NewCfnDashboard(c.stack, new("Dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardName: new(p.dashboardName()), DashboardBody: new(string(text)),
	})
}

// layOut lays graphs out in two columns.
func layOut(p Params, graphs []graph) []widget {
	const width, height = 12, 6
	widgets := make([]widget, len(graphs))
	for n, g := range graphs {
		widgets[n] = widget{"metric", n % 2 * width, n / 2 * height, width, height,
			properties{Title: g.title, Region: p.Region, View: "timeSeries", Period: 60, Stat: g.stat, Metrics: g.metrics}}
	}
	return widgets
}

func (c *control) perQueue(name string) [][]any {
	var out [][]any
	for _, def := range resources.Queues(c.p.PoolNames...) {
		out = append(out, of("AWS/SQS", name, "QueueName", c.p.queueName(def.Name)))
	}
	return append(out, of("AWS/SQS", name, "QueueName", c.p.queueName(Missed)))
}

func (c *control) perFunction(name string) [][]any {
	var out [][]any
	for _, f := range resources.Functions {
		out = append(out, of("AWS/Lambda", name, "FunctionName", c.p.functionName(f.Name)))
	}
	return out
}
