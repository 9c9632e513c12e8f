package pack_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/pack/overlay"
)

// The pack of docs/packs.md is one.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/packs.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, b := range regexp.MustCompile("(?s)```(?:yaml|json) file=(\\S+)\n(.*?)```").FindAllSubmatch(guide, -1) {
		all[string(b[1])] = b[2]
	}
	p := parse(t, all)
	if len(all) != 6 || len(p.Schemas) != 1 || len(p.Workflows) != 1 || len(p.Config) != 2 || len(p.Policy) != 1 || len(p.Tests.PolicySimulations) != 1 {
		t.Errorf("%d files, %+v", len(all), p)
	}
	if err := overlay.Validate(p.Metadata.ID, p.Config, nil); err != nil {
		t.Error(err)
	}
}
