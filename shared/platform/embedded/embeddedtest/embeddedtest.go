// Package embeddedtest is the platform that tests of what stands on the ports begin with.
package embeddedtest

import (
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/embedded"
)

// Open opens an empty platform in memory, which is closed at the end of the test.
func Open(t testing.TB) *embedded.Platform {
	t.Helper()
	p, err := embedded.Open("", embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}
