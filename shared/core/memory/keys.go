package memory

import (
	"fmt"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// A memory lies in one partition, M#<tenant>#<memory>:
//
//	H                          what is known about the rest; it changes with every write
//	E#<number>                 an event of the history
//	S                          the summary
//	C#<generation>#<number>    a chunk; those of older generations are left over
const (
	headSK      = "H"
	eventPrefix = "E#"
	summarySK   = "S"
	chunkPrefix = "C#"
)

func partition(tenant, memory string) string {
	return "M#" + listing.Segment(tenant) + "#" + listing.Segment(memory)
}

func headKey(pk string) store.Key { return store.Key{PK: pk, SK: headSK} }

func eventKey(pk string, n int64) store.Key {
	return store.Key{PK: pk, SK: fmt.Sprintf("%s%012d", eventPrefix, n)}
}

func summaryKey(pk string) store.Key { return store.Key{PK: pk, SK: summarySK} }

func generation(n int64) string { return fmt.Sprintf("%s%012d#", chunkPrefix, n) }

func chunkKey(pk string, of, n int64) store.Key {
	return store.Key{PK: pk, SK: fmt.Sprintf("%s%012d", generation(of), n)}
}

// Names of attributes.
const (
	// Of the head: the number of the next event, the newest calls, and of the chunks their generation, the next number, how many there are and their bytes.
	attrNext       = "n"
	attrCalls      = "c"
	attrGeneration = "g"
	attrNextChunk  = "k"
	attrChunks     = "q"
	attrSize       = "z"
	// Of an event, the summary and a chunk its text; of an event what tells it from others.
	attrText = "x"
	attrID   = "id"
	// Of a chunk the path, the language, the file's bytes and its lines of code.
	attrPath     = "p"
	attrLanguage = "l"
	attrBytes    = "b"
	attrLOC      = "o"
)
