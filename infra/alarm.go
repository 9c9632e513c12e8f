package infra

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
)

// alarm is a condition that an operator should know of.
type alarm struct {
	// kind is its heading in docs/runbook.md, on is what it is about; together they are its name.
	kind, on string
	// says is the condition in words.
	says string
	// metric is what is measured; where it is "", series are, and the last of them is the one compared.
	metric metric
	series []series
	// above is the threshold, breached by what is equal to it too; below is the same the other way round.
	above, below float64
	// minutes is the length of a datapoint; of the last `of` datapoints, `bad` must breach.
	minutes, bad, of int
	// silence is what no data means: "notBreaching" when "".
	silence string
}

// metric is one CloudWatch metric.
type metric struct {
	namespace, name, statistic string
	// dimensions are pairs of name and value.
	dimensions []string
}

// series is a metric or an expression over others, by id.
type series struct {
	id, expression string
	metric         metric
}

// addAlarm makes it; whoever the topic knows is told, when it begins and when it ends.
func addAlarm(s awscdk.Stack, p Params, a alarm) {
	props := &awscloudwatch.CfnAlarmProps{
		AlarmName:        new(p.prefix() + a.name()),
		AlarmDescription: new(fmt.Sprintf("%s docs/runbook.md#%s", a.says, a.kind)),
		Threshold:        &a.above, ComparisonOperator: new("GreaterThanOrEqualToThreshold"),
		EvaluationPeriods: num(a.of), DatapointsToAlarm: num(a.bad), TreatMissingData: new("notBreaching"),
	}
	if a.below > 0 {
		props.Threshold, props.ComparisonOperator = &a.below, new("LessThanThreshold")
	}
	if a.silence != "" {
		props.TreatMissingData = new(a.silence)
	}
	if p.AlarmEmail != "" {
		props.AlarmActions, props.OkActions = strs(p.topicARN()), strs(p.topicARN())
	}
	if a.metric.name != "" {
		a.metric.into(props, 60*a.minutes)
	} else {
		props.Metrics = a.queries()
	}
	awscloudwatch.NewCfnAlarm(s, new("Alarm"+camel(a.name())), props)
}

func (a alarm) name() string {
	if a.on == "" {
		return a.kind
	}
	return a.kind + "-" + a.on
}

func (m metric) into(props *awscloudwatch.CfnAlarmProps, seconds int) {
	props.Namespace, props.MetricName, props.Dimensions, props.Period = new(m.namespace), new(m.name), m.dims(), num(seconds)
	if m.statistic[0] == 'p' {
		props.ExtendedStatistic = new(m.statistic)
	} else {
		props.Statistic = new(m.statistic)
	}
}

func (m metric) dims() []any {
	var dims []any
	for i := 0; i+1 < len(m.dimensions); i += 2 {
		dims = append(dims, &awscloudwatch.CfnAlarm_DimensionProperty{Name: new(m.dimensions[i]), Value: new(m.dimensions[i+1])})
	}
	return dims
}

func (a alarm) queries() []any {
	var queries []any
	for i, q := range a.series {
		query := &awscloudwatch.CfnAlarm_MetricDataQueryProperty{Id: new(q.id), ReturnData: no}
		if i == len(a.series)-1 {
			query.ReturnData = yes
		}
		if q.expression != "" {
			query.Expression = new(q.expression)
		} else {
			query.MetricStat = &awscloudwatch.CfnAlarm_MetricStatProperty{
				Metric: &awscloudwatch.CfnAlarm_MetricProperty{
					Namespace: new(q.metric.namespace), MetricName: new(q.metric.name), Dimensions: q.metric.dims(),
				},
				Period: num(60 * a.minutes), Stat: new(q.metric.statistic),
			}
		}
		queries = append(queries, query)
	}
	return queries
}
