package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/cordum-serverless/cordum/shared/edge/stream"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// Limits of a client's connection.
const (
	// clientBuffer is how many bytes of frames wait for a client; more close its connection. It counts bytes and not frames, and many of them, so
	// that a client that reads is not cut off by a burst, nor because the machine has no time for it just now.
	clientBuffer = 4 << 20
	// writeTimeout is how long one frame may take: a client that reads nothing is cut off after that.
	writeTimeout = 5 * time.Second
	// pingEvery and pongWithin find clients that vanished.
	pingEvery  = 30 * time.Second
	pongWithin = 10 * time.Second
	// maxAge is how long API Gateway lets a connection live, maxIdle how long one on which nobody says anything: pings are no words.
	maxAge  = 2 * time.Hour
	maxIdle = 10 * time.Minute
	// maxInbound is the largest frame of a client, which is passed over anyhow.
	maxInbound = 32 * 1024
)

// Sockets stands in for API Gateway's WebSocket API, and for the CloudFront distribution that leads the two stream paths to it: a handshake is a
// CONNECT event of the function, frames are posted by connection id, and the end is a DISCONNECT event. Everything else goes to the handler
// behind it.
type Sockets struct {
	function Function
	open     *embedded.Connections
	next     http.Handler
	clock    clock.Clock
	log      *slog.Logger

	mu      sync.Mutex
	closing bool
	sockets map[string]*socket // by connection id
	running sync.WaitGroup
}

// NewSockets makes the front.
func NewSockets(f Function, open *embedded.Connections, next http.Handler, clk clock.Clock, log *slog.Logger) *Sockets {
	return &Sockets{function: f, open: open, next: next, clock: clk, log: log, sockets: map[string]*socket{}}
}

// ServeHTTP serves the handshakes of streams, and hands on everything else, which refuses what is none in the order of every refusal.
func (s *Sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	job, ok := stream.JobOf(r.URL.Path)
	if ok && handshake(r) {
		s.serve(w, r, job)
		return
	}
	if ok {
		w.Header().Set("Sec-WebSocket-Version", version)
	}
	s.next.ServeHTTP(w, r)
}

// version is the one of the protocol that there is.
const version = "13"

// handshake says whether a request is one that can be accepted (RFC 6455, 4.2.1).
func handshake(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && has(r.Header["Connection"], "upgrade") && has(r.Header["Upgrade"], "websocket") &&
		len(r.Header["Sec-Websocket-Key"]) == 1 && err == nil && len(key) == 16 && r.Header.Get("Sec-WebSocket-Version") == version
}

// has looks for a word in a header that lists words.
func has(values []string, word string) bool {
	for one := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if strings.EqualFold(strings.TrimSpace(one), word) {
			return true
		}
	}
	return false
}

// socket is one client.
type socket struct {
	id     string
	conn   *websocket.Conn
	out    outbox
	end    chan struct{} // closed when the connection shall close
	ending sync.Once
	code   websocket.StatusCode
	reason string

	opened    time.Time
	ip, agent string
	active    atomic.Int64 // when it was written to last, in Unix milliseconds
}

func (c *socket) close(code websocket.StatusCode, reason string) {
	c.ending.Do(func() {
		c.code, c.reason = code, reason
		close(c.end)
	})
}

func (c *socket) dropped(why push.Reason) {
	code := websocket.StatusPolicyViolation
	if why == push.Slow {
		code = websocket.StatusTryAgainLater
	}
	c.close(code, why.String())
}

func (c *socket) ended() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

var errSlow = errors.New("gateway: the client reads too slowly")

// send queues a frame. It never waits, so that no client does for another.
func (c *socket) send(_ context.Context, frame []byte) error {
	if c.ended() {
		return errSlow
	}
	if !c.out.add(frame) {
		c.close(websocket.StatusTryAgainLater, "too slow")
		return errSlow
	}
	return nil
}

// outbox are the frames that wait for a client.
type outbox struct {
	ready chan struct{} // has room for one: there is something to take

	mu     sync.Mutex
	frames [][]byte
	size   int // bytes that were added and are not written yet
}

// add queues a frame; false when too much waits already.
func (o *outbox) add(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size+len(frame) > clientBuffer {
		return false
	}
	o.frames = append(o.frames, frame)
	o.size += len(frame)
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return true
}

// take answers all that waits, in order.
func (o *outbox) take() [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames := o.frames
	o.frames = nil
	return frames
}

// written makes room for others.
func (o *outbox) written(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(frame)
}

