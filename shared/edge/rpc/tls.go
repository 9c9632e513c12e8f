package rpc

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Transport reads how a gRPC server is reached: GRPC_TLS_CERT and GRPC_TLS_KEY are its certificate and key, GRPC_TLS_CLIENT_CA who vouches for clients, which
// must then show a certificate. Each is PEM, or a path to it; a file that changes takes effect for the next connection. Without them the server speaks plain
// text, which in production it does only when GRPC_PLAINTEXT is "private": then nobody reaches it but over a private network, from the load balancer that
// ends TLS before it. A certificate says that a client may connect and not who it is: every call carries a credential besides.
//
// TLS is 1.3: every client of gRPC speaks it. What older ones can do is the load balancer's to decide.
func Transport(getenv func(string) string, production bool, clk clock.Clock, log *slog.Logger) (credentials.TransportCredentials, error) {
	text := func(name string) string { return strings.TrimSpace(getenv(name)) }
	files := tlsFiles{cert: text("GRPC_TLS_CERT"), key: text("GRPC_TLS_KEY"), clients: text("GRPC_TLS_CLIENT_CA")}
	plain := strings.ToLower(text("GRPC_PLAINTEXT"))
	switch {
	case plain != "" && plain != "private":
		return nil, errors.New(`GRPC_PLAINTEXT may only be "private"`)
	case (files.cert == "") != (files.key == ""):
		return nil, errors.New("GRPC_TLS_CERT and GRPC_TLS_KEY are set together or not at all")
	case files.cert == "" && files.clients != "":
		return nil, errors.New("GRPC_TLS_CLIENT_CA needs GRPC_TLS_CERT and GRPC_TLS_KEY: without TLS no client can prove who it is")
	case files.cert != "" && plain != "":
		return nil, errors.New("GRPC_PLAINTEXT and GRPC_TLS_CERT are both set: unset one")
	case files.cert == "" && production && plain == "":
		return nil, errors.New("gRPC in production needs GRPC_TLS_CERT and GRPC_TLS_KEY, or GRPC_PLAINTEXT=private behind a load balancer that ends TLS")
	case files.cert == "":
		return insecure.NewCredentials(), nil
	}
	r := &reloading{files: files, clock: clk, log: log}
	if err := r.load(); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: r.config}), nil
}

// tlsFiles are PEM texts, or paths to them.
type tlsFiles struct{ cert, key, clients string }

// reloading is a server's TLS as its files have it. They are looked at when somebody connects, at most once a second.
type reloading struct {
	files tlsFiles
	clock clock.Clock
	log   *slog.Logger

	mu     sync.Mutex
	next   time.Time
	texts  [3][]byte
	failed string // of the last try, so that it is told once
	good   *tls.Config
}

const tlsEvery = time.Second

// config answers the present configuration for one connection. Files that are no good leave what there was: a renewal is two files, which do not change
// at once.
func (r *reloading) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if now.Before(r.next) {
		return r.good, nil
	}
	r.next = now.Add(tlsEvery)
	switch err := r.load(); {
	case err == nil:
		r.failed = ""
	case err.Error() != r.failed:
		r.failed = err.Error()
		r.log.Error("the certificates of gRPC stay as they were", "error", err)
	}
	return r.good, nil
}

// load reads the texts, and makes a configuration of them when they have changed.
func (r *reloading) load() error {
	var texts [3][]byte
	for i, source := range []struct{ name, text string }{
		{"GRPC_TLS_CERT", r.files.cert}, {"GRPC_TLS_KEY", r.files.key}, {"GRPC_TLS_CLIENT_CA", r.files.clients},
	} {
		text, err := pemOf(source.text)
		if err != nil {
			return fmt.Errorf("%s: %w", source.name, err)
		}
		texts[i] = text
	}
	if r.good != nil && bytes.Equal(texts[0], r.texts[0]) && bytes.Equal(texts[1], r.texts[1]) && bytes.Equal(texts[2], r.texts[2]) {
		return nil
	}
	cert, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return fmt.Errorf("GRPC_TLS_CERT, GRPC_TLS_KEY: %w", err)
	}
	good := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
	if texts[2] != nil {
		good.ClientAuth, good.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !good.ClientCAs.AppendCertsFromPEM(texts[2]) {
			return errors.New("GRPC_TLS_CLIENT_CA: there is no certificate in it")
		}
	}
	r.texts, r.good = texts, good
	return nil
}

// pemOf answers a text that is PEM itself, or what is in the file that it names; nil for none.
func pemOf(text string) ([]byte, error) {
	switch {
	case text == "":
		return nil, nil
	case strings.HasPrefix(text, "-----BEGIN "):
		return []byte(strings.ReplaceAll(text, `\n`, "\n")), nil // how lines end in a .env file
	default:
		return os.ReadFile(text)
	}
}
