package embedded

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// An item is stored as one flat JSON object, so that any SQLite client reads it (`SELECT item ->> 'st' FROM items`): attributes, index keys
// and expiry side by side under the names that they have in DynamoDB. Bytes are {"text": ...} where they are text and {"base64": ...}
// where they are not. Own code writes and reads it: a job's state in 1.1 and 1.8 microseconds. A binary form took 0.2 and 1.3, which is
// not worth a file that nobody can read; encoding/json took 2.2 and 4.3.

const hexDigits = "0123456789abcdef"

// encode appends the JSON of an item without its table keys, which are columns.
func encode(b []byte, it *store.Item) []byte {
	b = append(b, '{')
	for _, index := range store.Indexes {
		if entry := it.Index[index]; entry != (store.Key{}) {
			pk, sk := index.KeyNames()
			b = appendText(appendName(b, pk), entry.PK)
			b = appendText(appendName(b, sk), entry.SK)
		}
	}
	if it.Expires != 0 {
		b = strconv.AppendInt(appendName(b, store.AttrExpires), it.Expires, 10)
	}
	for _, name := range slices.Sorted(maps.Keys(it.Attrs)) {
		b = appendValue(appendName(b, name), it.Attrs[name])
	}
	return append(b, '}')
}

func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(appendText(b, name), ':')
}

func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendText(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case bool:
		return strconv.AppendBool(b, v)
	case []byte:
		if utf8.Valid(v) {
			return append(appendText(append(b, `{"text":`...), string(v)), '}')
		}
		b = append(b, `{"base64":"`...)
		return append(base64.StdEncoding.AppendEncode(b, v), `"}`...)
	}
	panic(fmt.Sprintf("embedded: attribute of type %T came past CheckOps", value))
}

// appendText writes a JSON string; only what must be is escaped.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	return append(append(b, s[start:]...), '"')
}

// decode reads what encode wrote. Values are slices of the text where they can be.
func decode(key store.Key, text string) (*store.Item, error) {
	d := decoder{text: text}
	it := &store.Item{Key: key, Attrs: store.Attrs{}}
	d.expect('{')
	for d.peek() == '"' {
		name := d.string()
		d.expect(':')
		d.member(it, name)
		if d.peek() != ',' {
			break
		}
		d.expect(',')
	}
	d.expect('}')
	if d.failed || d.pos != len(text) {
		return nil, storageFailed(fmt.Errorf("item %v is not as it was written, near byte %d", key, d.pos))
	}
	return it, nil
}

type decoder struct {
	text   string
	pos    int
	failed bool
}

// fail ends decoding: nothing follows the end.
func (d *decoder) fail() {
	d.failed = true
	d.pos = len(d.text)
}

func (d *decoder) peek() byte {
	if d.pos < len(d.text) {
		return d.text[d.pos]
	}
	return 0
}

func (d *decoder) expect(c byte) {
	if d.peek() != c {
		d.fail()
		return
	}
	d.pos++
}

func (d *decoder) member(it *store.Item, name string) {
	if name == store.AttrExpires {
		it.Expires = d.number()
		return
	}
	for _, index := range store.Indexes {
		pk, sk := index.KeyNames()
		if name != pk && name != sk {
			continue
		}
		if it.Index == nil {
			it.Index = make(map[store.Index]store.Key, len(store.Indexes))
		}
		entry := it.Index[index]
		if name == pk {
			entry.PK = d.string()
		} else {
			entry.SK = d.string()
		}
		it.Index[index] = entry
		return
	}
	it.Attrs[name] = d.value()
}

func (d *decoder) value() any {
	switch d.peek() {
	case '"':
		return d.string()
	case 't':
		d.word("true")
		return true
	case 'f':
		d.word("false")
		return false
	case '{':
		return d.bytes()
	}
	return d.number()
}

func (d *decoder) word(w string) {
	if !strings.HasPrefix(d.text[d.pos:], w) {
		d.fail()
		return
	}
	d.pos += len(w)
}

func (d *decoder) number() int64 {
	end := d.pos
	for end < len(d.text) && (d.text[end] == '-' || d.text[end] >= '0' && d.text[end] <= '9') {
		end++
	}
	n, err := strconv.ParseInt(d.text[d.pos:end], 10, 64)
	if err != nil {
		d.fail()
		return 0
	}
	d.pos = end
	return n
}

func (d *decoder) bytes() []byte {
	d.expect('{')
	kind := d.string()
	d.expect(':')
	text := d.string()
	d.expect('}')
	if kind == "text" {
		return []byte(text)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || kind != "base64" {
		d.fail()
	}
	return raw
}

func (d *decoder) string() string {
	d.expect('"')
	rest := d.text[d.pos:]
	end := strings.IndexByte(rest, '"')
	if end < 0 {
		d.fail()
		return ""
	}
	if strings.IndexByte(rest[:end], '\\') < 0 {
		d.pos += end + 1
		return rest[:end]
	}
	return d.escaped()
}

// escaped reads the rest of a string that has escapes.
func (d *decoder) escaped() string {
	var b strings.Builder
	for {
		next := strings.IndexAny(d.text[d.pos:], `"\`)
		if next < 0 || d.pos+next+1 >= len(d.text) && d.text[d.pos+next] == '\\' {
			d.fail()
			return ""
		}
		b.WriteString(d.text[d.pos : d.pos+next])
		d.pos += next + 1
		if d.text[d.pos-1] == '"' {
			return b.String()
		}
		c, err := d.escape()
		if err != nil {
			d.fail()
			return ""
		}
		b.WriteByte(c)
	}
}

var errEscape = errors.New("escape that encode does not write")

// escape reads what follows a backslash.
func (d *decoder) escape() (byte, error) {
	c := d.text[d.pos]
	d.pos++
	switch c {
	case '"', '\\':
		return c, nil
	case 'n':
		return '\n', nil
	case 't':
		return '\t', nil
	case 'r':
		return '\r', nil
	case 'u':
		if d.pos+4 > len(d.text) {
			return 0, errEscape
		}
		n, err := strconv.ParseUint(d.text[d.pos:d.pos+4], 16, 8)
		d.pos += 4
		return byte(n), err
	}
	return 0, errEscape
}
