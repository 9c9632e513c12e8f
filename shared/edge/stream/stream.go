// Package stream is the WebSocket door: how a client that cannot set headers names its key and its tenant, and who may listen to what.
package stream

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
)

// JobParameter is the query parameter in which the front (CloudFront, or the local gateway) hands on the job of /api/v1/jobs/{id}/stream: API
// Gateway's WebSocket API has one path.
const JobParameter = "cordum_job"

// Paths of the two streams.
const (
	Path      = "/api/v1/stream"
	jobPrefix = "/api/v1/jobs/"
	jobSuffix = "/stream"
)

// JobOf answers the job of a stream's path; "" is the stream of everything. ok is false for a path that is no stream.
func JobOf(path string) (job string, ok bool) {
	if path == Path {
		return "", true
	}
	rest, ok := strings.CutPrefix(path, jobPrefix)
	if !ok {
		return "", false
	}
	job, ok = strings.CutSuffix(rest, jobSuffix)
	return job, ok && !strings.Contains(job, "/")
}

// The rules of the two streams.
var (
	all    = auth.Rule{Roles: []identity.Role{identity.Admin}}
	oneJob = auth.Rule{Any: true, Area: "jobs"}
)

// Rule says who may open a stream.
func Rule(job bool) auth.Rule {
	if job {
		return oneJob
	}
	return all
}

// Review asks whether the credential that opened a connection would open it today.
func Review(gate *auth.Gate) func(context.Context, event.Connection) (bool, error) {
	return func(ctx context.Context, c event.Connection) (bool, error) {
		return gate.Still(ctx, c.KeyID, Rule(c.Job != ""), func(now auth.Credential) bool { return now.CrossTenant || now.Tenant == c.Tenant })
	}
}

// Parameters with which a client says which event it saw last.
var sinceParameters = []string{"since", "last_event_id"}

// sinceNow asks for what comes from now on, and for the position that is now.
const sinceNow = "now"

// Since reads where a client wants to go on, and whether it asked: after the last event that it saw, or from now on. Who does not ask hears of a job
// from its beginning, and of everything else what comes.
func Since(query map[string]string, job bool) (from int64, asked bool, err error) {
	for _, name := range sinceParameters {
		text := strings.TrimSpace(query[name])
		switch text {
		case "":
			continue
		case sinceNow:
			return event.FromNow, true, nil
		case "0":
			return since(job), true, nil
		}
		from, err := strconv.ParseInt(text, 10, 64)
		if err != nil || from <= 0 {
			return 0, false, fault.New(fault.Invalid, "%s is not the id of an event", name)
		}
		return from, true, nil
	}
	if job {
		return event.FromBeginning, false, nil
	}
	return 0, false, nil
}

// since is where who has seen nothing goes on.
func since(job bool) int64 {
	if job {
		return event.FromBeginning
	}
	return event.FromNow
}

const protocol = "cordum-api-key"

// Subprotocol reads the key out of the offered subprotocols, "cordum-api-key, <key>" or "cordum-api-key.<key>" with the key in base64url, and
// answers the protocol that the handshake must name, "" for none.
func Subprotocol(header string) (key, echo string) {
	var offers []string
	for offer := range strings.SplitSeq(header, ",") {
		if offer = strings.TrimSpace(offer); offer != "" {
			offers = append(offers, offer)
		}
	}
	for i, offer := range offers {
		if strings.EqualFold(offer, protocol) {
			if i+1 < len(offers) {
				key = decode(offers[i+1])
			}
			return key, offer
		}
	}
	for _, offer := range offers {
		if len(offer) > len(protocol)+1 && strings.EqualFold(offer[:len(protocol)+1], protocol+".") {
			return decode(offer[len(protocol)+1:]), offer
		}
	}
	return "", ""
}

// HasKey says whether a protocol that Subprotocol answers has the key in it.
func HasKey(echo string) bool { return echo != "" && !strings.EqualFold(echo, protocol) }

// decode reads base64url without padding, then standard base64, then takes the text as it is, also where it could be base64 of what is no key.
func decode(text string) string {
	for _, enc := range []*base64.Encoding{base64.RawURLEncoding, base64.URLEncoding, base64.StdEncoding, base64.RawStdEncoding} {
		b, err := enc.DecodeString(text)
		if err == nil && !strings.ContainsFunc(string(b), func(r rune) bool { return r <= ' ' || r > '~' }) {
			return string(b)
		}
	}
	return text
}
