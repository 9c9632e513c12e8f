// Package user is who may call a plane beside the keys of its configuration: users with passwords, the sessions that they open, managed API keys, and
// the failed logins that slow guessers down.
//
// Of a password only its argon2id hash is stored, of a session's token and a key's secret only their SHA-256. What a session or a key may do is read
// from what it belongs to, each time: a user has a generation, which whatever ends the user's sessions raises, so that all are over with one write.
package user
