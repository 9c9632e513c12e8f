// Package wire is how messages of the contract look in JSON.
//
//   - cordum.v1: members in snake_case, 64-bit integers as numbers, every field written. The option (cordum.options.v1.json) of a field leaves
//     it out or writes null when it is empty, and gives it another name.
//   - cordum.agent.v1 (CAP): protobuf JSON, camelCase, 64-bit integers as strings, every field written.
//   - cordum.v1.Json: the value itself, byte for byte.
//
// Descriptors are walked once per message type; after that encoding appends to one buffer.
package wire

import (
	"io"
	"net/url"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Marshaler is the codec as grpc-gateway wants it. Its errors are for a log: what is wrong with a body is "invalid json" to its sender.
type Marshaler struct{}

// ContentType is application/json for everything.
func (Marshaler) ContentType(any) string { return "application/json" }

// Marshal writes a message, or a slice of messages.
func (Marshaler) Marshal(v any) ([]byte, error) { return Append(nil, v) }

// Unmarshal reads exactly one JSON value into a message, or into a pointer to one, which may be nil.
func (Marshaler) Unmarshal(data []byte, v any) error { return Unmarshal(data, v) }

// NewDecoder reads the whole of r as one value; an empty r is io.EOF.
func (Marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return io.EOF
		}
		return Unmarshal(data, v)
	})
}

// NewEncoder writes values to w.
func (Marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := Append(nil, v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}

// Query reads query parameters. What the contract treats leniently is a string field, so nothing in a query is refused here: unknown
// parameters are passed over, of several values the first counts, and a value that is no number, or no boolean, for such a field leaves it
// empty. Names may be written as in the contract or in camelCase.
type Query struct{}

// Parse fills the fields that neither the path nor the body has.
func (Query) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	r := m.ProtoReflect()
	p := planOf(r.Descriptor())
	for name, vs := range values {
		f := p.field(name)
		if f == nil || len(vs) == 0 || filter.HasCommonPrefix([]string{string(f.fd.Name())}) {
			continue
		}
		if f.fd.IsList() {
			list := r.Mutable(f.fd).List()
			for _, v := range vs {
				if f.fd.Kind() == protoreflect.StringKind {
					list.Append(protoreflect.ValueOfString(v))
				}
			}
			continue
		}
		if v, ok := scalar(f.fd, vs[0]); ok {
			r.Set(f.fd, v)
		}
	}
	return nil
}
