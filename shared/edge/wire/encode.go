package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
)

// Append writes a message, or a slice of messages, behind b.
func Append(b []byte, v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return appendMessage(b, m.ProtoReflect())
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice {
		return nil, fmt.Errorf("wire: cannot write %T", v)
	}
	b = append(b, '[')
	var err error
	for i := range rv.Len() {
		m, ok := reflect.TypeAssert[proto.Message](rv.Index(i))
		if !ok {
			return nil, fmt.Errorf("wire: cannot write %T", v)
		}
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendMessage(b, m.ProtoReflect()); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMessage(b []byte, m protoreflect.Message) ([]byte, error) {
	if !m.IsValid() {
		return append(b, "null"...), nil
	}
	p := planOf(m.Descriptor())
	switch p.shape {
	case anyJSON:
		return appendRaw(b, m.Get(m.Descriptor().Fields().ByNumber(1)).Bytes())
	case protobuf:
		return appendProtobuf(b, m.Interface())
	case object, agent:
	}
	b = append(b, '{')
	first := true
	var err error
	for i := range p.fields {
		f := &p.fields[i]
		has := m.Has(f.fd)
		if !has && f.presence == optionsv1.Presence_PRESENCE_OMIT_EMPTY {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.prefix...)
		if !has && (f.message || f.presence == optionsv1.Presence_PRESENCE_NULL_EMPTY || f.fd.HasPresence()) {
			b = append(b, "null"...)
			continue
		}
		if b, err = appendField(b, p.shape, f.fd, m.Get(f.fd)); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendRaw splices a value in as it came.
func appendRaw(b, raw []byte) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return append(b, "null"...), nil
	}
	if !json.Valid(raw) {
		return nil, fmt.Errorf("wire: a value of any JSON is no JSON")
	}
	return append(b, raw...), nil
}

func appendProtobuf(b []byte, m proto.Message) ([]byte, error) {
	at := len(b)
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.MarshalAppend(b, m)
	if err != nil {
		return nil, err
	}
	var tidy bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&tidy, b[at:]); err != nil {
		return nil, err
	}
	return append(b[:at], tidy.Bytes()...), nil
}

func appendField(b []byte, in shape, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch {
	case fd.IsList():
		return appendList(b, in, fd, v.List())
	case fd.IsMap():
		return appendMap(b, in, fd, v.Map())
	default:
		return appendValue(b, in, fd, v)
	}
}

func appendList(b []byte, in shape, fd protoreflect.FieldDescriptor, list protoreflect.List) ([]byte, error) {
	b = append(b, '[')
	var err error
	for i := range list.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, in, fd, list.Get(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendMap writes members in the order of their names, so that equal messages have equal texts.
func appendMap(b []byte, in shape, fd protoreflect.FieldDescriptor, m protoreflect.Map) ([]byte, error) {
	names := make([]string, 0, m.Len())
	values := make(map[string]protoreflect.Value, m.Len())
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		names = append(names, k.String())
		values[k.String()] = v
		return true
	})
	slices.Sort(names)
	b = append(b, '{')
	var err error
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		if b, err = appendValue(b, in, fd.MapValue(), values[name]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendValue(b []byte, in shape, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return appendString(b, v.String()), nil
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool()), nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		if in == agent {
			return append(strconv.AppendInt(append(b, '"'), v.Int(), 10), '"'), nil
		}
		return strconv.AppendInt(b, v.Int(), 10), nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if in == agent {
			return append(strconv.AppendUint(append(b, '"'), v.Uint(), 10), '"'), nil
		}
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case protoreflect.FloatKind:
		return appendFloat(b, in, v.Float(), 32), nil
	case protoreflect.DoubleKind:
		return appendFloat(b, in, v.Float(), 64), nil
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return appendString(b, string(e.Name())), nil
		}
		return strconv.AppendInt(b, int64(v.Enum()), 10), nil
	case protoreflect.BytesKind:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"'), nil
	default:
		return appendMessage(b, v.Message())
	}
}

// appendFloat writes the shortest number that reads back the same. What is no number in JSON is null, and a word in protobuf JSON.
func appendFloat(b []byte, in shape, f float64, bits int) []byte {
	switch {
	case !math.IsNaN(f) && !math.IsInf(f, 0):
	case in != agent:
		return append(b, "null"...)
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case f > 0:
		return append(b, `"Infinity"`...)
	default:
		return append(b, `"-Infinity"`...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, bits)
	if n := len(b); format == 'e' && b[n-4] == 'e' && b[n-2] == '0' { // e-09 is e-9
		b = append(b[:n-2], b[n-1])
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString quotes a text, escaping only what JSON demands. Bytes that are no UTF-8 become the replacement character.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
