// Package event is what happens on the plane, as clients see it live: CAP packets on their way to the connections of a tenant. Events are
// made only where somebody listens, travel on a FIFO queue in the order of their job, and are delivered once in that order, or not at all
// when they come too late.
package event

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// Event is one thing that happened: the message on the events queue.
type Event struct {
	Tenant string `json:"tenant"`
	// Group is what the event is about: events of one group keep their order.
	Group string `json:"group"`
	// Job is the job that it is about, "" for none.
	Job string `json:"job,omitempty"`
	// Version orders the events of a group; one that is not after the last delivered is dropped. "" is not ordered and never dropped.
	Version string `json:"v,omitempty"`
	// Passing says that it tells how things are at this moment, and nothing that happened: it has no id, and is not there to be read again.
	Passing bool `json:"passing,omitempty"`
	// Frames are the texts that clients get, in this order: JSON objects.
	Frames []json.RawMessage `json:"frames"`
}

// group names the group among those of all tenants.
func (e Event) group() string { return e.Tenant + "\x00" + e.Group }

// hash names the event: the same one that comes again has the same.
func (e Event) hash() string {
	parts := []string{e.Tenant, e.Group, e.Version}
	for _, f := range e.Frames {
		parts = append(parts, string(f))
	}
	return groupID(parts...)[:32]
}

// feed answers the feed of one of the kinds that the event stands in; ok is false for that of no job.
func (e Event) feed(kind int) (f Feed, ok bool) {
	switch kind {
	case ofTenant:
		return Feed{Tenant: e.Tenant}, true
	case ofEverybody:
		return Feed{Tenant: Everybody}, true
	default:
		return Feed{e.Tenant, e.Job}, e.Job != ""
	}
}

// Version is where in the life of a job an event stands: its end comes after everything else, a later attempt after an earlier one. step orders
// events of one moment.
func Version(r *job.Record, step int) string {
	end := 0
	if r.State.Terminal() {
		end = 1
	}
	return fmt.Sprintf("%d.%06d.%016d.%d", end, r.Attempts, r.UpdatedAt, step)
}

// ParseEvent reads a message of the events queue; ok is false for one that is none.
func ParseEvent(body string) (e Event, ok bool) {
	err := json.Unmarshal([]byte(body), &e)
	return e, err == nil && e.Tenant != "" && e.Group != "" && len(e.Frames) > 0
}

// maxFrames is how many bytes of frames one message carries: it must fit a queue's with all around them.
const maxFrames = queue.MaxBody * 3 / 4

// parts are the event itself, or several in its place, one after the other, where it is too large for one message.
func (e Event) parts() []Event {
	size := 0
	for i, f := range e.Frames {
		if size += len(f) + 1; size <= maxFrames || i == 0 {
			continue
		}
		first, rest := e, e
		first.Frames, rest.Frames = e.Frames[:i], e.Frames[i:]
		if e.Version != "" {
			rest.Version += "+"
		}
		return append([]Event{first}, rest.parts()...)
	}
	return []Event{e}
}

func (e Event) message() (queue.Message, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return queue.Message{}, fmt.Errorf("event: %w", err)
	}
	return queue.Message{Body: string(b), Group: groupID(e.Tenant, e.Group), Dedup: groupID(e.Tenant, e.Group, e.Version, string(b))}, nil
}

// MaxFrame is the largest frame, in bytes, before it is given its id.
const MaxFrame = push.MaxFrame - idRoom

const (
	idMember = `"eventId":"`
	idRoom   = len(idMember) + 16 + len(`",`)
)

// stamped is a frame with its id.
func stamped(frame []byte, id int64) []byte {
	out := make([]byte, 0, len(frame)+idRoom)
	out = append(append(out, '{'), idMember...)
	out = strconv.AppendInt(out, id, 10)
	out = append(out, '"')
	if len(frame) > len("{}") {
		out = append(out, ',')
	}
	return append(out, frame[1:]...)
}

// members of a frame whose size a caller controls, the least important first.
var bulky = []func(*agentv1.BusPacket){
	func(p *agentv1.BusPacket) {
		if r := p.GetJobResult(); r != nil {
			r.ArtifactPtrs = nil
		}
		if r := p.GetJobProgress(); r != nil {
			r.ArtifactPtrs = nil
		}
	},
	func(p *agentv1.BusPacket) {
		if r := p.GetJobRequest(); r != nil {
			r.GetMeta().Reset()
			r.ContextHints = nil
		}
	},
	func(p *agentv1.BusPacket) {
		if r := p.GetJobRequest(); r != nil {
			r.Labels, r.Env = nil, nil
		}
		if b := p.GetHeartbeat(); b != nil {
			b.Labels, b.Capabilities = nil, nil
		}
	},
	func(p *agentv1.BusPacket) {
		if r := p.GetJobResult(); r != nil {
			r.ErrorMessage, r.ResultPtr = "", ""
		}
		if r := p.GetJobProgress(); r != nil {
			r.Message, r.ResultPtr = "", ""
		}
	},
}

// Frame is a packet as both generations of clients read it: protobuf JSON whose payload member stands at the top level and again under
// "payload". A packet that is too large for a frame loses lists and labels, never its ids and its status.
func Frame(p *agentv1.BusPacket) (json.RawMessage, error) {
	frame, err := encode(p)
	if err != nil || len(frame) <= MaxFrame {
		return frame, err
	}
	p = proto.CloneOf(p)
	for _, lighten := range bulky {
		lighten(p)
		if frame, err = encode(p); err != nil || len(frame) <= MaxFrame {
			return frame, err
		}
	}
	return nil, fmt.Errorf("event: a frame of %d bytes is too large", len(frame))
}

func encode(p *agentv1.BusPacket) (json.RawMessage, error) {
	raw, err := protojson.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if name := payloadName(p); members[name] != nil {
		members["payload"] = json.RawMessage(`{"` + name + `":` + string(members[name]) + `}`)
	}
	return json.Marshal(members)
}

// payloadName is the JSON name of the member of the oneof that is set.
func payloadName(p *agentv1.BusPacket) string {
	m := p.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if field == nil {
		return ""
	}
	return field.JSONName()
}
