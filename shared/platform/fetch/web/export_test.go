package web

// Control is for tests.
var Control = control
