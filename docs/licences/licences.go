// Package licences lists whose code this project stands on, and by which licence.
package licences

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Module is a module that is compiled into something of ours.
type Module struct {
	Path, Version string
	// Licence is its SPDX name.
	Licence string
	// Uses are the parts that it is in.
	Uses []string
}

// parts are what is delivered, and to whom. What only tests import is in none.
var parts = []struct{ name, packages string }{
	{"plane", "./functions/..."}, {"worker SDK", "./sdk/..."}, {"local plane", "./localdev/cmd/..."}, {"deployment", "./infra/..."},
}

// Allowed are the licences that a dependency may have. All of them let the code be used, changed and passed on, in a closed product too, with the notice.
var Allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// List reads them out of the module cache; root is the folder of our own module.
func List(root string) ([]Module, error) {
	all := map[string]*Module{}
	for _, part := range parts {
		modules, err := dependencies(root, part.packages)
		if err != nil {
			return nil, err
		}
		for path, m := range modules {
			if all[path] == nil {
				licence, err := licenceOf(m.Dir)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", path, err)
				}
				all[path] = &Module{Path: path, Version: m.Version, Licence: licence}
			}
			all[path].Uses = append(all[path].Uses, part.name)
		}
	}
	var list []Module
	for _, path := range slices.Sorted(maps.Keys(all)) {
		list = append(list, *all[path])
	}
	return list, nil
}

// module is what go says of one.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

// dependencies are the modules of all packages that some packages are compiled of.
func dependencies(root, packages string) (map[string]module, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Module", packages)                         //nolint:noctx // a list of a folder ends by itself
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0") // what is deployed, wherever this runs
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", packages, err, complaint.String())
	}
	found := map[string]module{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *module }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		m := *p.Module
		if m.Replace != nil {
			m.Version, m.Dir = m.Replace.Version, m.Replace.Dir
		}
		found[p.Module.Path] = m
	}
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].*)?$`)

// licenceOf reads the licence in a folder.
func licenceOf(dir string) (string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return "", err
		}
		if name := Name(string(text)); name != "" {
			return name, nil
		}
	}
	return "", errors.New("no licence that is known")
}

// Name tells a licence by what only it says; "" is one that is not known.
func Name(text string) string {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	says := func(words string) bool { return strings.Contains(text, words) }
	switch {
	case says("gnu general public license"), says("gnu lesser general"), says("gnu affero"):
		return ""
	case says("mozilla public license version 2.0"), says("mozilla public license, version 2.0"):
		return "MPL-2.0"
	case says("apache license version 2.0"), says("apache license, version 2.0"):
		return "Apache-2.0"
	case says("redistribution and use in source and binary forms") && (says("neither the name") || says("names of its contributors may not")):
		return "BSD-3-Clause"
	case says("redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case says("permission to use, copy, modify, and/or distribute this software"), says("permission to use, copy, modify, and distribute this software"):
		return "ISC"
	case says("permission is hereby granted, free of charge"):
		return "MIT"
	}
	return ""
}

// Document is docs/licences.md.
func Document(root string) (string, error) {
	list, err := List(root)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Licences of what this is built with\n\n")
	b.WriteString("Made by `make docs` from the module cache; a test says when it is old, and when a licence is none of " + strings.Join(Allowed, ", ") + ".\n")
	b.WriteString("What only tests import, and the tools of `tools/`, are delivered to nobody and are not listed.\n\n| module | version | licence | in |\n|---|---|---|---|\n")
	for _, m := range list {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Path, m.Version, m.Licence, strings.Join(m.Uses, ", "))
	}
	return b.String(), nil
}
