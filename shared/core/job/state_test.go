package job_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/job"
)

// The matrix of core.md 1.4, read with the truthful states of api.md 2.0. y and n are as the table has them. Capital letters are where
// this plane differs, on purpose: Y is added, N is a move that skipped the hand-over to a worker and that nothing here makes.
const matrix = `
from              PEND APPR SCHE DISP RUNN SUCC FAIL CANC TIME DENY
-                 y    y    y    N    N    n    y    n    n    Y
PENDING           y    y    y    N    N    n    y    y    y    y
APPROVAL_REQUIRED y    y    y    N    N    Y    y    y    y    y
SCHEDULED         Y    Y    y    y    N    N    y    y    y    y
DISPATCHED        n    n    Y    y    y    y    y    y    y    n
RUNNING           n    n    Y    n    y    y    y    y    y    n
SUCCEEDED         n    n    n    n    n    y    n    n    n    n
FAILED            n    n    n    n    n    n    y    n    n    n
CANCELLED         n    n    n    n    n    n    n    y    n    n
TIMEOUT           n    n    n    n    n    n    n    n    y    n
DENIED            n    n    n    n    n    n    n    n    n    y
`

func TestT029_EveryCellOfTheStateMachine(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(matrix), "\n")[1:]
	if len(lines) != len(job.States)+1 {
		t.Fatalf("the matrix has %d rows for %d states", len(lines), len(job.States))
	}
	for _, line := range lines {
		cells := strings.Fields(line)
		from := job.State(strings.TrimPrefix(cells[0], "-"))
		for i, to := range job.States {
			want := strings.EqualFold(cells[i+1], "y")
			if got := job.May(from, to); got != want {
				t.Errorf("%q -> %q: %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestT030_NothingLeavesAnEnd(t *testing.T) {
	for _, tr := range job.Transitions {
		if tr.From != "" && tr.From.Terminal() {
			t.Errorf("%s -> %s leaves an end", tr.From, tr.To)
		}
	}
}

func TestEveryStateIsReachedAndHasAWayOut(t *testing.T) {
	for _, s := range job.States {
		if s.Terminal() {
			continue
		}
		if !job.May(s, job.Cancelled) || !job.May(s, job.Timeout) {
			t.Errorf("%s cannot be cancelled or time out", s)
		}
	}
}

func TestDiagramIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != job.Document() {
		t.Error("docs/states.md is not what the table of transitions says: run `make docs`")
	}
}