func (s *Sockets) serve(w http.ResponseWriter, r *http.Request, job string) {
	id := connectionID()
	answer, err := s.invoke(r.Context(), s.connectEvent(r, id, job))
	if err != nil {
		s.log.Error("stream function failed", "error", err)
		fail(w, http.StatusInternalServerError)
		return
	}
	if answer.StatusCode != http.StatusOK {
		for name, value := range answer.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = w.Write([]byte(answer.Body)) // a client that has gone hears nothing
		return
	}
	defer s.disconnect(id)
	opts := &websocket.AcceptOptions{InsecureSkipVerify: true} // the function has checked the origin
	if name := answer.Headers["Sec-WebSocket-Protocol"]; name != "" {
		opts.Subprotocols = []string{name}
	}
	c := &socket{
		id: id, out: outbox{ready: make(chan struct{}, 1)}, end: make(chan struct{}), opened: s.clock.Now(), ip: address(r), agent: r.UserAgent(),
	}
	c.active.Store(c.opened.UnixMilli())
	if !s.enter(c) {
		fail(w, http.StatusServiceUnavailable)
		return
	}
	defer s.leave(c)
	// it is there for events before the client knows that the handshake is over
	unregister := s.open.Register(id, c.send, c.dropped)
	defer unregister()
	if c.conn, err = websocket.Accept(w, r, opts); err != nil {
		return // Accept has answered
	}
	s.pump(c)
}

func (s *Sockets) enter(c *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sockets[c.id] = c
	s.running.Add(1)
	return true
}

func (s *Sockets) leave(c *socket) {
	s.mu.Lock()
	delete(s.sockets, c.id)
	s.mu.Unlock()
	s.running.Done()
}

// pump writes frames and pings until the client leaves or the connection shall close. What the client says is passed over.
func (s *Sockets) pump(c *socket) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.conn.SetReadLimit(maxInbound)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, _, err := c.conn.Read(ctx); err != nil {
				return
			}
			c.active.Store(s.clock.Now().UnixMilli())
		}
	}()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-c.out.ready:
			if err := c.write(ctx); err != nil {
				c.close(websocket.StatusTryAgainLater, "too slow")
			}
			c.active.Store(s.clock.Now().UnixMilli())
		case <-ping.C:
			if err := pong(ctx, c.conn); err != nil {
				c.close(websocket.StatusGoingAway, "no answer to a ping")
			}
			switch now := s.clock.Now(); {
			case now.Sub(c.opened) >= maxAge:
				c.close(websocket.StatusGoingAway, "two hours are over")
			case now.Sub(time.UnixMilli(c.active.Load())) >= maxIdle:
				c.close(websocket.StatusGoingAway, "idle for ten minutes")
			}
		case <-c.end:
			_ = c.conn.Close(c.code, c.reason) // it may have gone
			return
		case <-gone:
			_ = c.conn.CloseNow() // likewise
			return
		}
	}
}

// write writes what waits, unless the connection shall close.
func (c *socket) write(ctx context.Context) error {
	for _, frame := range c.out.take() {
		if c.ended() {
			return nil
		}
		if err := writeFrame(ctx, c.conn, frame); err != nil {
			return err
		}
		c.out.written(frame)
	}
	return nil
}

func writeFrame(ctx context.Context, conn *websocket.Conn, frame []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, frame)
}

func pong(ctx context.Context, conn *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pongWithin)
	defer cancel()
	return conn.Ping(ctx)
}

// Close ends all connections and waits for them.
func (s *Sockets) Close() {
	s.mu.Lock()
	s.closing = true
	for _, c := range s.sockets {
		c.close(websocket.StatusGoingAway, "shutting down")
	}
	s.mu.Unlock()
	s.running.Wait()
}

// connectionID looks like API Gateway's.
func connectionID() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // it does not fail
	return base64.URLEncoding.EncodeToString(b)
}

func (s *Sockets) invoke(ctx context.Context, e events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	var answer events.APIGatewayProxyResponse
	payload, err := json.Marshal(e)
	if err != nil {
		return answer, err
	}
	raw, err := s.function.Invoke(ctx, payload)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(raw, &answer)
}

func (s *Sockets) connectEvent(r *http.Request, id, job string) events.APIGatewayWebsocketProxyRequest {
	e := s.event("CONNECT", "$connect", id)
	e.Headers, e.MultiValueHeaders = map[string]string{"Host": r.Host}, map[string][]string{"Host": {r.Host}}
	for name, values := range r.Header {
		e.Headers[name] = values[len(values)-1]
		e.MultiValueHeaders[name] = values
	}
	e.QueryStringParameters = map[string]string{}
	maps.Copy(e.QueryStringParameters, query(r.URL))
	delete(e.QueryStringParameters, stream.JobParameter)
	if r.URL.Path != stream.Path {
		e.QueryStringParameters[stream.JobParameter] = job
	}
	e.RequestContext.Identity.SourceIP = address(r)
	return e
}

func (s *Sockets) event(kind, route, id string) events.APIGatewayWebsocketProxyRequest {
	return events.APIGatewayWebsocketProxyRequest{RequestContext: events.APIGatewayWebsocketProxyRequestContext{
		RouteKey: route, EventType: kind, ConnectionID: id, Stage: "local", APIID: "local", DomainName: "local",
		RequestID: connectionID(), RequestTimeEpoch: s.clock.Now().UnixMilli(),
	}}
}

// disconnect tells the function that a client has left. On AWS this event may be missing; here too its failure is only logged.
func (s *Sockets) disconnect(id string) {
	if _, err := s.invoke(context.Background(), s.event("DISCONNECT", "$disconnect", id)); err != nil {
		s.log.Warn("stream function failed", "error", err)
	}
}
