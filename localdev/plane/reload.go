package plane

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	coreseed "github.com/cordum-serverless/cordum/shared/core/seed"
)

// reloadEvery is how often the policy's file is looked at.
const reloadEvery = 5 * time.Second

// policyFile is a policy on disk and, beside it, its signature, which may be missing.
type policyFile struct {
	path            string
	text, signature []byte
}

// SignatureSuffix is what the name of a signature has more than that of its policy.
const SignatureSuffix = ".sig"

func (f *policyFile) read() (err error) {
	if f.text, err = os.ReadFile(f.path); err != nil {
		return err
	}
	f.signature, err = os.ReadFile(f.path + SignatureSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		f.signature, err = nil, nil
	}
	return err
}

// watch puts the policy's file in force whenever it has changed. One that is not valid, or not signed as it must be, is refused, and what was last
// good stays.
func (p *Plane) watch(ctx context.Context, known policyFile) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	heads, said := p.Dispatcher.Policy, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := policyFile{path: known.path}
		err := now.read()
		if err == nil {
			if said == "" && bytes.Equal(now.text, known.text) && bytes.Equal(now.signature, known.signature) {
				continue
			}
			err = heads.Check(coreseed.Base(now.text), now.signature)
		}
		if err != nil { // it may be half written: it is looked at again
			if said != err.Error() {
				said = err.Error()
				p.log.ErrorContext(ctx, "policy file not loaded; the last good one stays", "file", known.path, "error", err)
				if err := heads.Refused(ctx, err, p.Dispatcher.Clock.Now()); err != nil {
					p.log.ErrorContext(ctx, "that is not noted for the status", "error", err)
					said = ""
				}
			}
			continue
		}
		if _, err := heads.SetBase(ctx, coreseed.Base(now.text), now.signature, p.Dispatcher.Clock.Now()); err != nil {
			p.log.ErrorContext(ctx, "policy file not loaded; it is tried again", "file", known.path, "error", err)
			continue
		}
		known, said = now, ""
		p.log.WarnContext(ctx, "policy file loaded", "file", known.path)
	}
}
