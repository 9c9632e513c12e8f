package store

import (
	"context"
	"iter"
)

// Pages goes through the pages of a query, from its Start to the end; some may be empty. It ends with the first error, and reads no page that nobody asks
// for.
func Pages(ctx context.Context, t Table, q Query) iter.Seq2[[]Item, error] {
	return func(yield func([]Item, error) bool) {
		for {
			page, err := t.Query(ctx, q)
			if !yield(page.Items, err) || err != nil || page.Next == "" {
				return
			}
			q.Start = page.Next
		}
	}
}

// Items goes through the items of a query, whatever pages they come in. It ends with the first error, which comes with no item.
func Items(ctx context.Context, t Table, q Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for page, err := range Pages(ctx, t, q) {
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, it := range page {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
}
