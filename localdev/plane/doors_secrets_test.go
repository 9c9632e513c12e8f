package plane_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// reveals are the members in which an answer hands out a secret, by route and method; nothing else does.
var reveals = map[string]string{
	"Auth.Login":         "token",  // it opens the session
	"Auth.GetSession":    "token",  // the caller has sent it
	"Users.CreateApiKey": "secret", // it is shown once
	// It is the worker's, for what it says over a queue.
	"Workers.Beat": "session_token", "cordum.v1.Workers.Beat": "sessionToken", "cordum.v1.Workers.Connect": "sessionToken",
}

// planted are the secrets of a plane, beside the keys, and what stands in the work of a tenant.
const (
	jwtCanary   = "Canary-Jwt-Secret-that-is-long-enough-for-HS256"
	auditCanary = "Canary-Audit-Key-0123456789-0123456789-0123456789"
	edgeCanary  = "Canary-Edge-Token-0123456789"
	rootCanary  = "Canary-Root-1"
	workCanary  = "AKIACANARY4WORK/wJalrXUtnFEMI" // somebody's cloud credential, in a prompt
)

// tape keeps all that comes out of a plane, by where it came out.
type tape struct {
	mu    sync.Mutex
	texts map[string][]string
	// secrets are what may not be on it, and what each is.
	secrets map[string]string
}

func (p *tape) add(where, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts[where] = append(p.texts[where], text)
}

func (p *tape) keep(what, secret string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(secret) < 5 {
		panic(what + " is no secret: " + secret)
	}
	p.secrets[secret] = what
	return secret
}

// answer keeps what came back, without the member that reveals a secret, which is one from now on.
func (p *tape) answer(name, text, body string) {
	if member := reveals[name]; member != "" {
		if m := regexp.MustCompile(`"` + member + `":"([^"]+)"`).FindStringSubmatch(body); m != nil {
			p.keep("what "+name+" revealed", m[1])
			text = strings.Replace(text, m[1], "<revealed>", 1)
		}
	}
	p.add("an answer", name+": "+text)
}

type tapeTable struct {
	store.Table

	p *tape
}

func (t tapeTable) keep(ops []store.Op) {
	for _, op := range ops {
		text := fmt.Sprintf("%s %s %v %v", op.Key, op.Item.Key, op.SetIndex, op.Item.Index)
		for _, attrs := range []store.Attrs{op.Item.Attrs, op.Set} {
			for name, v := range attrs {
				if b, ok := v.([]byte); ok {
					v = string(b)
				}
				text += fmt.Sprintf(" %s=%v", name, v)
			}
		}
		t.p.add("the table", text)
	}
}

func (t tapeTable) Write(ctx context.Context, ops ...store.Op) error {
	t.keep(ops)
	return t.Table.Write(ctx, ops...)
}

func (t tapeTable) Update(ctx context.Context, op store.Op) (store.Item, error) {
	t.keep([]store.Op{op})
	return t.Table.Update(ctx, op)
}

type tapeQueues struct {
	queue.Queues

	p *tape
}

func (q tapeQueues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	for _, m := range msgs {
		q.p.add("a queue", name+" "+fmt.Sprint(m))
	}
	return q.Queues.Send(ctx, name, msgs...)
}

type tapeMetrics struct{ p *tape }

func (m tapeMetrics) Record(_ context.Context, line string, about []slog.Attr, samples ...metrics.Sample) {
	for _, s := range samples {
		line += fmt.Sprintf(" %v=%v", *s.Metric, s.Value)
	}
	m.p.add("a metric", fmt.Sprint(line, about))
}

type tapeLog struct{ p *tape }

func (l tapeLog) Write(text []byte) (int, error) {
	l.p.add("the log", string(text))
	return len(text), nil
}

