// Command app is the CDK app: `make synth` runs it through the CDK's CLI. Its parameters are the CDK context; docs/deploy.md lists them.
package main

import (
	"fmt"
	"os"

	"github.com/cordum-serverless/cordum/infra"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "cordum: this plane cannot be built:\n%v\n", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	app := infra.NewApp(nil)
	p, err := infra.ReadParams(root, infra.ContextOf(app))
	if err != nil {
		return err
	}
	if err := infra.Build(app, p, infra.SourcesIn(root)); err != nil {
		return err
	}
	app.Synth(nil)
	if p.Grpc {
		fmt.Fprintf(os.Stderr, "The gRPC service costs about %.0f dollars a month while idle; -c grpc=false leaves it out.\n", infra.IdleCost(p))
	}
	return nil
}
