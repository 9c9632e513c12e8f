package auth

// Remembered is how many sessions a gate remembers.
func Remembered(g *Gate) (n int) {
	for _, p := range g.providers {
		if s, ok := p.(*sessions); ok {
			n += len(s.known.young) + len(s.known.older)
		}
	}
	return n
}

// ParseKeySet is for tests.
var ParseKeySet = parseKeySet

// Lasting says whether an id is of a web token.
func Lasting(id string) bool { return lasting(id) }
