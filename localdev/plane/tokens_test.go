package plane_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

const tokenSecret = "a secret that only these tests and their plane know"

// token is a web token of the secret for so long.
func token(t *testing.T, secret string, lasts time.Duration, more map[string]any) string {
	t.Helper()
	claims := jwt.MapClaims{"iss": "cordum-dev", "sub": "tess", "tenant": "default", "exp": time.Now().Add(lasts).Unix()}
	maps.Copy(claims, more)
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Who a request is let in as, told by what it may not: the key is an administrator's, the token a viewer's, and the third another tenant's.
const (
	byKey, byToken, byThird, nobody = "key", "token", "third", "nobody"
)

// sent is a way to send a credential, whether it is one at all, and who it is when it is looked at.
type sent struct {
	name, value string
	none        bool
	who         string
}

func bearers(t *testing.T) []sent {
	return []sent{
		{"nothing", "", true, ""}, {"another scheme", "Basic YTpi", true, ""}, {"an empty bearer", "Bearer ", true, ""},
		{"a token", "Bearer " + token(t, tokenSecret, time.Hour, nil), false, byToken},
		{"an expired token", "Bearer " + token(t, tokenSecret, -time.Second, nil), false, nobody},
		{"a forged token", "bearer " + token(t, "another secret", time.Hour, nil), false, nobody},
		{"a token that is none", "Bearer a.b.c", false, nobody},
		{"a session that is none", "Bearer session-AAAA", false, nobody},
		{"a key as bearer", "Bearer k-admin", false, byKey}, {"a bad key as bearer", "Bearer k-none", false, nobody}, {"an expired key as bearer", "Bearer k-late", false, nobody},
	}
}

func keysSent(t *testing.T) []sent {
	return []sent{
		{"nothing", "", true, ""}, {"a blank", " ", true, ""}, {"a key", "k-admin", false, byKey}, {"a bad key", "k-none", false, nobody},
		{"an expired key", "k-late", false, nobody}, {"a session that is none", "session-AAAA", false, nobody},
		{"a token as a key", token(t, tokenSecret, time.Hour, nil), false, nobody},
	}
}

func thirds() []sent {
	return []sent{{"nothing", "", true, ""}, {"a key", "k-other", false, byThird}, {"a bad key", "k-none", false, nobody}, {"an expired key", "k-late", false, nobody}}
}

// decides is the rule: the first credential that is present, whatever comes of it.
func decides(tokensOnly bool, inOrder ...sent) string {
	for i, s := range inOrder {
		switch {
		case s.none:
		case tokensOnly && (i > 0 || s.who == byKey):
			return nobody
		default:
			return s.who
		}
	}
	return nobody
}

func admitted(httpStatus int, text string) string {
	switch {
	case httpStatus == 401 && text == "unauthorized":
		return nobody
	case httpStatus == 403 && text == "access denied":
		return byToken
	case httpStatus == 403 && text == "tenant access denied":
		return byThird
	case httpStatus == 200, httpStatus == http.StatusSwitchingProtocols:
		return byKey
	}
	return fmt.Sprint(httpStatus, " ", text)
}

// TestPrecedenceOfCredentials sends every combination of credentials through every door.
func TestPrecedenceOfCredentials(t *testing.T) {
	var more []map[string]any
	if err := json.Unmarshal([]byte(keys), &more); err != nil {
		t.Fatal(err)
	}
	more = append(more, map[string]any{"key": "k-late", "tenant": "default", "expires_at": today.Add(-time.Minute).Format(time.RFC3339)})
	text, err := json.Marshal(more)
	if err != nil {
		t.Fatal(err)
	}
	for _, tokensOnly := range []bool{false, true} {
		t.Run(fmt.Sprint("tokens only ", tokensOnly), func(t *testing.T) {
			cfg := having("CORDUM_API_KEYS", string(text), "CORDUM_JWT_HMAC_SECRET", tokenSecret, "CORDUM_JWT_REQUIRED", fmt.Sprint(tokensOnly))
			virtually(t, cfg, func(t *testing.T, r *rig) {
				for _, b := range bearers(t) {
					for _, k := range keysSent(t) {
						if got, want := r.rest(b, k), decides(tokensOnly, b, k); got != want {
							t.Errorf("REST, %s, then %s: %s, want %s", b.name, k.name, got, want)
						}
						for _, third := range thirds() {
							want := decides(tokensOnly, b, k, third)
							if got := r.socket(b, k, third); got != want {
								t.Errorf("WebSocket, %s, then %s, then %s: %s, want %s", b.name, k.name, third.name, got, want)
							}
							if got := r.call(b, k, third); got != want {
								t.Errorf("gRPC, %s, then %s, then %s: %s, want %s", b.name, k.name, third.name, got, want)
							}
						}
					}
				}
			})
		})
	}
}

func (r *rig) rest(bearer, key sent) string {
	a := r.as("", "GET", "/api/v1/dlq", nil, "Authorization", bearer.value, "X-API-Key", key.value)
	var refusal struct{ Error string }
	_ = json.Unmarshal([]byte(a.Body), &refusal) // a list is no refusal
	return admitted(a.Status, refusal.Error)
}

func (r *rig) socket(bearer, key, third sent) string {
	h := http.Header{"X-Tenant-Id": {"default"}}
	if bearer.value != "" {
		h.Set("Authorization", bearer.value)
	}
	if key.value != "" {
		h.Set("X-Api-Key", key.value)
	}
	if third.value != "" {
		h.Set("Sec-WebSocket-Protocol", "cordum-api-key, "+base64.RawURLEncoding.EncodeToString([]byte(third.value)))
	}
	conn, res, err := r.open("/api/v1/stream", h)
	if err == nil {
		_ = conn.CloseNow() // it was let in, and that is all
		return admitted(res.StatusCode, "")
	}
	body, _ := io.ReadAll(res.Body)
	var refusal struct{ Error string }
	_ = json.Unmarshal(body, &refusal) // what is no JSON has no such text
	return admitted(res.StatusCode, refusal.Error)
}

func (r *rig) call(bearer, key, third sent) string {
	md := metadata.Pairs("x-tenant-id", "default")
	for name, value := range map[string]string{"authorization": bearer.value, "x-api-key": key.value, "api-key": third.value} {
		if value != "" {
			md.Set(name, value)
		}
	}
	if r.api == nil {
		r.api = cordumv1.NewCordumApiClient(r.conn())
	}
	_, err := r.api.SubmitJob(metadata.NewOutgoingContext(r.t.Context(), md), &cordumv1.SubmitJobRequest{})
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unauthenticated:
		return admitted(401, st.Message())
	case codes.PermissionDenied:
		return admitted(403, st.Message())
	case codes.InvalidArgument:
		return byKey
	default:
		return st.String()
	}
}

