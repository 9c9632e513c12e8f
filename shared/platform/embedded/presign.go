package embedded

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

const (
	methodGet = http.MethodGet
	methodPut = http.MethodPut
)

// grant is what a presigned URL allows.
type grant struct {
	method, key string
	until       int64 // Unix seconds
	blob.Upload       // of a PUT
}

// headers are those that a request has that uploads. They are S3's, so that a client that forgets one learns of it here.
func headers(u blob.Upload) map[string]string {
	h := map[string]string{"Content-Type": u.ContentType, "If-None-Match": "*"}
	if u.Class != "" {
		h["X-Amz-Tagging"] = "class=" + u.Class
	}
	return h
}

func (b *Blobs) sign(g grant) string {
	mac := hmac.New(sha256.New, b.key)
	// Quoted, so that no two grants have one text.
	_, _ = fmt.Fprintf(mac, "%q %q %q %q %d %d", g.method, g.key, g.ContentType, g.Class, g.Size, g.until)
	return hex.EncodeToString(mac.Sum(nil))
}

func (b *Blobs) presign(ctx context.Context, g grant) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if b.base == nil {
		return "", fmt.Errorf("%w: no BlobURL is set, so nothing serves presigned URLs", blob.ErrUnavailable)
	}
	q := url.Values{"expires": {strconv.FormatInt(g.until, 10)}, "signature": {b.sign(g)}}
	if g.method == methodPut {
		q.Set("type", g.ContentType)
		q.Set("size", strconv.FormatInt(g.Size, 10))
		q.Set("class", g.Class)
	}
	u := *b.base
	u.Path += "/" + g.key
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// refusedBody is how much of an upload that is refused is read, in bytes.
const refusedBody = 1 << 20

// Handler serves presigned URLs, at the path of Options.BlobURL: GET and HEAD of an object, PUT of an upload. What is not signed is 403.
func (b *Blobs) Handler() http.Handler { return http.HandlerFunc(b.serve) }

func (b *Blobs) serve(w http.ResponseWriter, r *http.Request) {
	// Any page may use a URL that it was told: nothing but the URL lets it in.
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, PUT")
		w.Header().Set("Access-Control-Allow-Headers", "*")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	g, err := b.granted(r)
	if err != nil {
		// A client that is still sending would see a broken connection instead of the answer.
		_, _ = io.CopyN(io.Discard, r.Body, refusedBody)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		b.download(w, r, g)
	default:
		b.upload(w, r, g)
	}
}

var errForbidden = errors.New("this URL is not signed for that, or its time is over")

// granted answers what the request's URL allows; an error when that is not what it does.
func (b *Blobs) granted(r *http.Request) (grant, error) {
	if b.base == nil {
		return grant{}, errForbidden
	}
	key, ours := strings.CutPrefix(r.URL.Path, b.base.Path+"/")
	q := r.URL.Query()
	g := grant{method: r.Method, key: key, Upload: blob.Upload{ContentType: q.Get("type"), Class: q.Get("class")}}
	if r.Method == http.MethodHead {
		g.method = methodGet
	}
	g.until, _ = strconv.ParseInt(q.Get("expires"), 10, 64)
	g.Size, _ = strconv.ParseInt(q.Get("size"), 10, 64)
	valid := hmac.Equal([]byte(b.sign(g)), []byte(q.Get("signature")))
	if !ours || !valid || time.Now().Unix() >= g.until {
		return grant{}, errForbidden
	}
	if g.method != methodPut {
		return g, nil
	}
	if r.ContentLength != g.Size {
		return grant{}, fmt.Errorf("this URL is for exactly %d bytes", g.Size)
	}
	for name, value := range headers(g.Upload) {
		if r.Header.Get(name) != value {
			return grant{}, fmt.Errorf("this URL is for requests with the header %s: %s", name, value)
		}
	}
	return g, nil
}

func (b *Blobs) download(w http.ResponseWriter, r *http.Request, g grant) {
	o, body, err := b.shelf.open(g.key)
	if errors.Is(err, blob.ErrNotFound) {
		http.Error(w, "no such object", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer body.Close() //nolint:errcheck // only read
	h := w.Header()
	h.Set("Content-Type", o.ContentType)
	h.Set("Content-Length", strconv.FormatInt(o.Size, 10))
	// On a laptop objects share an origin with the API: what was uploaded must not run there.
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, body) // an error means that the client has gone
	}
}

func (b *Blobs) upload(w http.ResponseWriter, r *http.Request, g grant) {
	o := blob.Object{ContentType: g.ContentType, Class: g.Class, Size: g.Size}
	switch err := b.shelf.put(g.key, o, io.LimitReader(r.Body, g.Size), true); {
	case errors.Is(err, blob.ErrExists):
		http.Error(w, "there is an object already", http.StatusPreconditionFailed)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
