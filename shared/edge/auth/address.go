package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"strings"
)

// Headers that the edge (CloudFront) sets on every request that it passes on, whatever the client has sent under these names.
const (
	// EdgeHeader proves that a request came through the edge: it holds the token that only the edge and the plane know.
	EdgeHeader = "X-Cordum-Edge"
	// ViewerHeader is the address of the client that the edge serves.
	ViewerHeader = "X-Cordum-Viewer"
)

// Address answers the client's address: the edge's word when the request proves that it came through the edge, the connection's otherwise. The
// plane's own URLs stay open beside the edge, so a header alone says nothing.
func (g *Gate) Address(direct string, proof, viewer []string) string {
	if g.edge == nil || len(proof) != 1 || len(viewer) != 1 {
		return direct
	}
	sum := sha256.Sum256([]byte(proof[0]))
	if subtle.ConstantTimeCompare(sum[:], g.edge[:]) != 1 {
		return direct
	}
	if _, err := netip.ParseAddr(strings.TrimSpace(viewer[0])); err != nil {
		return direct
	}
	return strings.TrimSpace(viewer[0])
}
