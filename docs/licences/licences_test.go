package licences_test

import (
	"os"
	"slices"
	"testing"

	"github.com/cordum-serverless/cordum/docs/licences"
)

func TestLicences(t *testing.T) {
	list, err := licences.List("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 40 {
		t.Errorf("only %d modules: the list is broken", len(list))
	}
	for _, m := range list {
		if !slices.Contains(licences.Allowed, m.Licence) {
			t.Errorf("%s has the licence %q", m.Path, m.Licence)
		}
	}
	want, err := licences.Document("../..")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("../licences.md"); err != nil || string(got) != want {
		t.Errorf("docs/licences.md is old: make docs (%v)", err)
	}
}

func TestNamesOfLicences(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                                                             "Apache-2.0",
		"Permission is hereby granted, free\nof charge":                                                            "MIT",
		"Redistribution and use in source and binary forms ... Neither the name of":                                "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                                                        "BSD-2-Clause",
		"GNU GENERAL PUBLIC LICENSE Version 3 ... Permission is hereby granted, free of charge":                    "",
		"GNU Affero General Public License":                                                                        "",
		"All rights reserved.":                                                                                     "",
		"Mozilla Public License Version 2.0":                                                                       "MPL-2.0",
		"Permission to use, copy, modify, and distribute this software for any purpose with or without fee is ...": "ISC",
	} {
		if got := licences.Name(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
