// Package proto holds the contract: the .proto files, and the table that binds every HTTP route to one of their methods.
package proto

import _ "embed"

// RoutesYAML is the table of the REST surface, a google.api.Service document in YAML. Its order is of no meaning to readers that prefer
// literal segments to parameters; to grpc-gateway, where the last fitting route wins, parameterised routes stand before their literal
// siblings.
//
//go:embed routes.yaml
var RoutesYAML []byte
