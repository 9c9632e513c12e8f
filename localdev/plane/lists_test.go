package plane_test

import (
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// TestAFilterReadsWhatItShows: the sort keys tell what a filter wants, so jobs that it does not show are not read.
func TestAFilterReadsWhatItShows(t *testing.T) {
	meter := &store.Meter{}
	cfg := config()
	cfg.Meter, cfg.Sweep = meter, time.Hour
	virtually(t, cfg, func(t *testing.T, r *rig) {
		rare := r.submit("topic", "job.test.ask", "team_id", "rare").JobID
		r.post("/api/v1/jobs/"+rare+"/cancel", nil).ok(200)
		for range 400 {
			r.submit("topic", "job.test.wipe", "team_id", "usual")
		}
		time.Sleep(90 * time.Second) // the sealer runs every minute
		read := func(query string, rows int) store.Usage {
			before := meter.Read()
			var page struct{ Items []map[string]any }
			r.get("/api/v1/jobs?" + query).json(&page)
			if len(page.Items) != rows {
				t.Errorf("%q shows %d jobs, not %d", query, len(page.Items), rows)
			}
			return meter.Read().Since(before)
		}
		all := read("limit=20", 20).ReadUnits
		for _, query := range []string{"state=CANCELLED", "topic=job.test.ask", "team=rare", "state=cancelled&topic=job.test.ask&team=rare"} {
			if units := read(query, 1).ReadUnits; units > all {
				t.Errorf("%q reads %v units, a page of 20 jobs %v", query, units, all)
			}
		}
		for _, query := range []string{"state=DENIED", "topic=job.test.wipe", "team=usual"} {
			if units := read(query+"&limit=20", 20).ReadUnits; units > all+2 {
				t.Errorf("%q reads %v units, a page of 20 jobs %v", query, units, all)
			}
		}
		for _, query := range []string{"state=TIMEOUT", "state=DENIED&team=rare", "state=CANCELLED&topic=job.test.wipe"} {
			read(query, 0)
		}
	})
}
