// Package embedded is the whole platform in one process: table and queues in one SQLite file, blobs in a folder beside it, connections in
// memory. No server, no Docker, no account. It is a supported way to run, not a test double: what was acknowledged survives the end of the
// process, however it comes (Sync "full": also the loss of power).
//
// It works inside a testing/synctest bubble, opened and closed there: time is time.Now, waiting is on channels and timers. With
// Options.Unruly it makes use of every freedom that AWS has, so that what passes on it passes there.
package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Options say how a platform is set up. The zero value is a platform as it runs on a laptop.
type Options struct {
	// Memory keeps everything in memory, whatever dir is.
	Memory bool
	// Sync is "" or "full". "" survives kill -9; "full" waits for the disk at every commit and survives the loss of power.
	Sync string
	// Meter counts what DynamoDB would bill; nil does not.
	Meter *store.Meter
	// Unruly is the seed of a platform that makes use of the freedom that AWS has: index entries lag, pages end early, receives come
	// back empty, messages of standard queues come twice and out of order, writes conflict. 0 behaves.
	Unruly uint64
	// BlobURL is where the handler of Blobs.Handler is reached, for presigned URLs, such as "http://localhost:8081/blobs". "" does not
	// presign.
	BlobURL string
	// BlobKey signs those URLs; nil is a key that lives as long as the process.
	BlobKey []byte
}

// Platform is an open platform.
type Platform struct {
	db          *database
	w           *writer
	lock        *dirLock
	table       *Table
	queues      *Queues
	blobs       *Blobs
	connections *Connections
	expiry      *expiry
}

// Names of what is in the directory.
const (
	databaseFile = "cordum.db"
	blobFolder   = "blobs"
)

// Open opens the platform in dir, which is made if need be; "" keeps everything in memory. A directory belongs to one process at a time: the
// error says which one has it.
func Open(dir string, opts Options) (*Platform, error) {
	if opts.Memory {
		dir = ""
	}
	sync := "NORMAL"
	switch opts.Sync {
	case "":
	case "full":
		sync = "FULL"
	default:
		return nil, fmt.Errorf("embedded: Sync is %q; it is \"\" or \"full\"", opts.Sync)
	}
	p := &Platform{}
	if err := p.open(dir, sync, opts); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Platform) open(dir, sync string, opts Options) (err error) {
	file, blobs := "", ""
	if dir != "" {
		file, blobs = filepath.Join(dir, databaseFile), filepath.Join(dir, blobFolder)
		if err := os.MkdirAll(blobs, 0o700); err != nil {
			return fmt.Errorf("embedded: %w", err)
		}
		if p.lock, err = lockDir(dir); err != nil {
			return err
		}
	}
	if p.blobs, err = newBlobs(blobs, opts); err != nil {
		return err
	}
	if p.db, err = openDatabase(file, sync); err != nil {
		return err
	}
	u := newUnruly(opts.Unruly)
	p.w = newWriter(p.db)
	p.table = &Table{db: p.db, w: p.w, meter: opts.Meter, unruly: u}
	if u != nil {
		p.table.lag = newLag(p.w, u)
	}
	if p.queues, err = newQueues(p.db, p.w, u); err != nil {
		return err
	}
	p.connections = NewConnections()
	p.w.start()
	p.expiry = startExpiry(p.table)
	return nil
}

// Table answers the table.
func (p *Platform) Table() *Table { return p.table }

// Queues answers the queues.
func (p *Platform) Queues() *Queues { return p.queues }

// Blobs answers the blob store.
func (p *Platform) Blobs() *Blobs { return p.blobs }

// Connections answers the registry of client connections.
func (p *Platform) Connections() *Connections { return p.connections }

// Close writes what was to be written late, ends what runs and gives the directory back. It is called once; calls that come later, and
// receives that wait, get ErrUnavailable.
func (p *Platform) Close() error {
	if p.expiry != nil {
		p.expiry.close()
		p.table.lag.close()
		p.queues.close()
		p.w.close()
	}
	var errs []error
	if p.db != nil {
		errs = append(errs, p.db.close())
	}
	if p.lock != nil {
		errs = append(errs, p.lock.release())
	}
	return errors.Join(errs...)
}
