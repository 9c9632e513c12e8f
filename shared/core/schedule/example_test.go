package schedule_test

import (
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

func ExampleTopology_Route() {
	topology, err := schedule.ParsePools([]byte("topics: {job.code: [gpu, cpu]}\npools: {gpu: {requires: [cuda]}}"))
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	fleet := schedule.Fleet{Now: now, Workers: []schedule.Worker{
		{ID: "w1", Pool: "cpu", Tenant: "acme", MaxParallelJobs: 4, LastHeartbeat: now.Add(-5 * time.Second)},
	}}
	for _, job := range []schedule.Job{
		{Topic: "job.code", Tenant: "acme"},
		{Topic: "job.code", Tenant: "acme", Requires: []string{"CUDA"}},
		{Topic: "job.mail", Tenant: "acme"},
	} {
		routing, err := topology.Route(job, fleet)
		fmt.Println(routing.Pool, err)
	}
	// Output:
	// cpu <nil>
	// gpu <nil>
	//  no_pool_mapping: topic "job.mail"
}
