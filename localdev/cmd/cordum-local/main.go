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
	Dev   devCmd   `cmd:"" help:"Run the plane: REST and streams on one port, gRPC on another."`
	Demo  demoCmd  `cmd:"" help:"Watch jobs of every kind go through a plane; starts one if none runs."`
	Bench benchCmd `cmd:"" help:"Measure a plane over real HTTP and gRPC."`
	Work  workCmd  `cmd:"" hidden:"" help:"Run the demo worker alone; the benchmarks start it as a process of its own."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, kong.Name("cordum-local"), kong.Description("Cordum, serverless, on this machine."), kong.UsageOnError())
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "cordum-local:", err)
		stop()
		os.Exit(1)
	}
}