// A token acts for whom it names, and what it opened ends with it: streams of clients and of workers.
func TestAStreamEndsWithItsToken(t *testing.T) {
	cfg := having("CORDUM_JWT_HMAC_SECRET", tokenSecret, "CORDUM_JWT_WORKERS", "true", "CORDUM_JWT_CLOCK_SKEW", "10s")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		const lasts = 7*time.Minute + 3*time.Second
		job := r.submit("topic", "job.test.ask").JobID
		open := func(lasts time.Duration, more map[string]any, path string) *watcher {
			t.Helper()
			conn, _, err := r.open(path, http.Header{"X-Tenant-Id": {"default"}, "Authorization": {"Bearer " + token(t, tokenSecret, lasts, more)}})
			if err != nil {
				t.Fatal(err)
			}
			return r.listen(conn)
		}
		admin := map[string]any{"role": "admin"}
		all, one, longer := open(lasts, admin, "/api/v1/stream"), open(lasts, nil, "/api/v1/jobs/"+job+"/stream"), open(time.Hour, admin, "/api/v1/stream")
		worker := r.streamAs(token(t, tokenSecret, lasts, map[string]any{"role": "worker", "pools": []string{"main"}}), "w-token", "main", 1)
		began := time.Now()
		for name, w := range map[string]*watcher{"all": all, "one job": one} {
			code := <-w.closed
			if took := time.Since(began); code != websocket.StatusPolicyViolation || took < lasts || took > lasts+15*time.Second {
				t.Errorf("%s: closed with %d after %s", name, code, took)
			}
		}
		err := <-worker.end
		if took := time.Since(began); status.Code(err) != codes.Unauthenticated || took < lasts || took > lasts+15*time.Second {
			t.Errorf("the worker's stream ended with %v after %s", err, took)
		}
		r.post("/api/v1/jobs/"+job+"/cancel", nil).ok(200)
		want(t, "the longer one", longer.said(), "jobResult "+job+" CANCELLED by api-gateway", "jobCancel "+job)
	})
}

// What a token's holder does is in the trail under the name that the issuer gave, and no header replaces it.
func TestAJobOfATokenIsItsSubjects(t *testing.T) {
	virtually(t, having("CORDUM_JWT_HMAC_SECRET", tokenSecret), func(t *testing.T, r *rig) {
		bearer := "Bearer " + token(t, tokenSecret, time.Minute, map[string]any{"role": "user"})
		a := r.as("", "POST", "/api/v1/jobs", map[string]any{"prompt": "p", "topic": "job.test.work"}, "Authorization", bearer, "X-Principal-Id", "mallory").ok(200)
		var res receipt
		a.json(&res)
		if by := r.get("/api/v1/jobs/" + res.JobID).ok(200).object()["actor_id"]; by != "tess" {
			t.Errorf("submitted by %v", by)
		}
		r.as("", "GET", "/api/v1/jobs/"+res.JobID, nil, "Authorization", bearer, "X-Tenant-ID", "other").refused(403, "tenant access denied")
	})
}
