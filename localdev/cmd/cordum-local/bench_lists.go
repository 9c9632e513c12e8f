package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// few is how many entries a list has to whose figures those of a long one are compared.
const few = 1000

// listPage is a page of jobs or of dead letters.
type listPage struct {
	Items []struct {
		ID    string `json:"id"`
		JobID string `json:"job_id"`
	} `json:"items"`
	Next *int64 `json:"next_cursor"`
}

func (b *bench) page(ctx context.Context, path string, query url.Values) (listPage, error) {
	var p listPage
	err := b.client.Do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &p)
	return p, err
}

// lists measures lists of jobs, among few and among many: pages of 50 at the top and anywhere, of all and of one state; and filters that one
// job matches, the oldest of all.
func (b *bench) lists(ctx context.Context) error {
	dir, remove, err := benchDir()
	if err != nil {
		return err
	}
	defer remove()
	s, err := newSample(ctx)
	if err != nil {
		return err
	}
	times := newMoments(b.cmd.Jobs)
	there := 0
	for _, n := range slices.Compact([]int{min(few, b.cmd.Jobs), b.cmd.Jobs}) {
		began, from := time.Now(), there
		err := fill(ctx, dir, n-from, func(ctx context.Context, into *job.Store, i int) error { return s.listed(ctx, into, times, from+i) })
		if err != nil {
			return err
		}
		there = n
		b.line(fmt.Sprintf("fill_jobs_%d", n), time.Since(began).Seconds(), "s")
		if err := b.listsOf(ctx, dir, n, times); err != nil {
			return err
		}
	}
	return nil
}

const rareTopic = "job.demo.rare"

// listed writes the i-th job: most have succeeded, a tenth has failed, and the first ones are those that the rare filters find.
func (s *sample) listed(ctx context.Context, into *job.Store, times moments, i int) error {
	r, body := s.job(times.at(i))
	switch {
	case i == 0:
		r.Topic, body.Request.Topic = rareTopic, rareTopic
		end(r, job.Succeeded)
	case i == 1:
		end(r, job.Timeout)
	case i == 2:
		r.State, r.DueAt = job.ApprovalRequired, 0
	case i%10 == 3:
		end(r, job.Failed)
	default:
		end(r, job.Succeeded)
	}
	return into.Create(ctx, r, body, 0)
}

