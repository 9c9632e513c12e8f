package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
)

// ReservedEnv is the prefix of environment names that only the plane sets.
const ReservedEnv = "CORDUM_"

// Hash binds an approval to a request: the SHA-256, in hexadecimal, of its set fields as JSON with sorted names, without what the plane
// itself adds later (labels approval_* and cordum.bus_msg_id, environment CORDUM_*). An empty map counts as none.
func Hash(request *agentv1.JobRequest) string {
	r := proto.CloneOf(request)
	maps.DeleteFunc(r.GetLabels(), func(k, _ string) bool {
		return strings.HasPrefix(strings.ToLower(k), "approval_") || k == "cordum.bus_msg_id"
	})
	maps.DeleteFunc(r.GetEnv(), func(k, _ string) bool { return strings.HasPrefix(k, ReservedEnv) })
	text, err := protojson.Marshal(r)
	if err != nil {
		panic("job: hash: " + err.Error()) // only a message with invalid UTF-8 fails, and submit refuses that
	}
	var tree any // protojson varies its white space on purpose: go through the values
	if err := json.Unmarshal(text, &tree); err != nil {
		panic("job: hash: " + err.Error())
	}
	sum := sha256.Sum256(encode(tree))
	return hex.EncodeToString(sum[:])
}
