// Package rest serves the contract's services over HTTP: one http.Handler for net/http and, through Lambda, for API Gateway's events.
//
// The table of routes finds the method, the gate of package auth admits the request, and only then is the body read and handed to the
// generated grpc-gateway code, in process. grpc-gateway's own router is not asked: there the last registration wins, here what is literal.
package rest
