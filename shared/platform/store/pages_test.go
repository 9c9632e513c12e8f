package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// paged answers pages; nil is an error. It counts how often it was asked.
type paged struct {
	store.Table

	pages [][]string
	asked int
}

var errPage = errors.New("no page")

func (p *paged) Query(_ context.Context, q store.Query) (store.Page, error) {
	if want := len(q.Start); want != p.asked {
		return store.Page{}, errors.New("asked for another page than the next")
	}
	p.asked++
	some := p.pages[p.asked-1]
	if some == nil {
		return store.Page{}, errPage
	}
	var page store.Page
	for _, sk := range some {
		page.Items = append(page.Items, store.Item{Key: store.Key{PK: "p", SK: sk}})
	}
	if p.asked < len(p.pages) {
		page.Next = "xxxxxxxxxx"[:p.asked]
	}
	return page, nil
}

func TestItems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pages [][]string
		most  int
		want  []string
		asked int
		err   error
	}{
		"one page":           {[][]string{{"a", "b"}}, 9, []string{"a", "b"}, 1, nil},
		"nothing":            {[][]string{{}}, 9, nil, 1, nil},
		"empty pages":        {[][]string{{}, {"a"}, {}, {"b"}, {}}, 9, []string{"a", "b"}, 5, nil},
		"enough":             {[][]string{{"a", "b"}, {"c"}, {"d"}}, 3, []string{"a", "b", "c"}, 2, nil},
		"enough in one page": {[][]string{{"a", "b"}, {"c"}}, 1, []string{"a"}, 1, nil},
		"an error":           {[][]string{{"a"}, nil, {"b"}}, 9, []string{"a"}, 2, errPage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := &paged{pages: c.pages}
			var got []string
			var failed error
			for it, err := range store.Items(t.Context(), table, store.Query{PK: "p"}) {
				if err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				if got = append(got, it.SK); len(got) == c.most {
					break
				}
			}
			if !slices.Equal(got, c.want) || table.asked != c.asked || !errors.Is(failed, c.err) {
				t.Fatalf("got %q after %d pages and %v", got, table.asked, failed)
			}
		})
	}
}
