package recorder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Container is the caller that stands for the gRPC service.
const Container = "grpc"

// Finding is a difference between what is granted and what was used.
type Finding struct {
	Caller, Action string
	On             resources.Target
	Problem        Problem
	// Reason is why it is granted although it was thought to be never used.
	Reason string
}

// Problem is a kind of difference.
type Problem string

// What may be found.
const (
	NotGranted  Problem = "it was used, and is not granted: on AWS the request is refused"
	NeverUsed   Problem = "it is granted, and was never used: take the grant away, or say in Unproven why it is needed"
	ProvenAfter Problem = "it is granted as unproven, and was used: take the reason away"
)

func (f Finding) String() string {
	text := fmt.Sprintf("%s: %s on %s: %s", f.Caller, f.Action, describe(f.On), f.Problem)
	if f.Reason != "" {
		text += fmt.Sprintf(" (%q)", f.Reason)
	}
	return text
}

// Compare holds what was used against what roles grant, in both directions. Callers that are neither a function nor the container are passed over.
func Compare(functions []resources.Function, container resources.ContainerDef, used []Use) []Finding {
	var out []Finding
	for _, f := range functions {
		out = append(out, compare(f.Name, f.Grants, used)...)
	}
	return append(out, compare(Container, container.Grants, used)...)
}

func compare(caller string, grants []resources.Grant, used []Use) []Finding {
	var out []Finding
	for _, u := range used {
		if u.Caller != caller {
			continue
		}
		proven, unproven := false, ""
		for _, g := range grants {
			switch {
			case !slices.Contains(g.Actions, u.Action) || !covers(g.On, u.On):
			case g.Unproven == "":
				proven = true
			default:
				unproven = g.Unproven
			}
		}
		switch {
		case proven:
		case unproven != "" && u.On.Kind == resources.TheRates: // who is busy is counted, and how busy the suite is is not the same every time
		case unproven != "":
			out = append(out, Finding{caller, u.Action, u.On, ProvenAfter, unproven})
		default:
			out = append(out, Finding{Caller: caller, Action: u.Action, On: u.On, Problem: NotGranted})
		}
	}
	for _, g := range grants {
		for _, action := range g.Actions {
			found := slices.ContainsFunc(used, func(u Use) bool { return u.Caller == caller && u.Action == action && covers(g.On, u.On) })
			if !found && g.Unproven == "" {
				out = append(out, Finding{Caller: caller, Action: action, On: g.On, Problem: NeverUsed})
			}
		}
	}
	return out
}

// covers says whether a grant on one target is good for another.
func covers(grant, use resources.Target) bool {
	switch {
	case grant == use:
		return true
	case use.Kind != resources.AQueue:
		return false
	case grant.Kind == resources.AllPools:
		return strings.HasPrefix(use.Name, resources.Pool(""))
	case grant.Kind == resources.AllDeliveries:
		return strings.HasPrefix(use.Name, "delivery-")
	}
	return false
}
