package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Settings is what scheduling takes from the configuration document system/default. It is immutable.
type Settings struct {
	// Topology is never nil; without a pools section it routes nothing.
	Topology  *Topology
	Timeouts  Timeouts
	Limits    Limits
	Placement Placement
}

// ParseSettings compiles the data of the document: the members pools, timeouts, limits, rate_limits and placement; others are not looked
// at. A member that is missing or null has its default. One that is not valid keeps what previous has, which may be nil for the defaults,
// and is reported; the others take effect all the same. Of timeouts only the entry of a topic or workflow is passed over that is not valid, which is
// reported as an Entry: each pack has its own there, and one must not be in another's way. The Settings are never nil.
func ParseSettings(raw []byte, previous *Settings) (*Settings, []error) {
	if previous == nil {
		previous = &Settings{Topology: &Topology{}, Placement: DefaultPlacement}
	}
	var data map[string]json.RawMessage
	if err := json.Unmarshal(raw, &data); err != nil {
		return previous, []error{fmt.Errorf("system/default: data is not a JSON object: %w", err)}
	}
	var problems []error
	timeouts := func(raw []byte) (Timeouts, error) {
		return parseTimeouts(raw, func(err error) { problems = append(problems, Entry{fmt.Errorf("timeouts: %w", err)}) })
	}
	return &Settings{
		// Not ParsePools: the last pack that is uninstalled leaves no topics, and then nothing is routed any more.
		Topology:  section(&problems, "pools", data["pools"], parsePools, &Topology{}, previous.Topology),
		Timeouts:  section(&problems, "timeouts", data["timeouts"], timeouts, Timeouts{}, previous.Timeouts),
		Limits:    section(&problems, "limits", raw, ParseLimits, Limits{}, previous.Limits),
		Placement: section(&problems, "placement", data["placement"], parsePlacement, DefaultPlacement, previous.Placement),
	}, problems
}

// Entry is what is wrong with one entry of a section, which is passed over; the rest of the section takes effect.
type Entry struct{ error }

// Unwrap answers what is wrong.
func (e Entry) Unwrap() error { return e.error }

// Refused are those of the problems for which a whole section was refused.
func Refused(problems []error) []error {
	return slices.DeleteFunc(slices.Clone(problems), func(p error) bool { return errors.As(p, new(Entry)) })
}

// LastValid answers the members of the document that ParseSettings reads, each as it is in raw, or, where it is not valid there, as it is in
// before. Both are JSON objects.
func LastValid(raw, before []byte) ([]byte, error) {
	var data, kept map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(raw, &data), json.Unmarshal(before, &kept)); err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	for _, name := range []string{"pools", "timeouts", "limits", "rate_limits", "placement"} {
		v := data[name]
		if alone, err := json.Marshal(map[string]json.RawMessage{name: v}); err != nil {
			return nil, err
		} else if _, problems := ParseSettings(alone, nil); len(Refused(problems)) > 0 {
			v = kept[name]
		}
		if len(v) > 0 {
			out[name] = v
		}
	}
	return json.Marshal(out)
}

// section parses one part of the data; it adds to problems and answers the previous value when that fails.
func section[T any](problems *[]error, name string, raw []byte, parse func([]byte) (T, error), absent, previous T) T {
	if len(raw) == 0 || string(raw) == "null" {
		return absent
	}
	v, err := parse(raw)
	if err != nil {
		*problems = append(*problems, fmt.Errorf("%s: %w", name, err))
		return previous
	}
	return v
}

// parsePlacement reads {labels: [<label>, ...]}; an empty list leaves only the labels with PlacementPrefix.
func parsePlacement(raw []byte) (Placement, error) {
	doc, err := parse(raw)
	if err != nil {
		return nil, err
	}
	members, err := doc.members("labels")
	if err != nil {
		return nil, err
	}
	if members["labels"].value == nil {
		return DefaultPlacement, nil
	}
	return members["labels"].texts()
}
