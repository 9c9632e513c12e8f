package auth

// ParseKeySet is for tests.
var ParseKeySet = parseKeySet
