package wire

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
)

// plan is what is known of a message type before any message is seen.
type plan struct {
	fields []field
	names  map[string]*field
	shape  shape
}

// shape is how a message is written.
type shape uint8

const (
	object   shape = iota // {member: ...}
	agent                 // the same in protobuf JSON: messages of CAP
	anyJSON               // cordum.v1.Json
	protobuf              // google's messages, each of which has a form of its own
)

const (
	agentName = "cordum.agent.v1."
	jsonName  = "cordum.v1.Json"
)

type field struct {
	fd       protoreflect.FieldDescriptor
	index    int
	prefix   string // `"name":`
	presence optionsv1.Presence
	// message says that the field itself is one message, and so null when it is not set.
	message bool
}

var plans sync.Map // protoreflect.FullName -> *plan

func planOf(d protoreflect.MessageDescriptor) *plan {
	if p, ok := plans.Load(d.FullName()); ok {
		return p.(*plan)
	}
	p, _ := plans.LoadOrStore(d.FullName(), makePlan(d))
	return p.(*plan)
}

func makePlan(d protoreflect.MessageDescriptor) *plan {
	switch name := string(d.FullName()); {
	case name == jsonName:
		return &plan{shape: anyJSON}
	case strings.HasPrefix(name, "google.protobuf."):
		return &plan{shape: protobuf}
	}
	form := object
	if strings.HasPrefix(string(d.FullName()), agentName) {
		form = agent
	}
	fds := d.Fields()
	p := &plan{shape: form, fields: make([]field, fds.Len()), names: make(map[string]*field, 2*fds.Len())}
	for i := range fds.Len() {
		fd := fds.Get(i)
		option, _ := proto.GetExtension(fd.Options(), optionsv1.E_Json).(*optionsv1.FieldJson)
		name, presence := string(fd.Name()), option.GetPresence()
		switch {
		case form == agent && fd.ContainingOneof() != nil:
			name, presence = fd.JSONName(), optionsv1.Presence_PRESENCE_OMIT_EMPTY
		case form == agent:
			name = fd.JSONName()
		case option.GetName() != "":
			name = option.GetName()
		}
		f := &p.fields[i]
		*f = field{
			fd: fd, index: i, prefix: `"` + name + `":`, presence: presence,
			message: fd.Message() != nil && !fd.IsList() && !fd.IsMap(),
		}
		for _, n := range []string{fd.JSONName(), string(fd.Name()), name} {
			p.names[n] = f
		}
	}
	return p
}

// field finds a field by any name that a client may use for it; nil for none.
func (p *plan) field(name string) *field { return p.names[name] }
