// Command cordum-audit verifies, lists and marks the audit trail of a plane: of the one in a data folder, while it does not run, or of one on AWS, when
// CORDUM_TABLE and CORDUM_BUCKET name its table and its bucket.
//
// It ends with 0 when all is well, with 1 when the trail was tampered with or is not whole, and with 2 when it could not look.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// How it ends.
const (
	sound      = 0
	hasFinding = 1
	failed     = 2
)

type cli struct {
	Data      string   `default:".cordum" type:"path" help:"Data folder of a plane on this machine, which must not run meanwhile."`
	PublicKey []string `help:"Public key that may have signed the trail, as sealer and public-key show it; may be repeated. Without it a data folder's own key is trusted, and on AWS the one that the trail itself names."`
	JSON      bool     `name:"json" help:"Print JSON, one object on a line."`

	Verify     verifyCmd     `cmd:"" help:"Look for what was changed, removed, put in later or never sealed."`
	List       listCmd       `cmd:"" help:"Print every entry, newest first: what was asked for, and every decision."`
	Checkpoint checkpointCmd `cmd:"" name:"export-checkpoint" help:"Print the signed end of the trail; kept elsewhere, it shows later that nothing before it was cut off."`
	Key        keyCmd        `cmd:"" name:"public-key" help:"Print the public key that the trail is signed with."`
}

// errFindings says that the trail is not sound; what is wrong was printed.
var errFindings = errors.New("the audit trail is not sound")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// ended is how the parser ends the command, where it does so itself.
type ended int

// run is the command; it answers how it ends.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (code int) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case ended:
			code = int(e)
		default:
			panic(e)
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("cordum-audit"), kong.Description("The audit trail of a Cordum plane."), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(status int) { panic(ended(min(status, 1) * failed)) }))
	if err != nil {
		panic(err) // the commands above are wrong
	}
	k, err := parser.Parse(args)
	parser.FatalIfErrorf(err)
	t, err := c.open(ctx, getenv)
	if err == nil {
		t.out = stdout
		k.BindTo(ctx, (*context.Context)(nil))
		err = errors.Join(k.Run(t), t.close())
	}
	switch {
	case err == nil:
		return sound
	case errors.Is(err, errFindings):
		return hasFinding
	default:
		_, _ = fmt.Fprintln(stderr, "cordum-audit:", err)
		return failed
	}
}
