// Package release says which release of the plane this is.
package release

// Version is the plane's. Clients, and the plane itself, compare it with what a pack asks for, so it is a semantic version.
const Version = "0.9.0"
