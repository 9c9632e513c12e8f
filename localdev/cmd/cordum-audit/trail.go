package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// trail is an open plane's.
type trail struct {
	table   store.Table
	blobs   blob.Store
	trusted []ed25519.PublicKey
	close   func() error
	json    bool
	out     io.Writer
}

// open opens the plane that flags and environment name.
func (c *cli) open(ctx context.Context, getenv func(string) string) (*trail, error) {
	t := &trail{json: c.JSON, close: func() error { return nil }}
	for _, text := range c.PublicKey {
		key, err := chain.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("--public-key: %w", err)
		}
		t.trusted = append(t.trusted, key)
	}
	if table, bucket := getenv("CORDUM_TABLE"), getenv("CORDUM_BUCKET"); table != "" && bucket != "" {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, err
		}
		t.table, t.blobs = dynamo.New(cfg, table, nil), s3.New(cfg, bucket)
		return t, nil
	}
	if _, err := os.Stat(filepath.Join(c.Data, "cordum.db")); err != nil {
		return nil, fmt.Errorf("no plane's data in %s: name its folder with --data, or a plane on AWS with CORDUM_TABLE and CORDUM_BUCKET", c.Data)
	}
	p, err := embedded.Open(c.Data, embedded.Options{})
	if err != nil {
		return nil, err
	}
	t.table, t.blobs, t.close = p.Table(), p.Blobs(), p.Close
	if len(t.trusted) > 0 {
		return t, nil
	}
	secret, err := plane.AuditSecret(c.Data, getenv)
	if err == nil {
		var keys chain.Keys
		if keys, err = chain.ParseKeys(secret); err == nil {
			t.trusted = keys.Public()
			return t, nil
		}
	}
	_ = p.Close() // what is wrong is said
	return nil, err
}

func (t *trail) print(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s\n", text)
	return err
}

func (t *trail) say(format string, args ...any) error {
	_, err := fmt.Fprintf(t.out, format+"\n", args...)
	return err
}

type verifyCmd struct {
	Checkpoint string `type:"existingfile" placeholder:"FILE" help:"An earlier checkpoint: the trail must go on from it."`
}

// Run prints what is wrong, then what was looked at.
func (c *verifyCmd) Run(ctx context.Context, t *trail) error {
	v := chain.Verifier{Table: t.table, Blobs: t.blobs, Now: time.Now(), Trusted: t.trusted}
	if c.Checkpoint != "" {
		text, err := os.ReadFile(c.Checkpoint)
		if err != nil {
			return err
		}
		if v.Earlier, err = chain.ParseHead(text); err != nil {
			return fmt.Errorf("%s: %w", c.Checkpoint, err)
		}
	}
	verdict, err := v.Run(ctx)
	if err != nil {
		return err
	}
	if t.json {
		err = t.print(verdict)
	} else {
		err = t.verdict(verdict)
	}
	if err == nil && len(verdict.Findings) > 0 {
		err = errFindings
	}
	return err
}

func (t *trail) verdict(v *chain.Verdict) error {
	for _, f := range slices.Concat(v.Findings, v.Late) {
		if err := t.say("%v", f); err != nil {
			return err
		}
	}
	word := "the audit trail is sound"
	if n := len(v.Findings); n > 0 {
		word = fmt.Sprintf("the audit trail is not sound: %d findings", n)
	}
	head := "nothing was sealed yet"
	if v.Head != nil {
		head = fmt.Sprintf("checkpoint %d of %s, signed with %s", v.Head.Number, v.Head.At.Format(time.RFC3339), chain.SpellKey(v.Head.Key))
		if len(t.trusted) == 0 {
			head += ", which nobody vouched for: see --public-key"
		}
	}
	return t.say("%s\n%s\n%d blocks with %d entries: %d compared with the table, %d kept in blocks alone; %d wait to be sealed", word, head, v.Blocks, v.Sealed,
		v.Compared, v.Expired, v.Waiting)
}

type listCmd struct {
	Limit int `help:"Print at most so many; 0 is all."`
}

// Run prints entries as they come, so that a long trail needs no memory.
func (c *listCmd) Run(ctx context.Context, t *trail) error {
	n := 0
	for e, err := range chain.List(ctx, t.table, t.blobs, time.Now()) {
		if err != nil {
			return err
		}
		if t.json {
			err = t.print(e)
		} else {
			err = t.say("%s  %s", time.UnixMicro(e.At).UTC().Format("2006-01-02T15:04:05.000000Z"), e)
		}
		if err != nil {
			return err
		}
		if n++; n == c.Limit {
			break
		}
	}
	return nil
}

type checkpointCmd struct{}

// Run prints the head, if its signature holds.
func (checkpointCmd) Run(ctx context.Context, t *trail) error {
	h, err := t.head(ctx)
	if err != nil {
		return err
	}
	if err := h.Check(t.trusted...); err != nil {
		return err
	}
	return t.say("%s", h.Encode())
}

type keyCmd struct{}

// Run prints the key that the trail is signed with, or will be.
func (keyCmd) Run(ctx context.Context, t *trail) error {
	if len(t.trusted) > 0 {
		return t.say("%s", chain.SpellKey(t.trusted[0]))
	}
	h, err := t.head(ctx)
	if err != nil {
		return err
	}
	return t.say("%s", chain.SpellKey(h.Key))
}

func (t *trail) head(ctx context.Context) (*chain.Head, error) {
	h, err := chain.LoadHead(ctx, t.table)
	if err == nil && h == nil {
		err = fmt.Errorf("nothing was sealed yet: an entry is sealed when it is %v old", chain.Lag)
	}
	return h, err
}
