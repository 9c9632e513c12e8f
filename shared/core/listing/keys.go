package listing

import (
	"hash/fnv"
	"strings"
)

// Segment makes a name safe inside a key, so that no two tenants share one.
func Segment(name string) string { return segments.Replace(name) }

// Unsegment answers the name that Segment made safe.
func Unsegment(s string) string { return unsegments.Replace(s) }

var (
	segments   = strings.NewReplacer("%", "%25", "#", "%23")
	unsegments = strings.NewReplacer("%25", "%", "%23", "#")
)

// Hash spreads names over partitions. Stored keys depend on it: FNV-1a of 32 bits.
func Hash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}
