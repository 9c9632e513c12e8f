package fetch_test

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/fetch"
)

func allow(t testing.TB, hosts, origins string) fetch.Allow {
	t.Helper()
	a, err := fetch.ParseAllow(hosts, origins)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var hosts = []string{"packs.example.com", "Cdn.Example.com"}

func TestAddressesThatMayBeFetched(t *testing.T) {
	a := allow(t, "extra.example.org, ", "http://127.0.0.1:8099,https://packs.corp.internal:8443,http://localhost")
	for address, want := range map[string]string{
		"https://packs.example.com/catalog.json":     "https://packs.example.com/catalog.json",
		" https://PACKS.example.com:443/a%2Fb?c=d#e": "https://packs.example.com/a%2Fb?c=d",
		"HTTPS://cdn.example.com":                    "https://cdn.example.com",
		"https://extra.example.org/p.tgz":            "https://extra.example.org/p.tgz",
		"http://127.0.0.1:8099/catalog.json":         "http://127.0.0.1:8099/catalog.json",
		"https://packs.corp.internal:8443/x":         "https://packs.corp.internal:8443/x",
		"http://localhost:80/x":                      "http://localhost:80/x",
	} {
		target, err := a.Check(address, hosts)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if got := target.URL.String(); got != want {
			t.Errorf("%s is %s", address, got)
		}
	}
}

// hostile are addresses that must not be fetched, and what is said of them.
var hostile = map[string]string{
	"":                                        "url host required",
	"packs.example.com/catalog.json":          "url host required",
	"https:///catalog.json":                   "url host required",
	"https:packs.example.com":                 "invalid url",
	"http://packs.example.com/":               `unsupported url scheme "http"`,
	"ftp://packs.example.com/":                `unsupported url scheme "ftp"`,
	"file:///etc/passwd":                      "url host required",
	"gopher://packs.example.com:443/_x":       `unsupported url scheme "gopher"`,
	"//packs.example.com/":                    `unsupported url scheme ""`,
	"https://user@packs.example.com/":         "url must not have a user",
	"https://user:secret@packs.example.com/":  "url must not have a user",
	"https://@packs.example.com/":             "url must not have a user",
	"https://packs.example.com@evil.example/": "url must not have a user",
	"https://packs.example.com:8443/":         `url port "8443" not allowed`,
	"https://packs.example.com:0443/":         `url port "0443" not allowed`,
	"https://packs.example.com:80/":           `url port "80" not allowed`,
	"https://packs.example.com:0/":            `url port "0" not allowed`,
	"https://packs.example.com:x/":            "invalid url",
	"https://evil.example.com/":               `url host "evil.example.com" not allowed`,
	"https://packs.example.com.evil.org/":     `url host "packs.example.com.evil.org" not allowed`,
	"https://xpacks.example.com/":             `url host "xpacks.example.com" not allowed`,
	"https://packs.example.com./":             `url host "packs.example.com." not allowed`,
	"https://packs.example.com%00.evil.org/":  "invalid url",
	"https://packs.example.com%2eevil.org/":   "invalid url",
	"https://evil.org\\@packs.example.com/":   "invalid url",
	"https://packs.example.com\\.evil.org/":   "invalid url",
	"https://packs.example.com\r\nHost: x/":   "invalid url",
	"https://pack\u017f.example.com/":         "url host \"pack\u017f.example.com\" not allowed",
	"https://packs\u3002example\u3002com/":    "url host \"packs\u3002example\u3002com\" not allowed",
	"https://127.0.0.1/":                      `url host "127.0.0.1" not allowed`,
	"https://127.1/":                          `url host "127.1" not allowed`,
	"https://2130706433/":                     `url host "2130706433" not allowed`,
	"https://0x7f000001/":                     `url host "0x7f000001" not allowed`,
	"https://0x7f.0.0.1/":                     `url host "0x7f.0.0.1" not allowed`,
	"https://0177.0.0.1/":                     `url host "0177.0.0.1" not allowed`,
	"https://017700000001/":                   `url host "017700000001" not allowed`,
	"https://\uff11\uff12\uff17.0.0.1/":       "url host \"\uff11\uff12\uff17.0.0.1\" not allowed",
	"https://169.254.169.254/latest":          `url host "169.254.169.254" not allowed`,
	"https://[::1]/":                          `url host "::1" not allowed`,
	"https://[::ffff:169.254.169.254]/":       `url host "::ffff:169.254.169.254" not allowed`,
	"https://[::ffff:a9fe:a9fe]/":             `url host "::ffff:a9fe:a9fe" not allowed`,
	"https://[fe80::1%25eth0]/":               `url host "fe80::1%eth0" not allowed`,
	"https://[2606:4700::1111]/":              `url host "2606:4700::1111" not allowed`,
	"https://[packs.example.com]/":            "invalid url",
	"https://localhost/":                      `url host "localhost" not allowed`,
	"https://metadata/":                       `url host "metadata" not allowed`,
	"http://127.0.0.1:8098/":                  `unsupported url scheme "http"`,
	"https://127.0.0.1:8099/":                 `url host "127.0.0.1" not allowed`,
	"http://u@127.0.0.1:8099/":                "url must not have a user",
	"http://127.0.0.1/":                       `unsupported url scheme "http"`,
}

func TestHostileAddressesAreRefused(t *testing.T) {
	a := allow(t, "", "http://127.0.0.1:8099")
	// What is asked for names itself as allowed, too, as a catalog does: an address in another spelling is still none.
	all := append([]string{"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "::1", "localhost", "169.254.169.254"}, hosts...)
	for address, want := range hostile {
		target, err := a.Check(address, all)
		f, ok := errors.AsType[*fetch.Error](err)
		switch {
		case !ok || !f.Refused:
			t.Errorf("%q: %v, %v", address, target.URL.String(), err)
		case want == "invalid url" && (strings.HasPrefix(f.Reason, "url host ") || f.Reason == want):
		case f.Reason != want:
			t.Errorf("%q: %s, want %s", address, f.Reason, want)
		}
	}
	if _, err := a.Check("https://packs.example.com/"+strings.Repeat("a", 2048), hosts); err == nil {
		t.Error("an address of any length")
	}
	if _, err := (fetch.Allow{}).Check("https://packs.example.com/", nil); err == nil || err.Error() != "marketplace host allowlist is empty" {
		t.Error(err)
	}
}

func TestAllowIsWrittenOut(t *testing.T) {
	for _, bad := range [][2]string{
		{"127.0.0.1", ""}, {"localhost", ""}, {"https://packs.example.com", ""}, {"packs.example.com:443", ""}, {"*.example.com", ""},
		{"", "localhost:80"}, {"", "ftp://localhost"}, {"", "http://localhost/path"}, {"", "http://u@localhost"}, {"", "http://"}, {"", "http://a?b"},
	} {
		if _, err := fetch.ParseAllow(bad[0], bad[1]); err == nil {
			t.Errorf("%q", bad)
		}
	}
}

func TestWhereANameMayLead(t *testing.T) {
	const no, near, far = 0, 1, 2 // to nobody, where the operator allows the origin, always
	for address, want := range map[string]int{
		"93.184.216.34": far, "8.8.8.8": far, "2606:4700::1111": far, "::ffff:8.8.8.8": far, "64:ff9b::808:808": far, "2002:808:808::1": far,
		"127.0.0.1": near, "127.255.255.254": near, "10.0.0.1": near, "172.16.0.1": near, "172.31.255.255": near, "192.168.1.1": near, "100.64.0.1": near,
		"100.127.255.255": near, "192.0.0.8": near, "192.0.2.1": near, "198.18.0.1": near, "198.19.255.255": near, "198.51.100.1": near, "203.0.113.1": near,
		"240.0.0.1": near, "192.88.99.1": near, "::1": near, "fc00::1": near, "fd12:3456::1": near, "fec0::1": near, "2001:db8::1": near, "2001::1": near,
		"2001:0:53aa:64c::1": near, "3fff::1": near, "64:ff9b:1::a00:1": near, "100::1": near, "::ffff:10.0.0.1": near, "::ffff:127.0.0.1": near,
		"64:ff9b::a00:1": near, "64:ff9b::7f00:1": near, "2002:7f00:1::": near, "2002:a00:1::1": near, "2002:c0a8:101::1": near, "::127.0.0.1": near,
		"172.15.255.255": far, "172.32.0.1": far, "100.63.255.255": far, "100.128.0.1": far, "11.0.0.1": far, "9.255.255.255": far, "223.255.255.255": far,
		"0.0.0.0": no, "0.1.2.3": no, "169.254.169.254": no, "169.254.170.2": no, "169.254.0.1": no, "224.0.0.1": no, "239.255.255.255": no,
		"255.255.255.255": no, "::": no, "fe80::1": no, "febf::1": no, "ff02::1": no, "fd00:ec2::254": no, "100.100.100.200": no, "168.63.129.16": no,
		"192.0.0.192": no, "fd00:42::42": no, "fd20:ce::254": no,
		"::ffff:169.254.169.254": no, "64:ff9b::a9fe:a9fe": no, "2002:a9fe:a9fe::1": no, "::ffff:0.0.0.0": no, "fe80::1%eth0": no, "2606:4700::1%eth0": no,
	} {
		a := netip.MustParseAddr(address)
		if got := (fetch.Target{}).MayDial(a); got != (want == far) {
			t.Errorf("%s: %v", address, got)
		}
		if got := (fetch.Target{Near: true}).MayDial(a); got != (want != no) {
			t.Errorf("%s, of an allowed origin: %v", address, got)
		}
	}
	if (fetch.Target{Near: true}).MayDial(netip.Addr{}) {
		t.Error("no address")
	}
}

// FuzzCheck: whatever passes leads, read by anybody, to a host that is allowed, over TLS on port 443, with nothing else in it.
func FuzzCheck(f *testing.F) {
	for address := range hostile {
		f.Add(address)
	}
	f.Add("https://packs.example.com:443/a%2Fb?c=d#e")
	f.Fuzz(func(t *testing.T, address string) {
		target, err := fetch.Allow{}.Check(address, hosts)
		if err != nil {
			if e, ok := errors.AsType[*fetch.Error](err); !ok || !e.Refused || e.Reason == "" {
				t.Fatalf("%q: %v", address, err)
			}
			return
		}
		text := target.URL.String()
		again, err := url.Parse(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", address, text, err)
		}
		good := again.Host == "packs.example.com" || again.Host == "cdn.example.com"
		if !good || again.Scheme != "https" || again.User != nil || again.Opaque != "" || again.Fragment != "" || target.Near {
			t.Fatalf("%q became %q", address, text)
		}
		if !strings.HasPrefix(text, "https://"+again.Host) {
			t.Fatalf("%q became %q", address, text)
		}
		if rest := strings.TrimPrefix(text, "https://"+again.Host); rest != "" && rest[0] != '/' && rest[0] != '?' {
			t.Fatalf("%q became %q", address, text)
		}
		if req, err := http.NewRequest(http.MethodGet, text, http.NoBody); err != nil || req.Host != again.Host {
			t.Fatalf("%q became %q: %v", address, text, err)
		}
	})
}
