package expr

import (
	"errors"
	"reflect"
	"testing"
)

func TestTemplate(t *testing.T) {
	for _, c := range []struct{ name, template, want string }{
		{"E01 alone keeps the type", `"${input.n}"`, `10`},
		{"E01 alone with space around", `" ${ input.items } "`, `["x","y"]`},
		{"E01 inside of a text", `"hello ${input.text}!"`, `"hello abc!"`},
		{"E01 two", `"${input.n}${input.text}"`, `"10abc"`},
		{"E01 a brace more is a text", `"${input.n}}"`, `"10}"`},
		{"E02 a missing member is left out", `{"message":"${input.text}","author":"${input.author}"}`, `{"message":"abc"}`},
		{"E02 deeper", `{"a":{"b":"${input.missing}","c":null}}`, `{"a":{"c":null}}`},
		{"E02 a list keeps its places", `["${input.missing}",1]`, `[null,1]`},
		{"E05 a million", `"${input.million} of them"`, `"1000000 of them"`},
		{"E05 a million with exponent", `"${input.e} of them"`, `"1000000 of them"`},
		{"E05 all digits", `"n=${input.big}"`, `"n=9007199254740993"`},
		{"E05 a fraction", `"n=${input.half}"`, `"n=0.5"`},
		{"E05 an object is JSON", `"o=${input.obj}"`, `"o={\"a\":[true,null],\"b\":1}"`},
		{"E05 JSON is not for HTML", `"o=${input.html}"`, `"o={\"a\":\"<&>\"}"`},
		{"E05 nothing is empty", `"[${input.missing}]"`, `"[]"`},
		{"E05 bool", `"${input.yes} ${input.flag}"`, `"true false"`},
		{"E14 keys stay", `{"${input.text}":1}`, `{"${input.text}":1}`},
		{"E14 other braces stay", `"{{input.text}} $x {y} $"`, `"{{input.text}} $x {y} $"`},
		{"E15 a whole object", `{"incident":"${item}"}`, `{"incident":{"k":"v"}}`},
		{"values that are no texts stay", `[1,true,null,{"a":9007199254740993}]`, `[1,true,null,{"a":9007199254740993}]`},
		{"expressions too", `{"many":"${length(input.items) > 1}"}`, `{"many":true}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := Template(tree(t, c.template), scope(t))
			if err != nil {
				t.Fatal(err)
			}
			if want := tree(t, c.want); !reflect.DeepEqual(got, want) {
				t.Errorf("%#v, want %#v", got, want)
			}
		})
	}
}

func TestTemplateErrors(t *testing.T) {
	for _, c := range []struct {
		name, template, want string
		is                   error
	}{
		{"E04 no closing brace", `{"message":"${input.name"}`, "/message: ${input.name: unterminated template expression", ErrUnterminated},
		{"E04 later in a text", `{"a/b":["x ${input.n} ${y"]}`, "/a~1b/0: x ${input.n} ${y: unterminated template expression", ErrUnterminated},
		{"E04 nothing", `"${}"`, "${}: empty expression", ErrEmpty},
		{"the first brace ends it", `"${'a}b'}"`, "${'a}b'}: text without its closing ' at 1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := tree(t, c.template)
			_, _, err := Template(v, scope(t))
			if err == nil || err.Error() != c.want || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if found := Check(v); len(found) != 1 || found[0].Error() != c.want {
				t.Errorf("Check: %v", found)
			}
		})
	}
}

func TestE02_OmittedMembersAreReported(t *testing.T) {
	_, omitted, err := Template(tree(t, `{"z":"${input.missing}","a":{"b~c":" ${ input.other } "},"text":"x${input.missing}"}`), scope(t))
	want := []Omitted{{"/a/b~0c", " ${ input.other } "}, {"/z", "${input.missing}"}}
	if err != nil || !reflect.DeepEqual(omitted, want) {
		t.Errorf("%v, %v", omitted, err)
	}
}

func TestTemplateLeavesItsSourceAlone(t *testing.T) {
	v := tree(t, `{"a":["${input.n}"],"b":"${input.missing}"}`)
	if _, _, err := Template(v, scope(t)); err != nil {
		t.Fatal(err)
	}
	if want := tree(t, `{"a":["${input.n}"],"b":"${input.missing}"}`); !reflect.DeepEqual(v, want) {
		t.Errorf("%v", v)
	}
}