func (b *bench) listsOf(ctx context.Context, dir string, n int, times moments) error {
	p, err := b.start(ctx, dir)
	if err != nil {
		return err
	}
	defer p.stop()
	turn := 0
	err = b.measure(ctx, fmt.Sprintf("list_jobs_%d", n), 1, func(ctx context.Context) error {
		query := url.Values{}
		switch turn++; turn % 4 {
		case 1:
			query.Set("cursor", strconv.FormatInt(times.at(rand.IntN(n)), 10))
		case 2:
			query.Set("state", "FAILED")
		case 3:
			query.Set("topic", "job.demo.hash")
		}
		page, err := b.page(ctx, "/jobs", query)
		if err == nil && len(page.Items) < min(defaultJobs, n/20) && turn%4 != 1 {
			err = fmt.Errorf("%d jobs on the page of %v", len(page.Items), query)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, rare := range []struct{ name, filter, word string }{
		{"topic", "topic", rareTopic}, {"ended_state", "state", "TIMEOUT"}, {"waiting_state", "state", "APPROVAL_REQUIRED"},
	} {
		if err := b.rare(ctx, fmt.Sprintf("list_rare_%s_%d", rare.name, n), url.Values{rare.filter: {rare.word}}); err != nil {
			return err
		}
	}
	return nil
}

// defaultJobs is the size of a page of jobs.
const defaultJobs = 50

// rare measures how long it takes to follow a filter's pages to the one job that matches.
func (b *bench) rare(ctx context.Context, name string, query url.Values) error {
	var took []time.Duration
	pages := 0
	for range 5 {
		began := time.Now()
		query.Del("cursor")
		for pages = 1; ; pages++ {
			page, err := b.page(ctx, "/jobs", query)
			if err != nil {
				return err
			}
			if len(page.Items) == 1 {
				break
			}
			if len(page.Items) > 1 || page.Next == nil {
				return fmt.Errorf("%s: the page has %d jobs, and is the last: %v", name, len(page.Items), page.Next == nil)
			}
			query.Set("cursor", strconv.FormatInt(*page.Next, 10))
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.line(name, ms(took[len(took)/2]), "ms")
	b.line(name+"_pages", float64(pages), "pages")
	return nil
}

// letters measures the list of dead letters: pages of 100 at the top and anywhere, of all and of one reason.
func (b *bench) letters(ctx context.Context) error {
	s, err := newSample(ctx)
	if err != nil {
		return err
	}
	for _, n := range slices.Compact([]int{min(few, b.cmd.Dead), b.cmd.Dead}) {
		if err := b.lettersOf(ctx, s, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) lettersOf(ctx context.Context, s *sample, n int) error {
	dir, remove, err := benchDir()
	if err != nil {
		return err
	}
	defer remove()
	times := newMoments(n)
	err = fill(ctx, dir, n, func(ctx context.Context, into *job.Store, i int) error {
		r, body := s.job(times.at(i))
		end(r, job.Failed)
		return into.Create(ctx, r, body, 0, dlq.Of(r, r.Worker).Put(into.Shards))
	})
	if err != nil {
		return err
	}
	p, err := b.start(ctx, dir)
	if err != nil {
		return err
	}
	defer p.stop()
	turn := 0
	return b.measure(ctx, fmt.Sprintf("list_dead_letters_%d", n), 1, func(ctx context.Context) error {
		query := url.Values{}
		switch turn++; turn % 3 {
		case 1:
			query.Set("cursor", strconv.FormatInt(times.at(rand.IntN(n)), 10))
		case 2:
			query.Set("reason_code", "on_purpose")
		}
		page, err := b.page(ctx, "/dlq/page", query)
		if err == nil && len(page.Items) < min(100, n) && turn%3 != 1 {
			err = fmt.Errorf("%d dead letters on the page of %v", len(page.Items), query)
		}
		return err
	})
}

// sweep measures how fast the sweep does what is due: to send jobs again that nobody claimed, and to end jobs at their deadline.
func (b *bench) sweep(ctx context.Context) error {
	s, err := newSample(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		b.sweepOf(ctx, "sweep_send_again", s, func(*job.Record) {}),
		b.sweepOf(ctx, "sweep_deadline", s, func(r *job.Record) { r.DeadlineAt = r.DueAt }),
	)
}

func (b *bench) sweepOf(ctx context.Context, name string, s *sample, change func(*job.Record)) (err error) {
	dir, remove, err := benchDir()
	if err != nil {
		return err
	}
	defer remove()
	n := b.cmd.Due
	now := time.Now()
	err = fill(ctx, dir, n, func(ctx context.Context, into *job.Store, i int) error {
		r, body := s.job(now.Add(-time.Minute).UnixMicro() - int64(i)) // a submission is due again half a minute later
		change(r)
		return into.Create(ctx, r, body, 0)
	})
	if err != nil {
		return err
	}
	// Not started: nothing but the sweep runs, by the event that starts it.
	p, err := plane.Open(ctx, plane.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	f := p.Functions[slices.IndexFunc(p.Functions, func(f *plane.Function) bool { return f.Name == "sweep" })]
	began, looked := time.Now(), 0
	for looked < n {
		answer, err := f.Invoke(ctx, []byte(`{}`))
		if err != nil {
			return err
		}
		var done dispatch.Swept
		if err := json.Unmarshal(answer, &done); err != nil {
			return err
		}
		if done.Looked == 0 || done.Failed > 0 {
			return fmt.Errorf("%s: %d of %d due jobs were found, %d failed", name, looked, n, done.Failed)
		}
		looked += done.Looked
	}
	b.line(name+"_rate", float64(looked)/time.Since(began).Seconds(), "per_s")
	return nil
}
