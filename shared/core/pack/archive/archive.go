// Package archive reads the gzip tar that a pack comes as. A bundle comes from a stranger, so that it is read twice, and never as a whole: once to look at
// every entry and to find the manifest, and once more for the files that the manifest names. What is kept in memory is bounded by what is asked for, not
// by what the bundle unpacks to.
//
// There is one way to read a bundle: whatever two programs could understand in two ways, as an entry that comes twice, data after the end or a link, is
// refused.
package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// Limits of bundles.
const (
	MaxBundle = 64 << 20  // bytes of the gzip tar
	MaxFiles  = 2048      // regular files
	MaxFile   = 32 << 20  // bytes of one
	MaxTotal  = 256 << 20 // bytes of all of them
	// MaxText is for one file that is asked for, MaxTexts for all that are asked for at once, in bytes.
	MaxText  = 1 << 20
	MaxTexts = 4 << 20

	maxFolders = 2048
	maxPath    = 512 // bytes
	// maxHeaders is what may be unpacked beside the files: headers, padding, and the end.
	maxHeaders = 16 << 20
	maxFill    = 1 << 20
)

// Names of the files that a reader of bundles looks for.
const (
	manifestName  = "pack.yaml"
	manifestShort = "pack.yml"
)

// Archive is a bundle whose every entry was looked at.
type Archive struct {
	// Manifest is the path of the manifest, pack.yaml or pack.yml. Paths begin where it lies.
	Manifest string

	data []byte
	root string // "" or "folder/"
	// sizes are the files by their paths from the root of the archive.
	sizes map[string]int64
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// CheckName says what is wrong with the name of a file that is uploaded.
func CheckName(name string) error {
	if name = strings.ToLower(name); !strings.HasSuffix(name, ".tgz") && !strings.HasSuffix(name, ".tar.gz") {
		return invalid("bundle must be .tgz")
	}
	return nil
}

// Read looks at every entry of a bundle: only files and folders, within the limits, under paths that stay in it, and each once. Its manifest lies at its root
// or in its only folder.
//
// Faults: Invalid, and TooLarge for more than MaxBundle bytes.
func Read(data []byte) (*Archive, error) {
	if len(data) > MaxBundle {
		return nil, fault.New(fault.TooLarge, "bundle of %d bytes is larger than %d (%d MiB)", len(data), MaxBundle, MaxBundle>>20)
	}
	a := &Archive{data: data, sizes: map[string]int64{}}
	c := &census{sizes: a.sizes, folders: map[string]bool{}, folded: map[string]string{}}
	if err := walk(data, c.entry); err != nil {
		return nil, err
	}
	if err := a.locate(c.folders); err != nil {
		return nil, err
	}
	return a, nil
}

// Has says whether there is a file.
func (a *Archive) Has(name string) bool {
	_, ok := a.sizes[a.root+name]
	return ok
}

// Clean is the path of a file that a manifest names.
func Clean(name string) (string, error) {
	cleaned, err := clean(name)
	if err == nil && cleaned == "." {
		err = invalid("invalid archive path: %s", shown(name))
	}
	return cleaned, err
}

// Files answers the contents of files by their paths, which are clean.
//
// Faults: Invalid for a file that is not there, and for more than MaxText or MaxTexts.
func (a *Archive) Files(paths ...string) (map[string][]byte, error) {
	wanted, total := map[string]string{}, int64(0)
	for _, p := range paths {
		size, ok := a.sizes[a.root+p]
		_, twice := wanted[a.root+p]
		switch {
		case !ok:
			return nil, invalid("file not found in archive: %s", shown(p))
		case size > MaxText:
			return nil, invalid("archive file too large: %s has %d bytes, and one that the manifest names at most %d", p, size, MaxText)
		case !twice:
			total += size
		}
		wanted[a.root+p] = p
	}
	if total > MaxTexts {
		return nil, invalid("the files that the manifest names have %d bytes, and at most %d together", total, MaxTexts)
	}
	found := make(map[string][]byte, len(wanted))
	err := walk(a.data, func(h *tar.Header, content io.Reader) error {
		name, err := clean(h.Name)
		p, ok := wanted[name]
		if err != nil || !ok || h.Typeflag != tar.TypeReg {
			return err
		}
		if found[p], err = io.ReadAll(content); err != nil {
			return broken(err)
		}
		if len(found) == len(wanted) {
			return errEnough
		}
		return nil
	})
	return found, err
}

// locate finds the manifest.
func (a *Archive) locate(folders map[string]bool) error {
	if a.named("") {
		return nil
	}
	tops := map[string]bool{}
	for name := range a.sizes {
		top, _, _ := strings.Cut(name, "/")
		tops[top] = true
	}
	for name := range folders {
		top, _, _ := strings.Cut(name, "/")
		tops[top] = true
	}
	for top := range tops {
		if _, file := a.sizes[top]; file || len(tops) > 1 {
			break
		}
		if a.named(top + "/") {
			return nil
		}
		return invalid("pack.yaml not found in archive")
	}
	return invalid("pack.yaml not found in archive root")
}

// named looks for the manifest in a folder. pack.yaml wins.
func (a *Archive) named(root string) bool {
	for _, name := range []string{manifestName, manifestShort} {
		if _, ok := a.sizes[root+name]; ok {
			a.root, a.Manifest = root, name
			return true
		}
	}
	return false
}

// census remembers what entries there were.
type census struct {
	sizes   map[string]int64
	folders map[string]bool
	// folded are the paths as a file system knows them for which case does not count.
	folded map[string]string
	total  int64
}

func (c *census) entry(h *tar.Header, _ io.Reader) error {
	name, err := clean(h.Name)
	switch {
	case err != nil:
		return err
	case h.Typeflag == tar.TypeXGlobalHeader: // what git archive puts first, its comment
		return nil
	case h.Typeflag == tar.TypeDir && name == ".":
		return nil
	case name == ".", h.Typeflag == tar.TypeReg && strings.HasSuffix(h.Name, "/"): // the latter is a folder to some
		return invalid("invalid archive path: %s", shown(h.Name))
	}
	if err := c.folder(path.Dir(name)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return c.folder(name)
	}
	return c.file(name, h.Size)
}

func (c *census) file(name string, size int64) error {
	_, twice := c.sizes[name]
	switch {
	case twice:
		return invalid("duplicate archive path: %s", name)
	case c.folders[name]:
		return invalid("archive path is a file and a folder: %s", name)
	case size > MaxFile:
		return invalid("archive file too large: %s has %d bytes, and one at most %d (%d MiB)", name, size, MaxFile, MaxFile>>20)
	case len(c.sizes) == MaxFiles:
		return invalid("archive has more than %d files", MaxFiles)
	}
	if c.total += size; c.total > MaxTotal {
		return invalid("archive unpacks to more than %d bytes (%d MiB)", MaxTotal, MaxTotal>>20)
	}
	c.sizes[name] = size
	return c.fold(name)
}

// folder remembers a folder and those that it lies in.
func (c *census) folder(name string) error {
	for ; name != "." && !c.folders[name]; name = path.Dir(name) {
		if _, file := c.sizes[name]; file {
			return invalid("archive path is a file and a folder: %s", name)
		}
		if len(c.folders) == maxFolders {
			return invalid("archive has more than %d folders", maxFolders)
		}
		c.folders[name] = true
		if err := c.fold(name); err != nil {
			return err
		}
	}
	return nil
}

func (c *census) fold(name string) error {
	folded := strings.ToLower(name)
	if other, taken := c.folded[folded]; taken {
		return invalid("archive paths differ in nothing but case: %s and %s", other, name)
	}
	c.folded[folded] = name
	return nil
}

// drive is what paths of Windows begin with.
var drive = regexp.MustCompile(`^[A-Za-z]:`)

// clean answers where a path leads from the root of the archive: "." is the root.
func clean(name string) (string, error) {
	cleaned := path.Clean(name)
	switch {
	case strings.HasPrefix(name, "/"):
		return "", invalid("absolute archive path: %s", shown(name))
	case name == "", len(name) > maxPath, !utf8.ValidString(name), strings.ContainsFunc(name, unprintable), strings.Contains(name, `\`), drive.MatchString(name),
		cleaned == "..", strings.HasPrefix(cleaned, "../"):
		return "", invalid("invalid archive path: %s", shown(name))
	}
	return cleaned, nil
}

// unprintable are letters that show a path as another one.
func unprintable(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// shown is a name as an error shows it.
func shown(name string) string {
	if len(name) > maxPath {
		name = name[:maxPath] + "..."
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable) {
		return fmt.Sprintf("%+q", name)
	}
	return name
}

var (
	errHeaders = fault.New(fault.Invalid, "archive has more than %d bytes (%d MiB) beside its files", maxHeaders, maxHeaders>>20)
	errEnough  = errors.New("nothing more is wanted")
)

// broken says that a gzip or tar is none.
func broken(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return invalid("invalid archive: it ends early")
	}
	return invalid("invalid archive: %s", err.Error())
}

// walk hands every entry on and judges what does not depend on others. An entry's content can be read while it is looked at.
func walk(data []byte, visit func(*tar.Header, io.Reader) error) error {
	rest := bytes.NewReader(data)
	z, err := gzip.NewReader(rest)
	if err != nil {
		return broken(err)
	}
	z.Multistream(false)
	unpacked := &bounded{from: z, left: maxHeaders}
	t := tar.NewReader(unpacked)
	for entries := 0; ; entries++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		if entries > MaxFiles+maxFolders+1 {
			return invalid("archive has more than %d entries", MaxFiles+maxFolders)
		}
		if err := kind(h); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			unpacked.left += h.Size // where it is too much visit refuses it
		}
		if err := visit(h, t); errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := unpacked.end(); err != nil {
		return err
	}
	if rest.Len() > 0 {
		return invalid("invalid archive: there is data after its end")
	}
	return nil
}

// kinds are the entries that are refused, as errors call them.
var kinds = map[byte]string{
	tar.TypeLink: "a hard link", tar.TypeSymlink: "a symbolic link", tar.TypeChar: "a device", tar.TypeBlock: "a device", tar.TypeFifo: "a fifo",
	tar.TypeGNUSparse: "a sparse file",
}

// kind refuses what is neither file nor folder.
func kind(h *tar.Header) error {
	what := kinds[h.Typeflag]
	switch {
	case slices.ContainsFunc(records(h), func(name string) bool { return strings.HasPrefix(name, "GNU.sparse.") }):
		what = "a sparse file"
	case h.Typeflag == tar.TypeDir && h.Size != 0: // which some pass over, and some read as entries
		what = "a folder with content"
	case h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir:
		return nil
	case h.Typeflag == tar.TypeXGlobalHeader:
		if !slices.ContainsFunc(records(h), func(name string) bool { return name != "comment" }) {
			return nil
		}
		what = "a header for all entries"
	case what == "":
		what = fmt.Sprintf("of type %+q", h.Typeflag)
	}
	return invalid("archive entry %s is %s; only files and folders are allowed", shown(h.Name), what)
}

func records(h *tar.Header) []string {
	names := make([]string, 0, len(h.PAXRecords))
	for name := range h.PAXRecords {
		names = append(names, name)
	}
	return names
}

// bounded stops to unpack when there is more than the files and maxHeaders, whatever the headers say.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHeaders
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// end reads what follows the last entry: nothing but zeros, which fill a block of a tape.
func (b *bounded) end() error {
	b.left = min(b.left, maxFill)
	var block [4096]byte
	for {
		n, err := b.Read(block[:])
		if slices.ContainsFunc(block[:n], func(c byte) bool { return c != 0 }) || errors.Is(err, errHeaders) {
			return invalid("invalid archive: there is data after its end")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return broken(err)
		}
	}
}