// A secret comes back in the one answer that hands it out, and is in no other: no header, body, frame, packet, message, line of the log, metric, entry of
// the trail or item of the table. What a job is about is in no line and in no list either.
func TestDoors_SecretsStayWhereTheyBelong(t *testing.T) {
	p := &tape{texts: map[string][]string{}, secrets: map[string]string{}}
	cfg, _ := house("CORDUM_JWT_HMAC_SECRET", p.keep("the secret of tokens", jwtCanary), "CORDUM_AUDIT_KEY", p.keep("the key of the trail", auditCanary),
		"CORDUM_EDGE_TOKEN", p.keep("the edge's token", edgeCanary), "CORDUM_ADMIN_USERNAME", "root", "CORDUM_ADMIN_PASSWORD", p.keep("the first password", rootCanary))
	cfg.Log = slog.New(slog.NewTextHandler(tapeLog{p}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Metrics = tapeMetrics{p}
	var down atomic.Bool
	cfg.Wrap = func(ports dispatch.Platform) dispatch.Platform {
		ports.Table, ports.Queues = tapeTable{unreached{ports.Table, &down}, p}, tapeQueues{ports.Queues, p}
		return ports
	}
	for _, key := range regexp.MustCompile(`"key":"([^"]+)"`).FindAllStringSubmatch(doorKeys(), -1) {
		p.keep("a key of the environment", key[1])
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.mine()
		do := func(route routes.Route, d door, a ask, c caller, more ...string) answer {
			t.Helper()
			got := r.knock(route, d, a, c, append(more, auth.EdgeHeader, edgeCanary, auth.ViewerHeader, "192.0.2.7")...)
			p.answer(nameOf(route), got.whole(), got.Body)
			return got
		}
		watching := r.watch(w.maker, stream.Path)
		working := r.connect(w.worker, "tapped", "main", 100)
		managed, session, webToken := r.tapped(p)
		p.keep("a password", password)
		p.keep("a password", another)

		// What is good, by everybody whom a door lets in.
		every(t, func(route routes.Route, d door) {
			do(route, d, d.with(t, w.fresh()), w.natural(d)).ok(route.Rule.Status)
			for _, secret := range []string{managed, session, webToken} {
				if nameOf(route) == "Auth.Logout" {
					continue
				}
				do(route, d, d.with(t, w.fixed), caller{"Authorization", "Bearer " + secret, "X-Tenant-ID", "default"})
			}
		})
		for _, name := range r.served() {
			d := methods[name]
			for _, md := range [][]string{{"x-api-key", w.worker}, {"x-api-key", w.admin}, {"authorization", "Bearer " + managed}, {"authorization", "Bearer " + webToken}} {
				got := r.callMethod(name, d.with(t, w.fresh()).body, md...)
				p.answer(name, fmt.Sprint(got), got.text)
			}
		}
		// What is not good: bodies that break off, and credentials that are none.
		n := 0
		wrong := func(what string) string {
			n++
			return p.keep(what, fmt.Sprintf("Canary-%04d-%s", n, strings.ReplaceAll(what, " ", "-")))
		}
		every(t, func(route routes.Route, d door) {
			a := d.with(t, w.fixed)
			if route.Body && !d.form {
				bodies := []string{`{"password":"%s`, `["%s"]`, `%s`}
				if bodyOfRoute(t, route) != nil { // an object that may be anything is kept
					bodies = append(bodies, `{"password":{"x":"%s"}}`, `{"current_password":"%[1]s","new_password":"%[1]s","username":["%[1]s"]}`)
				}
				for _, body := range bodies {
					do(route, d, ask{a.path, fmt.Sprintf(body, wrong("a word in a bad body"))}, w.natural(d))
				}
			}
			for _, c := range []caller{
				{"X-API-Key", wrong("a bad key")}, {"Authorization", "Bearer " + wrong("a bad bearer")}, {"Authorization", "Bearer session-" + wrong("a bad session")},
				{"Authorization", "Bearer a." + wrong("a bad token") + ".c"}, {"Authorization", "Basic " + wrong("a password of Basic")}, {"Authorization", wrong("no scheme")},
				{"X-API-Key", "ck_00000000_" + wrong("a bad managed key")}, {"Cookie", "cordum_session=" + wrong("a cookie")}, {auth.EdgeHeader, wrong("a bad edge")},
			} {
				do(route, d, a, append(c, "X-Tenant-ID", "default"))
			}
		})
		for _, name := range r.served() {
			body := methods[name].with(t, w.fixed).body
			for _, md := range [][]string{{"x-api-key", wrong("a bad key of gRPC")}, {"authorization", "Bearer a." + wrong("a bad token of gRPC") + ".c"}} {
				p.answer(name, fmt.Sprint(r.callMethod(name, body, md...)), "")
			}
		}
		for _, path := range streams {
			path = ask{path: path}.with(t, w.fixed).path
			for _, secret := range []string{wrong("a bad key of a stream"), session, managed, w.admin} {
				coded := base64.RawURLEncoding.EncodeToString([]byte(secret))
				for _, protocols := range [][]string{nil, {"cordum-api-key", coded}, {"cordum-api-key." + coded}} {
					header := http.Header{"X-Tenant-Id": {"default"}}
					if protocols == nil {
						header.Set("X-Api-Key", secret)
					}
					conn, res, err := r.open(path, header, protocols...)
					if err == nil {
						_ = conn.CloseNow()
						res.Header.Del("Sec-WebSocket-Protocol") // a browser breaks off where it does not hear what it has offered (api.md 3.2)
						p.add("a handshake", fmt.Sprint(res.Header))
						continue
					}
					p.add("a handshake", fmt.Sprint(res.Header, bodyOf(t, res)))
				}
			}
		}
		for _, secret := range []string{wrong("a wrong password"), managed + wrong("too much of a key"), "k-ada" + wrong("too much")} {
			for _, name := range []string{"root", "nobody", ""} {
				got := r.try(name, secret)
				p.answer("Auth.Login", got.whole(), got.Body)
			}
			got := r.try(secret, "root") // in the wrong field
			p.answer("Auth.Login", got.whole(), got.Body)
		}
		// While nothing can be read or written.
		unready := map[string]called{}
		maps.Copy(unready, w.kept)
		down.Store(true)
		time.Sleep(known)
		failed := 0
		every(t, func(route routes.Route, d door) {
			for _, c := range []caller{keyed(w.admin, "default"), keyed(managed, "default"), keyed(session, "default"), keyed(w.worker, "default")} {
				if do(route, d, d.with(t, func(thing string) called { return unready[thing] }), c).Status >= 500 {
					failed++
				}
			}
		})
		down.Store(false)
		if failed < 100 {
			t.Errorf("only %d requests failed", failed)
		}

		// A job whose prompt has a secret of somebody's, to its ends.
		w.submits("prompt", workCanary, "context", pairs("key", workCanary), "topic", "job.test.wipe")
		w.submits("prompt", workCanary, "context", pairs("key", workCanary), "topic", "job.test.ask")
		w.submits("prompt", workCanary, "context", pairs("key", workCanary), "topic", "job.test.work")
		working.result(working.job().GetJobId(), ok, "")
		time.Sleep(2 * time.Minute)
		for _, path := range []string{"/api/v1/dlq", "/api/v1/dlq/page", "/api/v1/jobs?limit=500", "/api/v1/policy/audit", "/api/v1/locks/list", "/api/v1/workers"} {
			p.add("a list", r.get(path).ok(200).Body)
		}
		entries, err := json.Marshal(r.entries("default"))
		if err != nil {
			t.Fatal(err)
		}
		p.add("the trail", string(entries))
		p.add("a frame", watching.texts.String())
		for len(working.in) > 0 {
			text, err := protojson.Marshal(<-working.in)
			if err != nil {
				t.Fatal(err)
			}
			p.add("a packet", regexp.MustCompile(`"session_token":\s*"[^"]*"`).ReplaceAllString(string(text), ""))
		}
		p.search(t)
	})
}

// tapped are a managed key, a session of the first administrator and a web token.
func (r *rig) tapped(p *tape) (managed, session, webToken string) {
	r.t.Helper()
	_, managed = r.key("tapped", "admin")
	session = r.login("root", rootCanary)
	webToken = token(r.t, jwtCanary, time.Hour, pairs("role", "admin"))
	p.keep("a managed key", managed)
	p.keep("a session", session)
	p.keep("a session without its prefix", strings.TrimPrefix(session, "session-"))
	p.keep("a managed key without its prefix", managed[12:])
	p.keep("a web token", webToken)
	p.keep("a web token's signature", webToken[strings.LastIndexByte(webToken, '.')+1:])
	return managed, session, webToken
}

// search looks for every secret, in every place.
func (p *tape) search(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for where, most := range map[string]int{
		"an answer": 500_000, "the table": 100_000, "a queue": 1000, "a metric": 100_000, "the log": 50_000, "a handshake": 1000, "a list": 1000, "the trail": 1000, "a frame": 1000, "a packet": 100,
	} {
		if n := len(strings.Join(p.texts[where], "")); n < most {
			t.Errorf("%s has only %d bytes", where, n)
		}
	}
	found := 0
	for where, texts := range p.texts {
		whole := strings.Join(texts, "\n")
		secrets := maps.Clone(p.secrets)
		if !slices.Contains([]string{"an answer", "the table"}, where) { // a job's own answers and its body have what it is about
			secrets[workCanary] = "what a job is about"
		}
		for secret, what := range secrets {
			if where == "the table" && strings.HasPrefix(secret, "wt1.") { // a worker is told its token again with every beat
				continue
			}
			for _, form := range []string{secret, base64.RawURLEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
				if i := strings.Index(whole, form); i >= 0 && found < 50 {
					found++
					t.Errorf("%s has %s, %q: ...%s", where, what, form, whole[max(0, i-160):min(len(whole), i+len(form)+80)])
				}
			}
		}
	}
}
