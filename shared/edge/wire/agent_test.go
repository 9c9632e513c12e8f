package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/edge/wire"
)

// TestCAPIsProtobufJSON compares every message of CAP, empty and full, with what protojson makes of it.
func TestCAPIsProtobufJSON(t *testing.T) {
	t.Parallel()
	seen := 0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if mt.Descriptor().FullName().Parent() != agentv1.File_cordum_agent_v1_policy_proto.Package() {
			return true
		}
		seen++
		for fill := range 4 {
			m := mt.New()
			if fill > 0 {
				full(m, fill, 4)
			}
			want, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m.Interface())
			if err != nil {
				t.Fatal(err)
			}
			var tidy bytes.Buffer
			if err := json.Compact(&tidy, want); err != nil {
				t.Fatal(err)
			}
			if got := write(t, m.Interface()); got != tidy.String() {
				t.Errorf("%s:\n got %s\nwant %s", mt.Descriptor().FullName(), got, tidy.String())
			}
		}
		return true
	})
	if seen < 20 {
		t.Errorf("only %d messages", seen)
	}
}

// full sets every field, of a oneof another one for every seed.
func full(m protoreflect.Message, seed, depth int) {
	if at, ok := m.Interface().(*timestamppb.Timestamp); ok {
		at.Seconds, at.Nanos = int64(seed)*1e9, int32(seed)*1e6
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get((i + seed) % fields.Len())
		if fd.Message() != nil && depth == 0 {
			continue
		}
		switch {
		case fd.IsMap():
			for n := range seed {
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(fmt.Sprint("k", n)).MapKey(), value(m, fd.MapValue(), seed, depth))
			}
		case fd.IsList():
			for range seed {
				v := m.Mutable(fd).List()
				if fd.Message() != nil {
					full(v.AppendMutable().Message(), seed, depth-1)
				} else {
					v.Append(value(m, fd, seed, depth))
				}
			}
		case fd.Message() != nil:
			full(m.Mutable(fd).Message(), seed, depth-1)
		default:
			m.Set(fd, value(m, fd, seed, depth))
		}
	}
}

func value(m protoreflect.Message, fd protoreflect.FieldDescriptor, seed, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("a \"b\" \\ \n <é>")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 255, byte(seed)})
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(seed * seed * seed))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(-5)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(math.MaxInt64)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32([]float32{1.5, 1e-9, float32(math.Inf(-1)), 1e30}[seed%4])
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{0.4, 1e-9, math.NaN(), math.Inf(1)}[seed%4])
	case protoreflect.MessageKind:
		v := m.NewField(fd)
		full(v.Message(), seed, depth-1)
		return v
	default:
		panic("CAP has a field of kind " + fd.Kind().String() + " now")
	}
}

func BenchmarkAppendPolicyAnswer(b *testing.B) {
	var m proto.Message = &agentv1.PolicyCheckResponse{
		Decision: agentv1.DecisionType_DECISION_TYPE_ALLOW_WITH_CONSTRAINTS, Reason: "in a box", PolicySnapshot: "2026.02:77d0", RuleId: "lab",
		Constraints: &agentv1.PolicyConstraints{
			Budgets: &agentv1.BudgetConstraints{MaxRuntimeMs: 60000}, Sandbox: &agentv1.SandboxProfile{Isolated: true},
			Toolchain: &agentv1.ToolchainConstraints{}, Diff: &agentv1.DiffConstraints{},
		},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.Append(nil, m); err != nil {
			b.Fatal(err)
		}
	}
}
