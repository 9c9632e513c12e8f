package store

import (
	"context"
	"errors"
)

// conflictTries is how often a transaction that collided with another is tried.
const conflictTries = 5

// Transact is Write, tried again where it collided with another transaction: the conditions say whether it still holds.
func Transact(ctx context.Context, t Table, ops ...Op) error {
	var err error
	for range conflictTries {
		if err = t.Write(ctx, ops...); !errors.Is(err, ErrConflict) {
			break
		}
	}
	return err
}

// Overtaken says that others wrote first: a condition did not hold, or a transaction collided. Who made the write of what it read must read again.
func Overtaken(err error) bool {
	_, lost := errors.AsType[*ConditionError](err)
	return lost || errors.Is(err, ErrConflict)
}
