package infra

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// statement is one statement of an IAM policy.
type statement struct {
	Sid      string
	Actions  []string
	Resource []string
	// Keys are what the partition keys of the items begin with that it is about; none is all.
	Keys []string
}

func (s statement) json() map[string]any {
	out := map[string]any{"Sid": s.Sid, "Effect": "Allow", "Action": s.Actions, "Resource": s.Resource}
	if len(s.Keys) > 0 {
		out["Condition"] = map[string]any{"ForAllValues:StringLike": map[string]any{"dynamodb:LeadingKeys": s.Keys}}
	}
	return out
}

// role collects what one role allows, and why where that is not plain: a wildcard, or what no test has proven to be needed. Reasons go into the
// template as the role's metadata, where a test looks for them.
type role struct {
	statements []statement
	reasons    map[string]any
}

func (r *role) allow(sid, reason string, actions []string, on ...string) {
	if reason != "" {
		if r.reasons == nil {
			r.reasons = map[string]any{}
		}
		if had, _ := r.reasons[sid].(string); strings.Contains(had, reason) {
			reason = had
		} else if had != "" {
			reason = had + "; " + reason
		}
		r.reasons[sid] = reason
	}
	if i := slices.IndexFunc(r.statements, func(s statement) bool { return s.Sid == sid }); i >= 0 {
		for _, a := range actions {
			if !slices.Contains(r.statements[i].Actions, a) {
				r.statements[i].Actions = append(r.statements[i].Actions, a)
			}
		}
		return
	}
	r.statements = append(r.statements, statement{Sid: sid, Actions: slices.Clone(actions), Resource: on})
}

// place is where a target lies: the sid of its statement, its ARNs, and why there is a wildcard among them.
type place struct {
	sid    string
	arns   []string
	reason string
	// keys are what the partition keys begin with where it is a part of the table.
	keys []string
}

// grant adds grants of the shared list. This is the only place that turns them into IAM.
func (r *role) grant(grants []resources.Grant, where func(resources.Target) place) {
	for _, g := range grants {
		at := where(g.On)
		sid, reason := at.sid, at.reason
		if g.Unproven != "" { // apart from what is proven, so that the reason is about these actions alone
			sid += "Unproven"
			reason = strings.TrimPrefix(reason+"; "+g.Unproven, "; ")
		}
		r.allow(sid, reason, g.Actions, at.arns...)
		if len(at.keys) > 0 {
			r.statements[slices.IndexFunc(r.statements, func(s statement) bool { return s.Sid == sid })].Keys = at.keys
		}
	}
}

// wheres answers where targets lie. What only the control stack knows comes with it.
type wheres struct {
	p         Params
	secrets   []string // ARNs
	auditKey  string   // ARN
	socketAPI string   // the id of the WebSocket API
	seedFiles []string // ARNs of the objects
}

func (w wheres) at(t resources.Target) place {
	p := w.p
	switch t.Kind {
	case resources.TheTable:
		return place{sid: "Table", arns: []string{p.tableARN()}}
	case resources.TheRates:
		return place{sid: "Rates", arns: []string{p.tableARN()}, keys: []string{resources.RatePrefix + "*"}}
	case resources.AnIndex:
		return place{sid: "Index" + camel(t.Name), arns: []string{p.tableARN() + "/index/" + t.Name}}
	case resources.TheBucket:
		return place{sid: "Bucket", arns: []string{p.bucketARN()}}
	case resources.Objects:
		return place{sid: "Objects" + camel(t.Name), arns: []string{p.bucketARN() + "/" + t.Name + "/*"}, reason: "objects have names of their own below this prefix"}
	case resources.AQueue:
		return place{sid: "Queue" + camel(t.Name), arns: []string{p.queueARN(t.Name)}}
	case resources.AllPools:
		return place{sid: "Pools", arns: []string{p.queueARN(resources.Pool("*"))}, reason: "the queues of all pools, which are the operator's to name"}
	case resources.AllDeliveries:
		return place{sid: "Deliveries", arns: deliveries(p)}
	case resources.Connections:
		return place{sid: "Connections", arns: []string{p.arn("execute-api", w.socketAPI+"/"+socketStage+"/*/@connections/*")}, reason: "connections have ids of their own"}
	case resources.TheSecret:
		return place{sid: "Secret", arns: w.secrets}
	case resources.TheAuditKey:
		return place{sid: "AuditKey", arns: []string{w.auditKey}}
	case resources.SeedFiles:
		return place{sid: "SeedFiles", arns: w.seedFiles}
	}
	panic(fmt.Sprintf("a grant on %q: infra does not know where that is", t.Kind))
}

func deliveries(p Params) []string {
	arns := make([]string, resources.DeliveryQueues)
	for n := range arns {
		arns[n] = p.queueARN(resources.Delivery(n))
	}
	return arns
}

// has says whether any of the grants is on one of the kinds.
func has(grants []resources.Grant, kinds ...resources.Kind) bool {
	return slices.ContainsFunc(grants, func(g resources.Grant) bool { return slices.Contains(kinds, g.On.Kind) })
}

// environment is what a process with these grants is told, and nothing that it cannot use.
func environment(w wheres, grants []resources.Grant) map[string]*string {
	p := w.p
	env := map[string]*string{
		"CORDUM_ENV": new("production"), "CORDUM_STAGE": new(p.Stage), "CORDUM_TABLE": new(p.tableName()), "CORDUM_BUCKET": new(p.bucketName()),
		"CORDUM_QUEUE_URL": new(p.queueURL()),
	}
	if has(grants, resources.TheTable) {
		env["CORDUM_LIST_SHARDS"] = new(fmt.Sprint(p.ListShards))
	}
	if p.PolicyKey != "" && slices.ContainsFunc(grants, func(g resources.Grant) bool {
		return g.On == resources.Target{Kind: resources.Objects, Name: resources.PolicyObjects}
	}) {
		env["CORDUM_POLICY_PUBLIC_KEY"] = new(p.PolicyKey)
	}
	if has(grants, resources.Connections) {
		env["CORDUM_PUSH_ENDPOINT"] = new(fmt.Sprintf("https://%s.execute-api.%s.%s/%s", w.socketAPI, p.Region, suffix(), socketStage))
	}
	if has(grants, resources.TheAuditKey) {
		env["CORDUM_SECRET"] = new(w.auditKey)
	}
	if has(grants, resources.TheSecret) { // it faces callers
		env["CORDUM_SECRET"] = new(strings.Join(w.secrets, ","))
		env["CORDUM_TENANT_HEADER"] = new(p.TenantHeader)
		if origins := p.allowedOrigins(); origins != "" {
			env["CORDUM_ALLOWED_ORIGINS"] = new(origins)
		}
	}
	return env
}
