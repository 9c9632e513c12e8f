package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cordum-serverless/cordum/shared/platform/nesting"
)

// MaxDepth is how deep objects and lists may lie in one another.
const MaxDepth = 64

var (
	errSyntax = errors.New("wire: not exactly one JSON value in UTF-8")
	errDepth  = fmt.Errorf("wire: nested deeper than %d", MaxDepth)
)

// Unmarshal reads exactly one JSON value into a message, or into a pointer to a message, which it fills when it is nil. Unknown members are
// passed over, null leaves a field empty; a member that comes twice, or has the wrong type, is an error.
func Unmarshal(data []byte, v any) error {
	if nesting.Deeper(data, MaxDepth) {
		return errDepth
	}
	if !utf8.Valid(data) || !json.Valid(data) {
		return errSyntax
	}
	data = bytes.TrimSpace(data)
	if m, ok := v.(proto.Message); ok {
		return decodeMessage(data, m.ProtoReflect())
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() || rv.Elem().Kind() != reflect.Pointer {
		return fmt.Errorf("wire: cannot read into %T", v)
	}
	if string(data) == "null" {
		return nil
	}
	if rv.Elem().IsNil() {
		rv.Elem().Set(reflect.New(rv.Elem().Type().Elem()))
	}
	m, ok := reflect.TypeAssert[proto.Message](rv.Elem())
	if !ok {
		return fmt.Errorf("wire: cannot read into %T", v)
	}
	return decodeMessage(data, m.ProtoReflect())
}

func decodeMessage(data []byte, m protoreflect.Message) error {
	p := planOf(m.Descriptor())
	switch p.shape {
	case anyJSON:
		m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfBytes(bytes.Clone(data)))
		return nil
	case agent, protobuf:
		return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m.Interface())
	case object:
	}
	if data[0] != '{' {
		return wrong("an object", data)
	}
	seen := make([]bool, len(p.fields))
	return members(data, func(name string, value []byte) error {
		f := p.field(name)
		if f == nil {
			return nil
		}
		if seen[f.index] {
			return fmt.Errorf("wire: member %q comes twice", name)
		}
		seen[f.index] = true
		if string(value) == "null" {
			return nil
		}
		if err := decodeField(value, m, f.fd); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func decodeField(value []byte, m protoreflect.Message, fd protoreflect.FieldDescriptor) error {
	switch {
	case fd.IsList():
		if value[0] != '[' {
			return wrong("a list", value)
		}
		list := m.Mutable(fd).List()
		return elements(value, func(element []byte) error {
			v, err := decodeValue(element, fd, list.NewElement)
			if err == nil {
				list.Append(v)
			}
			return err
		})
	case fd.IsMap():
		if value[0] != '{' {
			return wrong("an object", value)
		}
		entries := m.Mutable(fd).Map()
		return members(value, func(name string, member []byte) error {
			if fd.MapKey().Kind() != protoreflect.StringKind {
				return fmt.Errorf("wire: map keys of kind %s are not used", fd.MapKey().Kind())
			}
			v, err := decodeValue(member, fd.MapValue(), entries.NewValue)
			if err == nil {
				entries.Set(protoreflect.ValueOfString(name).MapKey(), v)
			}
			return err
		})
	default:
		v, err := decodeValue(value, fd, func() protoreflect.Value { return m.NewField(fd) })
		if err == nil {
			m.Set(fd, v)
		}
		return err
	}
}

func decodeValue(value []byte, fd protoreflect.FieldDescriptor, fresh func() protoreflect.Value) (protoreflect.Value, error) {
	if fd.Message() != nil {
		v := fresh()
		return v, decodeMessage(value, v.Message())
	}
	text := string(value)
	if value[0] == '"' {
		var err error
		if text, err = unquote(value); err != nil {
			return protoreflect.Value{}, err
		}
	}
	quoted := value[0] == '"'
	switch kind := fd.Kind(); {
	case kind == protoreflect.StringKind || kind == protoreflect.BytesKind:
		if !quoted {
			return protoreflect.Value{}, wrong("a string", value)
		}
	case kind == protoreflect.BoolKind:
		if quoted || (text != "true" && text != "false") {
			return protoreflect.Value{}, wrong("true or false", value)
		}
	case kind != protoreflect.EnumKind && !quoted && value[0] != '-' && (value[0] < '0' || value[0] > '9'):
		return protoreflect.Value{}, wrong("a number", value)
	}
	v, ok := scalar(fd, text)
	if !ok {
		return v, wrong("a value of kind "+fd.Kind().String(), value)
	}
	return v, nil
}

// scalar reads the text of a scalar field.
func scalar(fd protoreflect.FieldDescriptor, text string) (protoreflect.Value, bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), true
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(text)
		return protoreflect.ValueOfBool(b), err == nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, ok := integer(text, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(n)), ok
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, ok := integer(text, math.MinInt64, math.MaxInt64)
		return protoreflect.ValueOfInt64(n), ok
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, ok := integer(text, 0, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(n)), ok
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, ok := integer(text, 0, math.MaxInt64)
		return protoreflect.ValueOfUint64(uint64(n)), ok
	case protoreflect.FloatKind:
		f, err := strconv.ParseFloat(text, 32)
		return protoreflect.ValueOfFloat32(float32(f)), err == nil
	case protoreflect.DoubleKind:
		f, err := strconv.ParseFloat(text, 64)
		return protoreflect.ValueOfFloat64(f), err == nil
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByName(protoreflect.Name(text)); e != nil {
			return protoreflect.ValueOfEnum(e.Number()), true
		}
		n, ok := integer(text, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), ok
	case protoreflect.BytesKind:
		encoding := base64.StdEncoding
		if strings.ContainsAny(text, "-_") {
			encoding = base64.URLEncoding
		}
		if len(text)%4 != 0 {
			encoding = encoding.WithPadding(base64.NoPadding)
		}
		data, err := encoding.DecodeString(text)
		return protoreflect.ValueOfBytes(data), err == nil
	default:
		return protoreflect.Value{}, false
	}
}

