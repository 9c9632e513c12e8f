package resources_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// TestEveryFolderIsAFunction: a folder with a door is a function of the list, and the other way round.
func TestEveryFolderIsAFunction(t *testing.T) {
	doors, err := filepath.Glob("../../../functions/*/lambda/main.go")
	if err != nil || len(doors) == 0 {
		t.Fatal(doors, err)
	}
	var folders, listed []string
	for _, d := range doors {
		folders = append(folders, filepath.Base(filepath.Dir(filepath.Dir(d))))
	}
	for _, f := range resources.Functions {
		listed = append(listed, f.Name)
	}
	if !slices.Equal(folders, listed) {
		t.Errorf("folders %v, listed %v", folders, listed)
	}
	if _, err := os.Stat("../../../functions/grpc/container/main.go"); err != nil {
		t.Error(err)
	}
}

// TestEveryFunctionHasOneCause: exactly one thing starts a function, and every source's function exists.
func TestEveryFunctionHasOneCause(t *testing.T) {
	for _, f := range resources.Functions {
		causes := 0
		for _, c := range []bool{f.Service != "", f.Default, f.Sockets, f.Every > 0, f.Setup, len(resources.SourcesOf(f.Name)) > 0} {
			if c {
				causes++
			}
		}
		if causes != 1 {
			t.Errorf("%s has %d causes", f.Name, causes)
		}
	}
	for _, s := range resources.Sources {
		if _, ok := resources.FunctionNamed(s.Function); !ok {
			t.Errorf("queue %s drives %s, which is no function", s.Queue, s.Function)
		}
	}
}

// TestQueuesHideLongEnough: AWS asks for six times the timeout of the function that a queue drives.
func TestQueuesHideLongEnough(t *testing.T) {
	defs := resources.Queues("p")
	for _, s := range resources.Sources {
		f, _ := resources.FunctionNamed(s.Function)
		i := slices.IndexFunc(defs, func(d queue.Def) bool { return d.Name == s.Queue })
		if i < 0 {
			t.Errorf("%s is not defined", s.Queue)
			continue
		}
		if defs[i].Visibility < 6*f.Timeout {
			t.Errorf("%s hides for %v, %s runs for up to %v", s.Queue, defs[i].Visibility, s.Function, f.Timeout)
		}
	}
}

// TestEveryTargetExists: a grant names a queue, an index or a prefix that there is.
func TestEveryTargetExists(t *testing.T) {
	named := map[resources.Kind][]string{
		resources.Objects: {resources.ArtifactObjects, resources.PolicyObjects, resources.ContextObjects, resources.ResultObjects, resources.AuditObjects, resources.WorkflowObjects, resources.ConfigObjects, resources.RunObjects},
	}
	for _, d := range resources.Queues() {
		named[resources.AQueue] = append(named[resources.AQueue], d.Name)
	}
	for _, i := range resources.Indexes {
		named[resources.AnIndex] = append(named[resources.AnIndex], string(i.Name))
	}
	all := slices.Clone(resources.Container.Grants)
	for _, f := range resources.Functions {
		all = append(all, f.Grants...)
	}
	for _, g := range all {
		if names, has := named[g.On.Kind]; has != (g.On.Name != "") || has && !slices.Contains(names, g.On.Name) {
			t.Errorf("%v on %+v: there is no such resource", g.Actions, g.On)
		}
	}
}
