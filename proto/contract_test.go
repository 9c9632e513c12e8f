package proto_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

const generated = "sdk/gen/go/cordum"

// The tools run from the repository, like generate.sh. That they read the contract is hidden from the test cache, so the test opens what
// they read.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	for _, dir := range []string{".", "cordum"} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			_, err = os.ReadFile(path)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = ".."
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func buf(t *testing.T, args ...string) {
	t.Helper()
	tool(t, "go", append([]string{"tool", "-modfile=proto/tools.mod", "buf"}, args...)...)
}

func TestGeneratedCodeIsCurrent(t *testing.T) {
	out := t.TempDir()
	tool(t, "./proto/generate.sh", out)
	want, have := files(t, filepath.Join(out, generated)), files(t, filepath.Join("..", generated))
	if len(want) == 0 {
		t.Fatal("nothing was generated")
	}
	for name, text := range want {
		if !bytes.Equal(text, have[name]) {
			t.Errorf("%s/%s is not what the contract says: run make proto", generated, name)
		}
	}
	for name := range have {
		if want[name] == nil {
			t.Errorf("%s/%s is not generated any more: run make proto", generated, name)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(out, "proto/gen-openapi/cordum.swagger.json")); err != nil || len(raw) == 0 {
		t.Errorf("no OpenAPI document: %v", err)
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestContractIsTidy(t *testing.T) {
	t.Run("lint", func(t *testing.T) { buf(t, "lint", "proto") })
	t.Run("format", func(t *testing.T) { buf(t, "format", "proto", "--diff", "--exit-code") })
}

// Everything is commented, and comments of messages, services and methods begin with the name, since they become the API reference.
func TestEverythingIsCommented(t *testing.T) {
	registry := described(t)
	seen := 0
	registry.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(file.Path(), "cordum/") {
			for _, d := range declarations(file) {
				seen++
				comment := strings.TrimSpace(file.SourceLocations().ByDescriptor(d).LeadingComments)
				if comment == "" {
					t.Errorf("%s has no comment", d.FullName())
				}
				if named(d) && !strings.HasPrefix(comment, string(d.Name())+" ") {
					t.Errorf("the comment of %s begins with %.20q", d.FullName(), comment)
				}
				if !slices.Contains([]string{".", ")", ":"}, comment[max(0, len(comment)-1):]) {
					t.Errorf("the comment of %s does not end: %q", d.FullName(), comment)
				}
			}
		}
		return true
	})
	if seen < 1000 {
		t.Errorf("only %d declarations were looked at", seen)
	}
}

// described builds the contract with its comments.
func described(t *testing.T) *protoregistry.Files {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image.binpb")
	buf(t, "build", "proto", "--as-file-descriptor-set", "-o", image)
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	registry, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	return registry
}

// commented answers the fields of cordum.v1 with their comments.
func commented(t *testing.T) map[protoreflect.FieldDescriptor]string {
	t.Helper()
	all := map[protoreflect.FieldDescriptor]string{}
	described(t).RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() == "cordum.v1" {
			for m := range each(file.Messages()) {
				for f := range each(m.Fields()) {
					all[f] = file.SourceLocations().ByDescriptor(f).LeadingComments
				}
			}
		}
		return true
	})
	return all
}

func named(d protoreflect.Descriptor) bool {
	switch d.(type) {
	case protoreflect.MessageDescriptor, protoreflect.EnumDescriptor, protoreflect.ServiceDescriptor, protoreflect.MethodDescriptor:
		return true
	}
	return false
}

// declarations answers all that a file declares, except the messages that maps are made of.
func declarations(file protoreflect.FileDescriptor) []protoreflect.Descriptor {
	var all []protoreflect.Descriptor
	for m := range each(file.Messages()) {
		all = append(all, m)
		for f := range each(m.Fields()) {
			all = append(all, f)
		}
		for o := range each(m.Oneofs()) {
			if !o.IsSynthetic() {
				all = append(all, o)
			}
		}
	}
	for e := range each(file.Enums()) {
		all = append(all, e)
		for v := range each(e.Values()) {
			all = append(all, v)
		}
	}
	for s := range each(file.Services()) {
		all = append(all, s)
		for m := range each(s.Methods()) {
			all = append(all, m)
		}
	}
	for x := range each(file.Extensions()) {
		all = append(all, x)
	}
	return all
}

// each makes a list of descriptors iterable.
func each[D any](list interface {
	Len() int
	Get(i int) D
},
) func(yield func(D) bool) {
	return func(yield func(D) bool) {
		for i := range list.Len() {
			if !yield(list.Get(i)) {
				return
			}
		}
	}
}