// integer reads a whole number; 1.0 and 1e3 are whole numbers too.
func integer(text string, low, high int64) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(text, 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return 0, false
		}
		n = int64(f)
	}
	return n, n >= low && n <= high
}

func wrong(want string, got []byte) error {
	kind := "a number"
	switch got[0] {
	case '{':
		kind = "an object"
	case '[':
		kind = "a list"
	case '"':
		kind = "a string"
	case 't', 'f':
		kind = "a boolean"
	case 'n':
		kind = "null"
	}
	return fmt.Errorf("wire: %s where %s is wanted", kind, want)
}

func unquote(quoted []byte) (string, error) {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), nil
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err
}

// The walkers below go over text that is known to be valid JSON.

// members calls do for every member of an object.
func members(object []byte, do func(name string, value []byte) error) error {
	i := space(object, 1)
	for object[i] != '}' {
		end := skip(object, i)
		name, err := unquote(object[i:end])
		if err != nil {
			return err
		}
		i = space(object, space(object, end)+1) // over the colon
		end = skip(object, i)
		if err := do(name, object[i:end]); err != nil {
			return err
		}
		if i = space(object, end); object[i] == ',' {
			i = space(object, i+1)
		}
	}
	return nil
}

// elements calls do for every element of a list.
func elements(list []byte, do func(element []byte) error) error {
	i := space(list, 1)
	for list[i] != ']' {
		end := skip(list, i)
		if err := do(list[i:end]); err != nil {
			return err
		}
		if i = space(list, end); list[i] == ',' {
			i = space(list, i+1)
		}
	}
	return nil
}

// space answers the first place from i that is no white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skip answers the place behind the value that begins at i.
func skip(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(b) && !strings.ContainsRune(",]} \n\t\r", rune(b[i])) {
			i++
		}
		return i
	}
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}
