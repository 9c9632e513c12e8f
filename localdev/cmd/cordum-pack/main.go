// Command cordum-pack makes packs and looks into them: it builds the bundle of a folder, signs it, verifies who signed one, and shows what one says, as the plane
// would read it. docs/packs.md leads through it.
//
// It ends with 0 when all is well, with 1 when a pack or its signature is refused, and with 2 when it could not look.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/signature"
)

type cli struct {
	Keygen  keygenCmd  `cmd:"" help:"Make a key to sign with; prints the public one as a plane is told it."`
	Build   buildCmd   `cmd:"" help:"Make the bundle of a folder: every file in it that is not hidden."`
	Sign    signCmd    `cmd:"" help:"Sign the pack in a folder: writes pack.yaml.sig into it."`
	Verify  verifyCmd  `cmd:"" name:"verify-signature" help:"Say which trusted key signed a pack."`
	Inspect inspectCmd `cmd:"" help:"Show what a pack says, as the plane would record it, or what is wrong with it."`
}

// How it ends.
const (
	fine = iota
	refused
	failed
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, complaints io.Writer) int {
	var c cli
	helped := false
	k := kong.Must(&c, kong.Name("cordum-pack"), kong.Description("Makes packs and looks into them."), kong.Writers(out, complaints),
		kong.Exit(func(int) { helped = true }))
	parsed, err := k.Parse(args)
	if helped {
		return fine
	}
	if err == nil {
		parsed.BindTo(out, (*io.Writer)(nil))
		err = parsed.Run()
	}
	if err == nil {
		return fine
	}
	fmt.Fprintln(complaints, "cordum-pack:", err)
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.TooLarge) {
		return refused
	}
	return failed
}

// files are those of a folder that belong to its pack.
func files(dir string) (map[string][]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	all := map[string][]byte{}
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		hidden := path != "." && strings.HasPrefix(d.Name(), ".")
		switch {
		case err != nil:
			return err
		case hidden && d.IsDir():
			return fs.SkipDir
		case hidden || d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no file, and a pack has only files", path)
		}
		all[path], err = root.ReadFile(path)
		return err
	})
	return all, err
}

// bundle is what lies at a path: a bundle, or a folder that becomes one.
func bundle(path string) ([]byte, error) {
	if at, err := os.Stat(path); err != nil || !at.IsDir() {
		b, err := os.ReadFile(path)
		return b, err
	}
	all, err := files(path)
	if err != nil {
		return nil, err
	}
	return archive.Write(all)
}

type keygenCmd struct {
	Out string `arg:"" help:"File to write the private key to; it must not be there." placeholder:"FILE"`
	ID  string `help:"Id of the key. Without it, one that is made of the key."`
}

func (c *keygenCmd) Run(out io.Writer) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: raw}), f.Close()); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{keyID(c.ID, public): hex.EncodeToString(public)})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// keyID is the id of a key that was given none.
func keyID(given string, public ed25519.PublicKey) string {
	if given != "" {
		return given
	}
	return canonical.Hash(public)[:16]
}

type buildCmd struct {
	Dir string `arg:"" help:"Folder with pack.yaml."`
	Out string `short:"o" help:"File to write. Without it, <id>-<version>.tgz." placeholder:"FILE"`
}

func (c *buildCmd) Run(out io.Writer) error {
	b, err := bundle(c.Dir)
	if err != nil {
		return err
	}
	p, err := pack.Parse(b, pack.Options{})
	if err != nil {
		return err
	}
	file := c.Out
	if file == "" {
		file = p.Metadata.ID + "-" + strings.ReplaceAll(p.Metadata.Version, "/", "-") + ".tgz"
	}
	if err := archive.CheckName(file); err != nil {
		return err
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s  %s\n", canonical.Hash(b), file)
	return err
}

type signCmd struct {
	Dir string `arg:"" help:"Folder with pack.yaml."`
	Key string `required:"" help:"File with the private key, as keygen or openssl genpkey -algorithm ed25519 write it." placeholder:"FILE"`
	ID  string `help:"Id of the key. Without it, one that is made of the key."`
}

func (c *signCmd) Run(out io.Writer) error {
	key, err := privateKey(c.Key)
	if err != nil {
		return err
	}
	all, err := files(c.Dir)
	if err != nil {
		return err
	}
	delete(all, pack.SignatureName) // a new one takes its place
	b, err := archive.Write(all)
	if err != nil {
		return err
	}
	if a, err := archive.Read(b); err != nil {
		return err
	} else if _, here := all[a.Manifest]; !here {
		return fmt.Errorf("the pack lies in a folder of %s: sign that one", c.Dir) // the signature lies beside the manifest
	}
	s, err := pack.Statement(b, pack.Options{})
	if err != nil {
		return err
	}
	public, _ := key.Public().(ed25519.PublicKey)
	id := keyID(c.ID, public)
	text, err := signature.Sign(s, id, key, time.Now())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, pack.SignatureName), text, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s is signed by %s: %d files\n", s.PackID, s.PackVersion, id, len(s.Files))
	return err
}

func privateKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s has no Ed25519 private key", file)
	}
	return key, nil
}

type verifyCmd struct {
	Pack  string `arg:"" help:"Bundle, or folder with pack.yaml."`
	Trust string `required:"" help:"Trusted keys, or a file that has them, as keygen prints them." placeholder:"KEYS"`
}

func (c *verifyCmd) Run(out io.Writer) error {
	text := c.Trust
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		raw, err := os.ReadFile(text)
		if err != nil {
			return err
		}
		text = string(raw)
	}
	keys, err := signature.ParseKeys(text)
	if err != nil {
		return err
	}
	b, err := bundle(c.Pack)
	if err != nil {
		return err
	}
	p, err := pack.Parse(b, pack.Options{Keys: keys, RequireSignature: true})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s was signed by %s\n", p.Metadata.ID, p.Metadata.Version, p.SignedBy)
	return err
}

type inspectCmd struct {
	Pack string `arg:"" help:"Bundle, or folder with pack.yaml."`
	Core string `help:"Version of the plane that it is to be installed on. Without it the plane's version is not asked for." placeholder:"VERSION"`
}

func (c *inspectCmd) Run(out io.Writer) error {
	b, err := bundle(c.Pack)
	if err != nil {
		return err
	}
	p, err := pack.Parse(b, pack.Options{CoreVersion: c.Core})
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(p.Record("", "", "", p.Config), "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}
