// Command cordum-local runs the whole plane on a laptop, shows it at work, and measures it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Dev        devCmd        `cmd:"" help:"Run the plane: REST and streams on one port, gRPC on another."`
	LocalStack localstackCmd `cmd:"" name:"localstack" help:"Run the plane's real binaries on LocalStack, or on the endpoint that AWS_ENDPOINT_URL names."`
	WithAWS    withAWSCmd    `cmd:"" name:"with-aws" help:"Run a command with AWS_ENDPOINT_URL set; starts LocalStack for it unless it is."`
	Demo       demoCmd       `cmd:"" help:"Watch jobs of every kind go through a plane; starts one if none runs."`
	Bench      benchCmd      `cmd:"" help:"Measure a plane over real HTTP and gRPC."`
	Crash      crashCmd      `cmd:"" help:"Kill a plane that is under load, again and again, and judge what it kept."`
	Soak       soakCmd       `cmd:"" help:"Load a plane for long, with many who listen and workers that come and go, and judge what it lost."`
	SoakLoad   soakLoadCmd   `cmd:"" hidden:"" help:"The load of a soak, as a process of its own."`
	Work       workCmd       `cmd:"" hidden:"" help:"Run the demo worker alone; the benchmarks start it as a process of its own."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, kong.Name("cordum-local"), kong.Description("Cordum, serverless, on this machine."), kong.UsageOnError(),
		kong.Vars{"benchmarks": benchmarkNames()})
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "cordum-local:", err)
		stop()
		os.Exit(1)
	}
}
