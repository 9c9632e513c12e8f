package cordum

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryDoorSharesItsRates: a door that admits requests counts them together with all others. fallback has no table, and sweep admits nobody.
func TestEveryDoorSharesItsRates(t *testing.T) {
	alone := map[string]bool{"functions/fallback/lambda/main.go": true, "functions/sweep/lambda/main.go": true}
	doors, err := filepath.Glob("functions/*/*/main.go")
	if err != nil || len(doors) < 20 {
		t.Fatalf("%d doors: %v", len(doors), err)
	}
	shared := 0
	for _, door := range doors {
		text, err := os.ReadFile(door)
		if err != nil {
			t.Fatal(err)
		}
		admits, shares := strings.Contains(string(text), "boot.Edge("), strings.Contains(string(text), "edge.Gate.Share(")
		if admits != shares && !alone[filepath.ToSlash(door)] {
			t.Errorf("%s admits requests: %v, shares rates: %v", door, admits, shares)
		}
		if shares {
			shared++
		}
	}
	if shared < 15 {
		t.Errorf("%d doors share rates", shared)
	}
}
