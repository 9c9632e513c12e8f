package auth

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// Origins says which browsers' origins may call. The zero value is the default: this machine, and the host that was called.
type Origins struct {
	listed []string
	all    bool
}

// ParseOrigins reads a comma list of origins, compared exactly; "*" is every origin and "" the default.
func ParseOrigins(list string) Origins {
	var o Origins
	for origin := range strings.SplitSeq(list, ",") {
		switch origin = strings.TrimSpace(origin); origin {
		case "":
		case "*":
			o.all = true
		default:
			o.listed = append(o.listed, origin)
		}
	}
	return o
}

// Check refuses an origin that is not allowed: a Denied fault. A request without an Origin header ("") does not come from a foreign page.
func (o Origins) Check(origin, host string) error {
	if origin == "" || o.all || slices.Contains(o.listed, origin) || len(o.listed) == 0 && near(origin, host) {
		return nil
	}
	return fault.New(fault.Denied, "origin not allowed")
}

// near says whether the origin is a page of this machine or of the host that was called.
func near(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" {
		return false
	}
	switch name := strings.ToLower(u.Hostname()); name {
	case "":
		return false
	case "localhost", "127.0.0.1", "::1":
		return true
	default:
		return name == strings.ToLower(hostname(host))
	}
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}
