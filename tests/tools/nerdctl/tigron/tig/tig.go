// Package tig stands in for the module of the same name, which nerdctl keeps inside its own
// repository and replaces by a relative path, so that no proxy can serve it. nerdctl's binary
// links one helper for tests that names this interface; nothing calls it at run time.
package tig

// T is what that helper needs of testing.T.
type T interface {
	Helper()
	FailNow()
	Fail()
	Log(args ...any)
	Name() string
	TempDir() string
}
