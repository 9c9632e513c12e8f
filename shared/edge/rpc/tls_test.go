package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	a.cert, a.pem = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate; without a parent it signs itself.
func (a *authority) issue(c, parent *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, string) {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = serial
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// leaf is a certificate and its key, of a server called plane or of a client.
func (a *authority) leaf(name string, edit ...func(*x509.Certificate)) (cert, key string) {
	a.t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, e := range edit {
		e(c)
	}
	own := newKey(a.t)
	_, cert = a.issue(c, a.cert, own)
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func transport(t *testing.T, clk *hand, log io.Writer, pairs ...string) (credentials.TransportCredentials, error) {
	t.Helper()
	return rpc.Transport(func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}, false, clk, slog.New(slog.NewTextHandler(log, nil)))
}

// hand is a clock that a test turns.
type hand struct{ now time.Time }

func (h *hand) Now() time.Time { return h.now }

// served is a server behind a transport; check connects to it and answers what came of it.
func served(t *testing.T, secure credentials.TransportCredentials) (check func(credentials.TransportCredentials) error) {
	t.Helper()
	server := grpc.NewServer(grpc.Creds(secure))
	healthpb.RegisterHealthServer(server, health.NewServer())
	l := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(as credentials.TransportCredentials) error {
		conn, err := grpc.NewClient("passthrough:plane", grpc.WithTransportCredentials(as),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	}
}

// client is what a worker connects with.
func client(t *testing.T, ca, cert, key string) credentials.TransportCredentials {
	t.Helper()
	cfg, err := worker.TLS(ca, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerName = "plane"
	return credentials.NewTLS(cfg)
}

func TestTransportOverTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ours.leaf("plane")
	secure, err := transport(t, &hand{time.Now()}, io.Discard, "GRPC_TLS_CERT", cert, "GRPC_TLS_KEY", key)
	if err != nil {
		t.Fatal(err)
	}
	check := served(t, secure)
	old := client(t, ours.pem, "", "")
	for name, tt := range map[string]struct {
		as   credentials.TransportCredentials
		good bool
	}{
		"who trusts its CA":       {old, true},
		"who trusts another":      {client(t, theirs.pem, "", ""), false},
		"who trusts the system's": {client(t, "", "", ""), false},
		"in plain text":           {insecure.NewCredentials(), false},
		"over TLS 1.2":            {credentials.NewTLS(&tls.Config{ServerName: "plane", RootCAs: pool(ours.pem), MaxVersion: tls.VersionTLS12}), false},
		"under another name":      {credentials.NewTLS(&tls.Config{ServerName: "another", RootCAs: pool(ours.pem)}), false},
	} {
		if err := check(tt.as); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pool(text string) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM([]byte(text))
	return p
}

func TestTransportOverMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ours.leaf("plane")
	secure, err := transport(t, &hand{time.Now()}, io.Discard, "GRPC_TLS_CERT", cert, "GRPC_TLS_KEY", key, "GRPC_TLS_CLIENT_CA", ours.pem)
	if err != nil {
		t.Fatal(err)
	}
	check := served(t, secure)
	good, goodKey := ours.leaf("worker")
	foreign, foreignKey := theirs.leaf("worker")
	late, lateKey := ours.leaf("worker", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	server, serverKey := ours.leaf("worker", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for name, tt := range map[string]struct {
		cert, key string
		good      bool
	}{
		"with a certificate": {good, goodKey, true}, "without one": {"", "", false}, "with another's": {foreign, foreignKey, false},
		"with one that has expired": {late, lateKey, false}, "with a server's": {server, serverKey, false},
	} {
		if err := check(client(t, ours.pem, tt.cert, tt.key)); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Certificates are renewed under a running server, one file after the other; on both sides.
func TestTransportTakesNewCertificates(t *testing.T) {
	clk, dir := &hand{time.Now()}, t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	cert, key := first.leaf("plane")
	own, ownKey := first.leaf("worker")
	log := &lockedLog{}
	secure, err := transport(t, clk, log, "GRPC_TLS_CERT", file("cert", cert), "GRPC_TLS_KEY", file("key", key), "GRPC_TLS_CLIENT_CA", file("ca", first.pem))
	if err != nil {
		t.Fatal(err)
	}
	check := served(t, secure)
	a := client(t, first.pem, file("own", own), file("own.key", ownKey))
	b := client(t, second.pem, file("own", own), file("own.key", ownKey))
	expect := func(when string, as credentials.TransportCredentials, good bool) {
		t.Helper()
		if err := check(as); (err == nil) != good {
			t.Errorf("%s: %v", when, err)
		}
	}
	expect("at first", a, true)
	cert, key = second.leaf("plane")
	file("cert", cert)
	clk.now = clk.now.Add(time.Second)
	expect("between two files", a, true)
	expect("between two files, again", a, true)
	if n := strings.Count(log.String(), "stay as they were"); n != 1 {
		t.Errorf("it is told %d times: %s", n, log.String())
	}
	file("key", key)
	clk.now = clk.now.Add(time.Second)
	expect("who trusts the old one", a, false)
	expect("who trusts the new one", b, true)
	own, ownKey = second.leaf("worker")
	file("ca", second.pem)
	clk.now = clk.now.Add(time.Second)
	expect("a client of the old CA", b, false)
	file("own", own)
	file("own.key", ownKey)
	expect("one that was renewed", b, true)
}

func TestTransportThatIsConfiguredWrong(t *testing.T) {
	a := newAuthority(t, "ours")
	cert, key := a.leaf("plane")
	_, other := a.leaf("plane")
	for name, tt := range map[string]struct {
		production bool
		env        map[string]string
		want       string // "" is good
	}{
		"nothing":                      {false, nil, ""},
		"nothing in production":        {true, nil, "gRPC in production needs"},
		"private in production":        {true, map[string]string{"GRPC_PLAINTEXT": "private"}, ""},
		"TLS in production":            {true, map[string]string{"GRPC_TLS_CERT": cert, "GRPC_TLS_KEY": key}, ""},
		"public":                       {true, map[string]string{"GRPC_PLAINTEXT": "yes"}, "GRPC_PLAINTEXT may only be"},
		"both":                         {false, map[string]string{"GRPC_PLAINTEXT": "private", "GRPC_TLS_CERT": cert, "GRPC_TLS_KEY": key}, "both set"},
		"no key":                       {false, map[string]string{"GRPC_TLS_CERT": cert}, "set together"},
		"no certificate":               {false, map[string]string{"GRPC_TLS_KEY": key}, "set together"},
		"clients without a server":     {false, map[string]string{"GRPC_TLS_CLIENT_CA": a.pem}, "GRPC_TLS_CLIENT_CA needs"},
		"another key":                  {false, map[string]string{"GRPC_TLS_CERT": cert, "GRPC_TLS_KEY": other}, "does not match"},
		"no PEM":                       {false, map[string]string{"GRPC_TLS_CERT": "-----BEGIN nothing", "GRPC_TLS_KEY": key}, "GRPC_TLS_CERT"},
		"no file":                      {false, map[string]string{"GRPC_TLS_CERT": "/nowhere", "GRPC_TLS_KEY": key}, "GRPC_TLS_CERT: open"},
		"a CA of no certificate":       {false, map[string]string{"GRPC_TLS_CERT": cert, "GRPC_TLS_KEY": key, "GRPC_TLS_CLIENT_CA": key}, "GRPC_TLS_CLIENT_CA: there is"},
		"PEM in one line, as in .envs": {false, map[string]string{"GRPC_TLS_CERT": strings.ReplaceAll(cert, "\n", `\n`), "GRPC_TLS_KEY": key}, ""},
	} {
		_, err := rpc.Transport(func(name string) string { return tt.env[name] }, tt.production, &hand{time.Now()}, slog.New(slog.DiscardHandler))
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "PRIVATE KEY"):
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestWorkersThatAreConfiguredWrong(t *testing.T) {
	a := newAuthority(t, "ours")
	cert, key := a.leaf("worker")
	_, other := a.leaf("worker")
	for name, files := range map[string][3]string{
		"a CA that is none": {key, "", ""}, "no CA's file": {"/nowhere", "", ""}, "no key": {"", cert, ""}, "no certificate": {"", "", key},
		"another's key": {"", cert, other}, "no file": {"", "/nowhere", key},
	} {
		if _, err := worker.TLS(files[0], files[1], files[2]); err == nil || strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
