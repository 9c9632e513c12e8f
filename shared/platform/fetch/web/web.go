// Package web fetches over HTTP. It follows no more than a few redirects, each of which must be as good as the address that it began with, and checks
// where a name leads on the very address that it dials. It sends no credential, keeps no cookie and goes through no proxy.
package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/fetch"
)

// The bounds of one Get: of all of it, and of one connection.
const (
	Total     = 30 * time.Second
	Connect   = 5 * time.Second
	Redirects = 3
)

// maxHeader is the most that the headers of an answer may take, in bytes.
const maxHeader = 64 << 10

// Client is a fetch.Fetcher. The zero value fetches from the internet, on what a request allows.
type Client struct {
	Allow fetch.Allow
	// Resolver finds the addresses of a name; nil is the system's.
	Resolver interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	}
	// Dial connects to an address that was found good; nil is the system's, which looks at the address once more.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots are who may vouch for a host; nil is the system's.
	Roots *x509.CertPool
}

// FromEnv reads CORDUM_MARKETPLACE_HOSTS and CORDUM_MARKETPLACE_ALLOW.
func FromEnv(getenv func(string) string) (*Client, error) {
	allow, err := fetch.ParseAllow(getenv("CORDUM_MARKETPLACE_HOSTS"), getenv("CORDUM_MARKETPLACE_ALLOW"))
	if err != nil {
		return nil, fmt.Errorf("CORDUM_MARKETPLACE_HOSTS, CORDUM_MARKETPLACE_ALLOW: %w", err)
	}
	return &Client{Allow: allow}, nil
}

// Get fetches.
func (c *Client) Get(ctx context.Context, address string, hosts []string, limit int64) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, Total)
	defer cancel()
	target, err := c.Allow.Check(address, hosts)
	if err != nil {
		return nil, err
	}
	for range Redirects + 1 {
		body, next, err := c.hop(bounded, target, limit)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, reason(bounded, err)
		case next == nil:
			return body, nil
		}
		if target, err = c.follow(target, next, hosts); err != nil {
			return nil, err
		}
	}
	return nil, fetch.Failed(nil, fmt.Sprintf("more than %d redirects", Redirects))
}

// follow reads where a redirect leads.
func (c *Client) follow(from fetch.Target, next *url.URL, hosts []string) (fetch.Target, error) {
	if from.URL.Scheme == "https" && next.Scheme != "https" {
		return fetch.Target{}, fetch.Failed(nil, "redirect from https to "+strconv.Quote(next.Scheme))
	}
	to, err := c.Allow.Check(next.String(), hosts)
	if f, ok := errors.AsType[*fetch.Error](err); ok {
		return to, fetch.Failed(nil, "redirect: "+f.Reason)
	}
	return to, err
}

// reason is what a caller hears of an error that is none of ours.
func reason(bounded context.Context, err error) error {
	if f, ok := errors.AsType[*fetch.Error](err); ok {
		return f // as it is: net/http wraps what its dialer answers
	}
	switch {
	case bounded.Err() != nil:
		return fetch.Failed(err, fmt.Sprintf("no answer within %v", Total))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fetch.Failed(err, "answer cut short")
	}
	return fetch.Failed(err, "connection failed")
}

// hop makes one request: it answers the body, or where the answer redirects to.
func (c *Client) hop(ctx context.Context, t fetch.Target, limit int64) (body []byte, next *url.URL, err error) {
	transport := &http.Transport{ // of this target alone: nothing that was dialled for it serves another
		Proxy: nil, DialContext: c.dialer(t), TLSHandshakeTimeout: Connect, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL.String(), http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("User-Agent", "cordum")
	req.Header.Set("Accept-Encoding", "identity") // a digest is of what was sent
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // what was read is complete, or of no use
	switch resp.StatusCode {
	case http.StatusOK:
		body, err = read(resp, limit)
		return body, nil, err
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if next, err = resp.Location(); err != nil {
			return nil, nil, fetch.Failed(err, "redirect to nowhere")
		}
		return nil, next, nil
	default:
		return nil, nil, fetch.Failed(nil, fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	}
}

// read reads a body to its end. What it says of its length is believed only where that saves reading it.
func read(resp *http.Response, limit int64) ([]byte, error) {
	tooLarge := fetch.Failed(nil, fmt.Sprintf("larger than %d bytes", limit))
	if resp.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, tooLarge
	}
	return body, nil
}

// dialer connects to a target, and to nothing that its name must not lead to. One such address among those of a name is one too many.
func (c *Client) dialer(t fetch.Target) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, Connect)
		defer cancel()
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		found, err := c.resolve(ctx, host)
		if err != nil {
			return nil, fetch.Failed(err, fmt.Sprintf("host %q not found", host))
		}
		for _, a := range found {
			if !t.MayDial(a) {
				return nil, misled(host)
			}
		}
		dial := c.Dial
		if dial == nil {
			dial = (&net.Dialer{Control: control(t, host)}).DialContext
		}
		err = errors.New("it has no address")
		for i, a := range found {
			var conn net.Conn
			if conn, err = inTurn(ctx, len(found)-i, dial, network, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
}

// inTurn gives an address its share of the time that is left.
func inTurn(ctx context.Context, of int, dial func(context.Context, string, string) (net.Conn, error), network, address string) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(of))
		defer cancel()
	}
	return dial(ctx, network, address)
}

// resolve answers the addresses of a host, which may be one itself where the operator allows its origin.
func (c *Client) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if c.Resolver != nil {
		return c.Resolver.LookupNetIP(ctx, "ip", host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// control looks at the address of a socket before it connects.
func control(t fetch.Target, host string) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		if at, err := netip.ParseAddrPort(address); err != nil || !t.MayDial(at.Addr()) {
			return misled(host)
		}
		return nil
	}
}

func misled(host string) *fetch.Error {
	return fetch.Failed(nil, fmt.Sprintf("host %q leads to an address that is not allowed", host))
}
