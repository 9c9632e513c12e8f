// Package api holds the published description of the API and a page that shows it.
package api

import (
	_ "embed"
	"net/http"

	swagger "github.com/swaggo/files/v2"
)

// Document is the OpenAPI document.
//
//go:embed openapi/cordum.swagger.json
var Document []byte

// initializer points Swagger UI at our document instead of its own example.
const initializer = `window.onload = function() {
  window.ui = SwaggerUIBundle({
    url: "cordum.swagger.json", dom_id: "#swagger-ui", deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset], plugins: [SwaggerUIBundle.plugins.DownloadUrl],
    layout: "StandaloneLayout"
  });
};
`

// policy lets this page, and no other, run its own scripts.
const policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

// Handler serves Swagger UI with our document. It expects paths without a prefix of its own: mount it with http.StripPrefix.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(swagger.FS))
	mux.HandleFunc("GET /cordum.swagger.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(Document) // a client that has gone hears nothing
	})
	mux.HandleFunc("GET /swagger-initializer.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write([]byte(initializer))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}
