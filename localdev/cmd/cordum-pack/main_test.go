package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
)

// play runs the command and answers what it wrote.
func play(t *testing.T, want int, args ...string) (out, complaints string) {
	t.Helper()
	var o, c bytes.Buffer
	if code := run(args, &o, &c); code != want {
		t.Errorf("%v exits with %d, want %d\n%s%s", args, code, want, &o, &c)
	}
	return o.String(), c.String()
}

// copied is a copy of the pack that package pack is tested with.
func copied(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "harbour")
	if err := os.CopyFS(dir, os.DirFS("../../../shared/core/pack/testdata/harbour")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFromAKeyToASignedBundle(t *testing.T) {
	dir, work := copied(t), t.TempDir()
	key, tgz, trust := filepath.Join(work, "key.pem"), filepath.Join(work, "harbour.tgz"), filepath.Join(work, "trust.json")
	public, _ := play(t, fine, "keygen", "--id", "author-1", key)
	write(t, public, trust)
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", info, err)
	}
	play(t, failed, "keygen", key) // would replace it

	if _, why := play(t, refused, "verify-signature", "--trust", trust, dir); !strings.Contains(why, "pack is not signed") {
		t.Error(why)
	}
	if out, _ := play(t, fine, "sign", "--key", key, "--id", "author-1", dir); out != "harbour 1.10 is signed by author-1: 9 files\n" {
		t.Error(out)
	}
	play(t, fine, "sign", "--key", key, "--id", "author-1", dir) // again
	sum, _ := play(t, fine, "build", "-o", tgz, dir)
	for _, args := range [][]string{{"--trust", trust, tgz}, {"--trust", public, dir}} {
		if out, _ := play(t, fine, append([]string{"verify-signature"}, args...)...); out != "harbour 1.10 was signed by author-1\n" {
			t.Error(out)
		}
	}
	if out, _ := play(t, fine, "build", "-o", tgz, dir); out != sum || !strings.HasSuffix(out, "  "+tgz+"\n") {
		t.Errorf("the same folder makes %s and %s", sum, out)
	}
	write(t, "rules: []\n", dir, "overlays", "limits.yaml")
	if _, why := play(t, refused, "verify-signature", "--trust", trust, dir); !strings.Contains(why, "overlays/limits.yaml is not as it was signed") {
		t.Error(why)
	}
	other, _ := play(t, fine, "keygen", filepath.Join(work, "other.pem"))
	if _, why := play(t, refused, "verify-signature", "--trust", other, tgz); !strings.Contains(why, `key "author-1" is not trusted here`) {
		t.Error(why)
	}
}

func TestASignatureLiesBesideItsManifest(t *testing.T) {
	dir, key := filepath.Dir(copied(t)), filepath.Join(t.TempDir(), "key.pem")
	play(t, fine, "keygen", key)
	if _, why := play(t, failed, "sign", "--key", key, dir); why != "cordum-pack: the pack lies in a folder of "+dir+": sign that one\n" {
		t.Error(why)
	}
	play(t, fine, "sign", "--key", key, filepath.Join(dir, "harbour"))
	play(t, fine, "build", "-o", filepath.Join(t.TempDir(), "x.tgz"), dir)
}

func TestBuildTakesWhatIsNotHidden(t *testing.T) {
	dir := copied(t)
	write(t, "secret", dir, ".env")
	write(t, "x", dir, ".git", "config")
	write(t, "read me", dir, "README.md")
	tgz := filepath.Join(t.TempDir(), "x.tgz")
	play(t, fine, "build", "-o", tgz, dir)
	b, err := os.ReadFile(tgz)
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Read(b)
	if err != nil || !a.Has("README.md") || a.Has(".env") || a.Has(".git/config") {
		t.Error(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, why := play(t, failed, "build", "-o", tgz, dir); !strings.Contains(why, "is no file, and a pack has only files") {
		t.Error(why)
	}
}

func TestBuildNamesTheBundle(t *testing.T) {
	dir := copied(t)
	t.Chdir(t.TempDir())
	if out, _ := play(t, fine, "build", dir); !strings.HasSuffix(out, "  harbour-1.10.tgz\n") {
		t.Error(out)
	}
	if _, err := os.Stat("harbour-1.10.tgz"); err != nil {
		t.Error(err)
	}
	play(t, refused, "build", "-o", "x.zip", dir)
}

func TestInspect(t *testing.T) {
	dir := copied(t)
	if out, _ := play(t, fine, "inspect", dir); !strings.Contains(out, `"fragment_id": "harbour/safety"`) {
		t.Error(out)
	}
	if _, why := play(t, refused, "inspect", "--core", "0.5.0", dir); !strings.Contains(why, "core version 0.5.0 does not satisfy minCoreVersion 0.6.0") {
		t.Error(why)
	}
	write(t, "metadata: {}", dir, "pack.yaml")
	for _, command := range []string{"inspect", "build"} {
		if _, why := play(t, refused, command, dir); why != "cordum-pack: metadata.id required\n" {
			t.Error(why)
		}
	}
	play(t, failed, "inspect", filepath.Join(dir, "nowhere"))
	play(t, failed, "nonsense")
	play(t, fine, "--help")
}

func TestKeysThatAreNone(t *testing.T) {
	dir := copied(t)
	file := filepath.Join(t.TempDir(), "key")
	write(t, "no key", file)
	play(t, failed, "sign", "--key", file, dir)
	write(t, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", file)
	play(t, failed, "sign", "--key", file, dir)
	play(t, failed, "verify-signature", "--trust", `{"a":"b"}`, dir)
	play(t, failed, "verify-signature", "--trust", "nowhere", dir)
}
