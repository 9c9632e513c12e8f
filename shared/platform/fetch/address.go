package fetch

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Allow is what an operator allows beside what a request does. The zero value allows nothing more.
type Allow struct {
	hosts   []string
	origins []origin
}

// origin is a scheme and a host with its port.
type origin struct{ scheme, host string }

// ParseAllow reads two lists with commas between. Hosts, "packs.example.com", may be fetched from beside those of a request. Origins,
// "http://localhost:8099", are for tests and laptops: each may be fetched from though it is plain HTTP, on another port, or on this machine or network.
func ParseAllow(hosts, origins string) (Allow, error) {
	var a Allow
	for _, word := range words(hosts) {
		host := strings.ToLower(word)
		if !isName(host) {
			return Allow{}, fmt.Errorf("%q is no host such as packs.example.com", word)
		}
		a.hosts = append(a.hosts, host)
	}
	for _, word := range words(origins) {
		u, err := url.Parse(word)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			return Allow{}, fmt.Errorf("%q is no origin such as http://localhost:8099", word)
		}
		a.origins = append(a.origins, originOf(u))
	}
	return a, nil
}

func words(list string) []string {
	return slices.DeleteFunc(strings.Split(strings.ReplaceAll(list, " ", ""), ","), func(w string) bool { return w == "" })
}

// originOf answers the origin of an address, its port always written out.
func originOf(u *url.URL) origin {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return origin{u.Scheme, strings.ToLower(u.Hostname()) + " " + port}
}

// Target is an address that may be fetched from.
type Target struct {
	// URL has nothing but a scheme, a host, a path and a query.
	URL url.URL
	// Near says that the operator allows this very origin, so that its name may lead to this machine or its network.
	Near bool
}

// maxAddress is the longest address, in bytes.
const maxAddress = 2048

// Check reads an address of a request that allows hosts. Its error is an *Error with Refused.
func (a Allow) Check(address string, hosts []string) (Target, error) {
	address = strings.TrimSpace(address)
	if len(address) > maxAddress {
		return Target{}, refused("url is longer than %d bytes", maxAddress)
	}
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" {
		return Target{}, refused("invalid url")
	}
	t := Target{URL: url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}}
	host := t.URL.Hostname()
	t.Near = slices.Contains(a.origins, originOf(&t.URL))
	switch {
	case host == "":
		return Target{}, refused("url host required")
	case u.User != nil:
		return Target{}, refused("url must not have a user")
	case t.Near:
		return t, nil
	case u.Scheme != "https":
		return Target{}, refused("unsupported url scheme %q", u.Scheme)
	case len(hosts)+len(a.hosts) == 0:
		return Target{}, refused("marketplace host allowlist is empty")
	case !isName(host), !slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }) && !slices.Contains(a.hosts, host):
		return Target{}, refused("url host %q not allowed", host)
	case t.URL.Port() != "" && t.URL.Port() != "443":
		return Target{}, refused("url port %s not allowed", strconv.Quote(t.URL.Port()))
	}
	t.URL.Host = host
	return t, nil
}

func refused(format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...), Refused: true}
}

// label is a part of a host's name. A name's last part begins with a letter: what ends in a number is an address in one of its spellings, such as
// 127.1, 0x7f000001 or 2130706433.
var (
	label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	last  = regexp.MustCompile(`^[a-z]`)
)

// isName says whether a host in lower case is a name of the internet: of more than one part, and no address.
func isName(host string) bool {
	parts := strings.Split(host, ".")
	return len(host) <= 253 && len(parts) > 1 && last.MatchString(parts[len(parts)-1]) &&
		!slices.ContainsFunc(parts, func(p string) bool { return !label.MatchString(p) })
}

// Host answers the host of an address, in lower case, "" for what is no address: what a catalog adds to the hosts of a request.
func Host(address string) string {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// MayDial says whether a target's name may lead to an address. It is asked of the address that is dialled, so that a name cannot answer the check with
// one address and the connection with another.
func (t Target) MayDial(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	a = unwrap(a.Unmap())
	if within(a, never) {
		return false
	}
	return t.Near || !within(a, reserved) && (a.Is4() || global.Contains(a))
}

// global is all of IPv6 that is the internet's. What is apart from it lies in reserved.
var global = netip.MustParsePrefix("2000::/3")

// never are addresses that no name may lead to, allowed or not: of no machine, of many, and of a cloud's own services, which hand out credentials.
var never = prefixes("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
	"::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd00:42::42/128", "fd20:ce::254/128")

// reserved are the other addresses that are not the internet's: this machine, private networks, carriers', tests', tunnels to any of them. They are
// IANA's registries of special-purpose addresses.
var reserved = prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "3fff::/20")

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

func within(a netip.Addr, of []netip.Prefix) bool {
	return slices.ContainsFunc(of, func(p netip.Prefix) bool { return p.Contains(a) })
}

// The prefixes of IPv6 that stand for IPv4: where in an address the four bytes are.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

// unwrap answers the address of IPv4 that one of IPv6 stands for, and any other as it is.
func unwrap(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}
