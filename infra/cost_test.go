package infra_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/infra"
)

// idleBudget is the most that a plane without the gRPC service may cost a month while nobody uses it, in dollars: next to nothing.
const idleBudget = 16.0

// TestIdleCost prints what a plane costs while nobody uses it, as its templates say, with and without the gRPC service.
func TestIdleCost(t *testing.T) {
	made, err := planes()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"default", "most"} {
		bill := infra.IdleBill(made[name].app)
		slices.SortFunc(bill, func(a, b infra.Charge) int { return strings.Compare(a.Stack+a.What, b.Stack+b.What) })
		grpc, rest := 0.0, 0.0
		for _, c := range bill {
			fmt.Printf("cost idle %-8s %-20s %7d %-42s %7.2f usd_a_month\n", name, c.Stack, c.Count, c.What, c.Dollars)
			if strings.HasSuffix(c.Stack, "-grpc") && !strings.Contains(c.What, "alarms") {
				grpc += c.Dollars
			} else {
				rest += c.Dollars
			}
		}
		fmt.Printf("cost idle %-8s without_grpc %.2f usd_a_month with_grpc %.2f usd_a_month\n", name, rest, rest+grpc)
		if want := infra.IdleCost(made[name].p); math.Abs(grpc-want) > 0.01 {
			t.Errorf("%s: the templates say that the gRPC stack costs %.2f, its output says %.2f", name, grpc, want)
		}
		if name == "default" && rest > idleBudget {
			t.Errorf("a plane that idles costs %.2f dollars a month without the gRPC service, the budget is %.2f", rest, idleBudget)
		}
	}
}
