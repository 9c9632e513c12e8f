// Package fetchtest is an internet for tests: names, addresses, and HTTPS servers at them, all in memory, so that it works in virtual time too.
package fetchtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/fetch/web"
)

// Internet is a small one.
type Internet struct {
	t           testing.TB
	certificate tls.Certificate
	roots       *x509.CertPool

	mu      sync.Mutex
	names   map[string][][]netip.Addr
	servers map[string]*bufconn.Listener
	dialled []string
	sites   int
}

// New makes an internet with nothing in it. Its servers end with the test.
func New(t testing.TB) *Internet {
	t.Helper()
	n := &Internet{t: t, names: map[string][][]netip.Addr{}, servers: map[string]*bufconn.Listener{}, roots: x509.NewCertPool()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fetchtest"}, DNSNames: []string{"*.example.com", "*.example.org", "localhost"},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	n.roots.AddCert(parsed)
	n.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return n
}

// Client is a client of this internet.
func (n *Internet) Client(allow fetch.Allow) *web.Client {
	return &web.Client{Allow: allow, Resolver: n, Dial: n.Dial, Roots: n.roots}
}

// Name has a name lead to addresses; with several answers one after another, and in the end always to the last.
func (n *Internet) Name(host string, answers ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = nil
	for _, answer := range answers {
		var addrs []netip.Addr
		for _, a := range answer {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		n.names[host] = append(n.names[host], addrs)
	}
}

// Serve has HTTPS answered at an address and port, "198.51.100.7:443". Hosts of example.com and example.org have a certificate there.
func (n *Internet) Serve(address string, h http.Handler) {
	n.serve(address, h, func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{n.certificate}})
	})
}

// ServePlain has plain HTTP answered.
func (n *Internet) ServePlain(address string, h http.Handler) {
	n.serve(address, h, func(l net.Listener) net.Listener { return l })
}

func (n *Internet) serve(address string, h http.Handler, wrap func(net.Listener) net.Listener) {
	l := bufconn.Listen(1 << 20)
	n.mu.Lock()
	n.servers[address] = l
	n.mu.Unlock()
	var serving sync.WaitGroup
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1) // Close waits for nobody, and a bubble of virtual time ends with everybody
		defer serving.Done()
		h.ServeHTTP(w, r)
	})}
	serving.Go(func() { _ = server.Serve(wrap(l)) }) // until the test ends
	n.t.Cleanup(func() { _ = server.Close(); serving.Wait() })
}

// Site has a host answer at an address of its own.
func (n *Internet) Site(host string, h http.Handler) {
	n.mu.Lock()
	n.sites++
	address := fmt.Sprintf("93.184.216.%d", n.sites)
	n.mu.Unlock()
	n.Name(host, []string{address})
	n.Serve(address+":443", h)
}

// Dialled answers the addresses that were dialled, in that order.
func (n *Internet) Dialled() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dialled)
}

// LookupNetIP answers the addresses of a name.
func (n *Internet) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answers := n.names[host]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		n.names[host] = answers[1:]
	}
	return answers[0], nil
}

// Dial connects to an address.
func (n *Internet) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	l := n.servers[address]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	return l.DialContext(ctx)
}
