// Package rules holds what must be true of the CloudFormation templates of a plane, each rule a function from templates to findings. It knows
// nothing of how the templates were made.
package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// App is the templates of one plane.
type App struct{ Stacks []Stack }

// Stack is one template.
type Stack struct {
	Name      string
	Resources map[string]Resource
}

// Resource is one resource of a template.
type Resource struct {
	Type           string
	Properties     map[string]any
	Metadata       map[string]any
	DeletionPolicy string
	// ID and Stack say where it stands.
	ID, Stack string
}

// Finding is something that should not be so.
type Finding struct{ Where, What string }

func (f Finding) String() string { return f.Where + ": " + f.What }

// Load reads the templates of a cloud assembly's folder.
func Load(folder string) (App, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.template.json"))
	if err != nil || len(files) == 0 {
		return App{}, fmt.Errorf("no templates in %s", folder)
	}
	var app App
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return App{}, err
		}
		s, err := Parse(strings.TrimSuffix(filepath.Base(f), ".template.json"), text)
		if err != nil {
			return App{}, err
		}
		app.Stacks = append(app.Stacks, s)
	}
	return app, nil
}

// Parse reads one template.
func Parse(name string, text []byte) (Stack, error) {
	s := Stack{Name: name}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	for id, r := range s.Resources {
		r.ID, r.Stack = id, name
		s.Resources[id] = r
	}
	return s, nil
}

// Of answers the resources of some types, in a fixed order.
func (a App) Of(types ...string) []Resource {
	var found []Resource
	for _, s := range a.Stacks {
		for _, id := range slices.Sorted(maps.Keys(s.Resources)) {
			if r := s.Resources[id]; slices.Contains(types, r.Type) {
				found = append(found, r)
			}
		}
	}
	return found
}

// Name is what people call a resource: the name that it was given, else its id.
func (r Resource) Name() string {
	for _, property := range []string{"FunctionName", "QueueName", "TableName", "BucketName", "LogGroupName", "AlarmName", "Name"} {
		if s, ok := r.Properties[property].(string); ok {
			return s
		}
	}
	return r.ID
}

func (r Resource) finding(format string, args ...any) Finding {
	return Finding{r.Stack + "/" + r.ID, fmt.Sprintf(format, args...)}
}

// Reason answers the reason that a resource states for one rule or statement; "" is none.
func (r Resource) Reason(of string) string {
	reasons, _ := r.Metadata["Reasons"].(map[string]any)
	reason, _ := reasons[of].(string)
	return strings.TrimSpace(reason)
}

// At descends into properties by a path of names and positions; nil when there is nothing.
func (r Resource) At(path ...any) any { return at(r.Properties, path...) }

func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				return nil
			}
			v = l[step]
		}
	}
	return v
}

func number(v any) float64 {
	n, _ := v.(float64)
	return n
}

func list(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	if v == nil {
		return nil
	}
	return []any{v}
}

// Text writes a value as far as it is known before deployment: what is not stays as ${...}.
func Text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		if join, ok := v["Fn::Join"].([]any); ok && len(join) == 2 {
			var parts []string
			for _, p := range list(join[1]) {
				parts = append(parts, Text(p))
			}
			return strings.Join(parts, Text(join[0]))
		}
		if ref, ok := v["Ref"].(string); ok {
			return "${" + ref + "}"
		}
		if get, ok := v["Fn::GetAtt"].([]any); ok && len(get) == 2 {
			return "${" + Text(get[0]) + "." + Text(get[1]) + "}"
		}
		if sub, ok := v["Fn::Sub"].(string); ok {
			return sub
		}
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// Target answers the resource that an ARN, a name or a reference in a resource of some stack means; ok is false when none of the app does.
func (a App) Target(stack string, v any, types ...string) (Resource, bool) {
	text := Text(v)
	if inner, ok := strings.CutPrefix(text, "${"); ok {
		id, _, _ := strings.Cut(strings.TrimSuffix(inner, "}"), ".")
		for _, r := range a.Of(types...) {
			if r.Stack == stack && r.ID == id {
				return r, true
			}
		}
	}
	name := text[strings.LastIndexAny(text, ":/")+1:]
	for _, r := range a.Of(types...) {
		if r.Name() == name {
			return r, true
		}
	}
	return Resource{}, false
}
