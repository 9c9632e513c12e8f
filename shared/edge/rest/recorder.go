package rest

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// recorder is the ResponseWriter of a request. A success without a status of its own gets the method's; answers to HEAD and those of a
// status that has none are written without a body: net/http would drop it, the Lambda adapter would not. An answer that Lambda would not deliver
// is not begun.
type recorder struct {
	w       http.ResponseWriter
	head    bool
	success int
	status  int   // 0 until the header is written
	err     error // why generated code gave up
}

// Header answers the header that will be written.
func (r *recorder) Header() http.Header { return r.w.Header() }

// WriteHeader writes the status; the first one counts.
func (r *recorder) WriteHeader(status int) {
	if r.status != 0 {
		return
	}
	r.status = status
	if r.bodiless() {
		r.Header().Del("Content-Type")
	}
	r.w.WriteHeader(status)
}

// Write writes a part of the body.
func (r *recorder) Write(body []byte) (int, error) {
	if r.status == 0 {
		if !delivered(body) {
			r.err = errAnswer
			return 0, errAnswer
		}
		if r.head && r.Header().Get("Content-Length") == "" {
			r.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		r.WriteHeader(r.success)
	}
	if r.head || r.bodiless() {
		return len(body), nil
	}
	return r.w.Write(body)
}

// maxAnswer is the most that the body of an answer may have as a text of JSON, in bytes: Lambda takes 6 MiB and 100 bytes, with status and headers.
const maxAnswer = 6<<20 - 16<<10

var errAnswer = fault.New(fault.TooLarge, "the answer is too large (max 6 MB); ask for less")

// delivered says whether Lambda delivers a body. For one that is larger the client would hear a bare 502 from API Gateway.
func delivered(body []byte) bool {
	if 2*len(body) <= maxAnswer { // quotes double it at the most
		return true
	}
	if !utf8.Valid(body) {
		return base64.StdEncoding.EncodedLen(len(body)) <= maxAnswer
	}
	n := len(body) + 3*(bytes.Count(body, []byte("\u2028"))+bytes.Count(body, []byte("\u2029")))
	for _, c := range body {
		if c == '"' || c == '\\' || c < ' ' {
			n++
		}
	}
	return n <= maxAnswer
}

func (r *recorder) bodiless() bool {
	return r.status == http.StatusNoContent || r.status == http.StatusNotModified
}

// end writes the status of an answer that had nothing to say.
func (r *recorder) end() {
	if r.status == 0 {
		r.WriteHeader(r.success)
	}
}
