package schedule

import (
	"slices"
	"strings"
)

// PlacementPrefix marks a job label that a worker must carry too, key and value.
const PlacementPrefix = "place."

// Placement lists the labels that constrain placement besides those with PlacementPrefix. nil is DefaultPlacement; an empty list is none.
type Placement []string

// DefaultPlacement holds where the configuration names no list of its own.
var DefaultPlacement = Placement{"arch", "compliance", "gpu", "region", "zone"}

type label struct{ key, value string }

// constraints answers the labels that a worker must carry; every other label is free text of the caller's business.
func (p Placement) constraints(labels map[string]string) []label {
	if p == nil {
		p = DefaultPlacement
	}
	var must []label
	for k, v := range labels {
		if strings.HasPrefix(k, PlacementPrefix) || slices.Contains(p, k) {
			must = append(must, label{k, v})
		}
	}
	return must
}

// carries says whether the worker has all the labels, compared with case.
func (w *Worker) carries(must []label) bool {
	for _, l := range must {
		if v, ok := w.Labels[l.key]; !ok || v != l.value {
			return false
		}
	}
	return true
}
