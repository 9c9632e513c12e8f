package turn_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tn turn.Turn
		inside, most, done := 0, 0, make(chan error, 10)
		for range 10 {
			go func() {
				err := tn.Take(t.Context())
				inside++
				most = max(most, inside)
				synctest.Wait() // everybody else waits for the turn
				inside--
				tn.Give()
				done <- err
			}()
		}
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if most != 1 {
			t.Errorf("%d at a time", most)
		}
	})
}

func TestWaitingCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tn turn.Turn
		if err := tn.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error)
		go func() { answer <- tn.Take(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("answered %v", err)
		}
		tn.Give()
		if err := tn.Take(t.Context()); err != nil {
			t.Errorf("after it was given back: %v", err)
		}
	})
}
