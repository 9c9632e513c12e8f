package worker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLS makes a Config.TLS for a plane that does not stand behind a public certificate, or that asks its workers for one. Each argument is PEM, or a path to
// it: ca is who vouches for the plane, "" for the system's roots; cert and key are the worker's own certificate, "" for none. A certificate in files
// is read again for every connection, so that it can be renewed while the worker runs.
func TLS(ca, cert, key string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := pemOf(ca)
		if err != nil {
			return nil, fmt.Errorf("worker: the plane's CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("worker: the plane's CA: there is no certificate in it")
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("worker: a client certificate needs its key, and a key its certificate")
	}
	if cert == "" {
		return cfg, nil
	}
	own := func() (*tls.Certificate, error) {
		certText, err := pemOf(cert)
		if err != nil {
			return nil, err
		}
		keyText, err := pemOf(key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(certText, keyText)
		return &pair, err
	}
	last, err := own()
	if err != nil {
		return nil, fmt.Errorf("worker: client certificate: %w", err)
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := own()
		if err != nil { // it is being renewed: the one from the start may still do
			return last, nil //nolint:nilerr // likewise
		}
		return pair, nil
	}
	return cfg, nil
}

func pemOf(text string) ([]byte, error) {
	if strings.HasPrefix(text, "-----BEGIN ") {
		return []byte(text), nil
	}
	return os.ReadFile(text)
}
