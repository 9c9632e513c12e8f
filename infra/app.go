package infra

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Sources says where the things are that a plane is made from.
type Sources struct {
	// Root is the repository, from which the container's image is built.
	Root string
	// Lambdas holds a folder with a bootstrap for every function.
	Lambdas string
	// Docs is a folder that gets the API page.
	Docs string
}

// SourcesIn are those that `make lambdas` leaves in the repository.
func SourcesIn(root string) Sources {
	return Sources{Root: root, Lambdas: filepath.Join(root, "build", "lambdas"), Docs: filepath.Join(root, "build", "docs")}
}

// NewApp makes an app whose output depends on its input alone. Feature flags are here, not in cdk.json, so that tests and the CLI agree.
func NewApp(out *string) awscdk.App {
	return awscdk.NewApp(&awscdk.AppProps{
		AnalyticsReporting: no, TreeMetadata: no, Outdir: out,
		Context: &map[string]any{
			"aws:cdk:enable-path-metadata":                  false,
			"aws:cdk:enable-asset-metadata":                 false,
			"@aws-cdk/aws-ec2:restrictDefaultSecurityGroup": false, // it would add a function of CDK's own
		},
	})
}

// ContextOf answers the parameters that an app was given, by cdk.json or `-c name=value`; what is CDK's own is left out.
func ContextOf(app awscdk.App) map[string]string {
	given := map[string]string{}
	all, _ := app.Node().GetAllContext(nil).(map[string]any)
	for name, value := range all {
		if !strings.ContainsAny(name, ":/@") {
			given[name] = fmt.Sprint(value)
		}
	}
	return given
}

// Build adds the stacks of a plane to an app. It fails when something that must be built first is not there.
func Build(app awscdk.App, p Params, from Sources) error {
	if err := from.check(p); err != nil {
		return err
	}
	data := newData(stack(app, p, "data", "State of a Cordum plane: table, objects, queues, secret."), p)
	control := newControl(stack(app, p, "control", "A Cordum plane's functions, APIs, schedules and alarms."), p, from, data)
	control.stack.AddDependency(data.stack, nil)
	if p.Grpc {
		grpc := newGrpc(stack(app, p, "grpc", "A Cordum plane's gRPC service: network, load balancer, containers."), p, from, data)
		grpc.stack.AddDependency(control.stack, new("its alarms go to the topic"))
	}
	if p.Edge {
		return newEdge(stack(app, p, "edge", "A Cordum plane's front: one host for REST, streams and the API page."), p, from, data, control)
	}
	return nil
}

func stack(app constructs.Construct, p Params, name, description string) awscdk.Stack {
	return awscdk.NewStack(app, new(p.prefix()+name), &awscdk.StackProps{
		Env: &awscdk.Environment{Region: new(p.Region)}, Description: new(description),
		TerminationProtection: jsii.Bool(name == "data"),
		Tags:                  &map[string]*string{"app": new("cordum"), "stage": new(p.Stage)},
	})
}

func output(s awscdk.Stack, name, value, description string) {
	awscdk.NewCfnOutput(s, new(name), &awscdk.CfnOutputProps{Value: new(value), Description: new(description)})
}

var yes, no = jsii.Bool(true), jsii.Bool(false)

func strs(s ...string) *[]*string {
	out := make([]*string, len(s))
	for i := range s {
		out[i] = &s[i]
	}
	return &out
}

func num(n int) *float64 { return jsii.Number(n) }

// camel makes a construct's id of a name with dashes and dots.
func camel(name string) string {
	var out strings.Builder
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '-' || r == '.' || r == '_' }) {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}
