package rest

import (
	"net/http"
	"strconv"
)

// recorder is the ResponseWriter of a request. A success without a status of its own gets the method's; answers to HEAD and those of a
// status that has none are written without a body: net/http would drop it, the Lambda adapter would not.
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

func (r *recorder) bodiless() bool {
	return r.status == http.StatusNoContent || r.status == http.StatusNotModified
}

// end writes the status of an answer that had nothing to say.
func (r *recorder) end() {
	if r.status == 0 {
		r.WriteHeader(r.success)
	}
}
