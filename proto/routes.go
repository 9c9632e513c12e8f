// Package proto holds the contract: the .proto files, and the table that binds every HTTP route to one of their methods.
package proto

import _ "embed"

// RoutesYAML is the table of the REST surface, a google.api.Service document in YAML: http.rules, each with a selector (the full name of a
// method), one of get, put, post, delete with a path, and where they apply body ("*" or the field of the request that the body is) and
// response_body (the field of the answer that the body is).
//
//go:embed routes.yaml
var RoutesYAML []byte
