package stack_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/recorder"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// The real sealer seals on what is AWS, within what its role grants, and the trail can be verified there.
func TestTheAuditTrailIsSealed(t *testing.T) {
	r := open(t)
	const jobs = 5
	for range jobs {
		r.submit("demo", "job.demo.wordcount", nil)
	}
	for until := time.Now().Add(chain.Lag + time.Minute); ; time.Sleep(time.Second) {
		v := chain.Verifier{Table: r.Platform.Table, Blobs: r.Platform.Blobs, Now: time.Now()}
		verdict, err := v.Run(t.Context())
		if err != nil || len(verdict.Findings) > 0 {
			t.Fatalf("findings %v, %v", verdict.Findings, err)
		}
		if verdict.Sealed == jobs && verdict.Waiting == 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d are sealed, %d wait", verdict.Sealed, verdict.Waiting)
		}
	}
	time.Sleep(5 * time.Second) // it looks up what it has sealed
	sealer := slices.DeleteFunc(slices.Clone(resources.Functions), func(f resources.Function) bool { return f.Name != "sealer" })
	used := slices.DeleteFunc(r.Used(), func(u recorder.Use) bool { return u.Caller != "sealer" })
	for _, f := range recorder.Compare(sealer, resources.ContainerDef{}, used) {
		if f.Problem != recorder.ProvenAfter { // the suite has no time for an entry to be a minute old; this test does
			t.Error(f)
		}
	}
}
