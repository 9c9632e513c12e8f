package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
)

// entry is one of a tar: a file with this text unless the header says otherwise.
type entry struct {
	tar.Header

	text string
}

func file(name, text string) entry { return entry{tar.Header{Name: name}, text} }

func folder(name string) entry { return entry{tar.Header{Name: name, Typeflag: tar.TypeDir}, ""} }

func special(name string, kind byte) entry {
	return entry{tar.Header{Name: name, Typeflag: kind, Linkname: "pack.yaml"}, ""}
}

// named writes the name as it is, whatever package tar thinks of it.
func named(name string) entry { return file("\x00"+name, "x") }

var manifest = file("pack.yaml", "metadata: {}\n")

// rawTar writes entries, and the end of the archive if it is to have one.
func rawTar(entries []entry, end bool) []byte {
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	for _, e := range entries {
		h := e.Header
		if raw, ok := strings.CutPrefix(h.Name, "\x00"); ok {
			must(t.Flush())
			out.Write(header(raw, int64(len(e.text)), tar.TypeReg))
			out.Write(pad([]byte(e.text)))
			continue
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Mode, h.Size = 0o644, int64(len(e.text))
		}
		must(t.WriteHeader(&h))
		_, err := io.WriteString(t, e.text)
		must(err)
	}
	must(t.Flush())
	if end {
		out.Write(make([]byte, 1024))
	}
	return out.Bytes()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// header is one of 512 bytes, made by hand.
func header(name string, size int64, kind byte) []byte {
	h := make([]byte, 512)
	copy(h[0:100], name)
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", size))
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	return signed(h, func([]byte) {})
}

// signed changes a header, and writes its checksum.
func signed(h []byte, change func([]byte)) []byte {
	change(h)
	sum := 8 * int64(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func pad(content []byte) []byte {
	return append(bytes.Clone(content), make([]byte, (512-len(content)%512)%512)...)
}

func zip(content ...[]byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	for _, c := range content {
		_, err := z.Write(c)
		must(err)
	}
	must(z.Close())
	return out.Bytes()
}

func bundle(entries ...entry) []byte { return zip(rawTar(entries, true)) }

func many(n int, name string) []entry {
	all := []entry{manifest}
	for i := range n - 1 {
		all = append(all, file(fmt.Sprintf(name, i), ""))
	}
	return all
}

// bomb is a bundle with a file of so many zeros for each size; the headers may claim something else. The zeros are packed once.
func bomb(claimed func(size int64) int64, sizes ...int64) []byte {
	var p packer
	p.write(rawTar([]entry{manifest}, false))
	mib := deflated(make([]byte, 1<<20))
	for i, size := range sizes {
		p.write(header(fmt.Sprintf("big-%d", i), claimed(size), tar.TypeReg))
		for range size >> 20 {
			p.packed(mib, make([]byte, 1<<20))
		}
	}
	p.write(make([]byte, 1024))
	return p.end()
}

// packer makes a gzip of parts, some of them packed before.
type packer struct {
	deflate bytes.Buffer
	sum     uint32
	size    uint32
}

// deflated is a part of a deflate stream that refers to nothing before it.
func deflated(content []byte) []byte {
	var out bytes.Buffer
	z, err := flate.NewWriter(&out, flate.BestCompression)
	must(err)
	_, err = z.Write(content)
	must(err)
	must(z.Flush())
	return out.Bytes()
}

func (p *packer) write(content []byte) { p.packed(deflated(content), content) }

func (p *packer) packed(part, content []byte) {
	p.deflate.Write(part)
	p.sum = crc32.Update(p.sum, crc32.IEEETable, content)
	p.size += uint32(len(content))
}

func (p *packer) end() []byte {
	out := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	out = append(out, p.deflate.Bytes()...)
	out = append(out, 1, 0, 0, 0xff, 0xff) // an empty block, the last one
	out = binary.LittleEndian.AppendUint32(out, p.sum)
	return binary.LittleEndian.AppendUint32(out, p.size)
}

func honest(size int64) int64 { return size }

func repeated(size int64, n int) []int64 {
	sizes := make([]int64, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

func cut(b []byte, n int) []byte { return b[:len(b)-n] }

// refused is a bundle, and what the caller is told of it.
type refused struct {
	name   string
	bundle []byte
	want   string
}

// hostile are small ones.
func hostile() []refused {
	global := entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "pack.yaml"}}, ""}
	long := strings.Repeat("n", 600)
	gz := bundle(manifest)
	return []refused{
		{"K12 a path to above", bundle(manifest, file("../x", "")), "invalid archive path: ../x"},
		{"K12 a path to above, in its middle", bundle(manifest, file("a/../../b", "")), "invalid archive path: a/../../b"},
		{"K12 a path to above itself", bundle(manifest, folder("..")), "invalid archive path: .."},
		{"K12 an absolute path", bundle(manifest, file("/abs", "")), "absolute archive path: /abs"},
		{"K12 an absolute folder", bundle(manifest, folder("/")), "absolute archive path: /"},
		{"a path of Windows", bundle(manifest, file(`a\..\..\b`, "")), `invalid archive path: a\..\..\b`},
		{"a drive", bundle(manifest, file("C:/x", "")), "invalid archive path: C:/x"},
		{"a path in a long record", bundle(manifest, file("../"+strings.Repeat("n", 200), "")), "invalid archive path: ../" + strings.Repeat("n", 200)},
		{"a long path in a record of GNU", bundle(manifest, entry{tar.Header{Name: "../" + strings.Repeat("n", 200), Format: tar.FormatGNU}, ""}),
			"invalid archive path: ../" + strings.Repeat("n", 200)},
		{"a path that is too long", bundle(manifest, file(long, "")), "invalid archive path: " + long[:512] + "..."},
		{"a path without a name", bundle(manifest, named("")), "invalid archive path: "},
		{"a file in place of the root", bundle(manifest, named(".")), "invalid archive path: ."},
		{"a file that is called as a folder", bundle(manifest, named("schemas/")), "invalid archive path: schemas/"},
		{"a folder with content, which is an entry to some", zip(rawTar([]entry{manifest}, false), header("d/", 1024, tar.TypeDir), header("e", 1, tar.TypeReg), pad([]byte("x")), make([]byte, 1024)),
			"archive entry d/ is a folder with content; only files and folders are allowed"},
		{"a folder of old with content", zip(rawTar([]entry{manifest}, false), header("d/", 1, 0), pad([]byte("x")), make([]byte, 1024)),
			"archive entry d/ is a folder with content; only files and folders are allowed"},
		{"a path that is not UTF-8", bundle(manifest, named("a\xff")), `invalid archive path: "a\xff"`},
		{"a path with a control letter", bundle(manifest, named("a\nb")), `invalid archive path: "a\nb"`},
		{"a path that is shown backwards", bundle(manifest, file("a\u202eb", "")), `invalid archive path: "a\u202eb"`},
		{"K12 a symbolic link", bundle(manifest, special("l", tar.TypeSymlink)), "archive entry l is a symbolic link; only files and folders are allowed"},
		{"a hard link", bundle(manifest, special("l", tar.TypeLink)), "archive entry l is a hard link; only files and folders are allowed"},
		{"a character device", bundle(manifest, special("d", tar.TypeChar)), "archive entry d is a device; only files and folders are allowed"},
		{"a block device", bundle(manifest, special("d", tar.TypeBlock)), "archive entry d is a device; only files and folders are allowed"},
		{"a fifo", bundle(manifest, special("f", tar.TypeFifo)), "archive entry f is a fifo; only files and folders are allowed"},
		{"a kind that nobody knows", zip(rawTar([]entry{manifest}, false), header("v", 0, 'V'), make([]byte, 1024)),
			"archive entry v is of type 'V'; only files and folders are allowed"},
		{"a sparse file of GNU", zip(rawTar([]entry{manifest}, false), gnuSparse("s"), make([]byte, 1024)),
			"archive entry s is a sparse file; only files and folders are allowed"},
		{"a sparse file of PAX", zip(rawTar([]entry{manifest}, false), paxSparse("s"), make([]byte, 1024)),
			"archive entry s is a sparse file; only files and folders are allowed"},
		{"a header for all entries", bundle(global, manifest), "archive entry pack.yaml is a header for all entries; only files and folders are allowed"},
		{"a file that comes twice", bundle(manifest, manifest), "duplicate archive path: pack.yaml"},
		{"a file that comes twice, spelled otherwise", bundle(manifest, file("./a/../pack.yaml", "x")), "duplicate archive path: pack.yaml"},
		{"a file and a folder", bundle(manifest, file("a", ""), folder("a")), "archive path is a file and a folder: a"},
		{"a file in a file", bundle(manifest, file("a", ""), file("a/b", "")), "archive path is a file and a folder: a"},
		{"a folder that becomes a file", bundle(manifest, file("a/b", ""), file("a", "")), "archive path is a file and a folder: a"},
		{"paths that differ in case", bundle(manifest, file("Pack.yaml", "")), "archive paths differ in nothing but case: pack.yaml and Pack.yaml"},
		{"folders that differ in case", bundle(manifest, file("a/x", ""), file("A/y", "")), "archive paths differ in nothing but case: a and A"},
		{"K13 2049 files", bundle(many(2049, "f%d")...), "archive has more than 2048 files"},
		{"folders without end", bundle(append([]entry{manifest}, folders(2049)...)...), "archive has more than 2048 folders"},
		{"the same folder without end", bundle(append([]entry{manifest}, again(folder("a"), 5000)...)...), "archive has more than 4096 entries"},
		{"a header that claims less than there is", zip(rawTar([]entry{manifest}, false), header("a", 1, tar.TypeReg), pad([]byte(strings.Repeat("x", 1000))), make([]byte, 1024)),
			"invalid archive: archive/tar: invalid tar header"},
		{"a negative size", zip(rawTar([]entry{manifest}, false), header("a", -1, tar.TypeReg), make([]byte, 1024)), "invalid archive: archive/tar: invalid tar header"},
		{"data after the tar", zip(rawTar([]entry{manifest}, true), []byte("more")), "invalid archive: there is data after its end"},
		{"a second tar in it", zip(rawTar([]entry{manifest}, true), rawTar([]entry{file("pack.yaml", "evil")}, true)), "invalid archive: there is data after its end"},
		{"data after the gzip", append(bytes.Clone(gz), "more"...), "invalid archive: there is data after its end"},
		{"a second gzip after it", append(bytes.Clone(gz), gz...), "invalid archive: there is data after its end"},
		{"an empty gzip after it", append(bytes.Clone(gz), zip()...), "invalid archive: there is data after its end"},
		{"a tar that ends in a file", zip(rawTar([]entry{file("pack.yaml", strings.Repeat("x", 600))}, false)[:1000]), "invalid archive: it ends early"},
		{"a gzip that ends early", cut(gz, 20), "invalid archive: it ends early"},
		{"a gzip without its checksum", cut(gz, 8), "invalid archive: it ends early"},
		{"a gzip with a wrong checksum", append(cut(gz, 8), "checksum"...), "invalid archive: gzip: invalid checksum"},
		{"nothing", nil, "invalid archive: it ends early"},
		{"no gzip", []byte("PK\x03\x04 and so on, a zip"), "invalid archive: gzip: invalid header"},
		{"no tar", zip([]byte(strings.Repeat("text ", 200))), "invalid archive: archive/tar: invalid tar header"},
		{"an empty tar", bundle(), "pack.yaml not found in archive root"},
		{"K14 two top folders", bundle(file("a/pack.yaml", ""), file("b/x", "")), "pack.yaml not found in archive root"},
		{"K14 a file beside the top folder", bundle(file("a/pack.yaml", ""), file("README.md", "")), "pack.yaml not found in archive root"},
		{"K14 one file that is none", bundle(file("README.md", "")), "pack.yaml not found in archive root"},
		{"K14 a top folder without it", bundle(file("a/README.md", "")), "pack.yaml not found in archive"},
		{"K14 a manifest too deep", bundle(file("a/b/pack.yaml", "")), "pack.yaml not found in archive"},
		{"a manifest that is a folder", bundle(file("pack.yaml/pack.yaml/x", "")), "pack.yaml not found in archive"},
	}
}

// heavy are those that unpack to a lot.
func heavy() []refused {
	return []refused{
		{"K13 a file of 33 MiB", bomb(honest, 33<<20), "archive file too large: big-0 has 34603008 bytes, and one at most 33554432 (32 MiB)"},
		{"K13 257 MiB in all", bomb(honest, append(repeated(32<<20, 8), 1<<20)...), "archive unpacks to more than 268435456 bytes (256 MiB)"},
		{"K13 a header that claims more than there is", bomb(func(int64) int64 { return 8<<30 - 1 }, 1<<20),
			"archive file too large: big-0 has 8589934591 bytes, and one at most 33554432 (32 MiB)"},
		{"K13 zeros after the end, without end", parts(rawTar([]entry{manifest}, true), make([]byte, 1<<20), 300), "invalid archive: there is data after its end"},
		{"K13 a folder that claims to have content", zip(rawTar([]entry{manifest}, false), header("d/", 7<<30, tar.TypeDir), parts(nil, record(), 1)),
			"archive entry d/ is a folder with content; only files and folders are allowed"},
		{"K13 folders that claim to have content, and records", parts(append(rawTar([]entry{manifest}, false), header("d/", 7<<30, tar.TypeDir)...), record(), 300),
			"archive entry d/ is a folder with content; only files and folders are allowed"},
		{"K13 records without end", parts(rawTar([]entry{manifest}, false), record(), 300), "archive has more than 16777216 bytes (16 MiB) beside its files"},
	}
}

// paxSparse is a file of which a record says where its holes are.
func paxSparse(name string) []byte {
	records := "22 GNU.sparse.map=0,1\n" + "26 GNU.sparse.numblocks=1\n" + "21 GNU.sparse.size=1\n"
	return bytes.Join([][]byte{header("x", int64(len(records)), tar.TypeXHeader), pad([]byte(records)), header(name, 1, tar.TypeReg), pad([]byte("x"))}, nil)
}

// gnuSparse is a file of which the header says where its holes are.
func gnuSparse(name string) []byte {
	return signed(header(name, 0, tar.TypeGNUSparse), func(h []byte) {
		copy(h[257:], "ustar  \x00")
		copy(h[483:], "00000000000\x00")
	})
}

func folders(n int) (all []entry) {
	for i := range n {
		all = append(all, folder(fmt.Sprintf("d%d/", i)))
	}
	return all
}

func again(e entry, n int) (all []entry) {
	for range n {
		all = append(all, e)
	}
	return all
}

// record is a header of 1 MiB for a file that never comes.
func record() []byte {
	text := "1048576 comment=" + strings.Repeat("x", 1<<20-17) + "\n"
	return append(header("x", 1<<20, tar.TypeXHeader), text...)
}

// parts is a bundle that goes on with the same part n times.
func parts(first, part []byte, n int) []byte {
	var p packer
	p.write(first)
	packed := deflated(part)
	for range n {
		p.packed(packed, part)
	}
	return p.end()
}

func TestHostileArchives(t *testing.T) {
	for _, tt := range hostile() {
		t.Run(tt.name, func(t *testing.T) {
			a, err := archive.Read(tt.bundle)
			if !fault.Is(err, fault.Invalid) || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if a != nil && err != nil {
				t.Error("an archive beside an error")
			}
		})
	}
}

func TestK13_ABundleIsTooLarge(t *testing.T) {
	if _, err := archive.Read(make([]byte, archive.MaxBundle+1)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("%v, want too large", err)
	}
}

// What a bundle unpacks to takes no memory: a quarter of a gigabyte of zeros is looked at in a few hundred KiB. A record of a header is read as a whole, one after
// the other.
func TestK13_ABombTakesNoMemory(t *testing.T) {
	allowed := refused{"K13 as large as allowed", bomb(honest, append(repeated(32<<20, 7), 31<<20)...), ""}
	for _, tt := range append(heavy(), allowed) {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.bundle) > 4<<20 {
				t.Fatalf("no bomb: %d bytes", len(tt.bundle))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a, err := archive.Read(tt.bundle)
			if err == nil {
				if _, err = a.Files("pack.yaml"); err == nil {
					if _, refused := a.Files("big-0"); refused == nil {
						t.Error("a file of 32 MiB was read")
					}
				}
			}
			runtime.ReadMemStats(&after)
			most := uint64(1 << 20)
			if strings.Contains(tt.name, "records") {
				most = 128 << 20
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > most {
				t.Errorf("%d bytes, all in all", used)
			}
			if tt.want == "" && err != nil || tt.want != "" && (!fault.Is(err, fault.Invalid) || err.Error() != tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

func TestAcceptedArchives(t *testing.T) {
	comment := entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "0123abcd"}}, ""}
	long := "schemas/" + strings.Repeat("n", 200) + ".json"
	tests := []struct {
		name, manifest, text string
		bundle               []byte
	}{
		{"at its root", "pack.yaml", "a", bundle(file("pack.yaml", "a"), file("schemas/x.json", "x"))},
		{"K12 with the entries of tar -C dir .", "pack.yaml", "a", bundle(folder("./"), file("./pack.yaml", "a"), folder("./schemas/"), file("./schemas/x.json", "x"))},
		{"K12 with the entry .", "pack.yaml", "a", bundle(folder("."), file("pack.yaml", "a"), file("schemas/x.json", "x"))},
		{"K14 in one top folder", "pack.yaml", "a", bundle(folder("my-pack/"), file("my-pack/pack.yaml", "a"), file("my-pack/schemas/x.json", "x"))},
		{"K14 in one top folder that is no entry", "pack.yaml", "a", bundle(file("my-pack/pack.yaml", "a"), file("my-pack/schemas/x.json", "x"))},
		{"in one top folder with ./", "pack.yaml", "a", bundle(folder("./"), file("./my-pack/pack.yaml", "a"), file("./my-pack/schemas/x.json", "x"))},
		{"at its root, and in a folder", "pack.yaml", "a", bundle(file("a/pack.yaml", "b"), file("pack.yaml", "a"), file("schemas/x.json", "x"))},
		{"pack.yml", "pack.yml", "a", bundle(file("pack.yml", "a"), file("schemas/x.json", "x"))},
		{"pack.yaml before pack.yml", "pack.yaml", "a", bundle(file("pack.yml", "b"), file("pack.yaml", "a"), file("schemas/x.json", "x"))},
		{"a folder that comes twice", "pack.yaml", "a", bundle(folder("schemas/"), folder("schemas/"), file("pack.yaml", "a"), file("schemas/x.json", "x"))},
		{"a path that comes back", "pack.yaml", "a", bundle(file("pack.yaml", "a"), file("schemas/../schemas/./x.json", "x"))},
		{"of git archive", "pack.yaml", "a", bundle(comment, file("pack.yaml", "a"), file("schemas/x.json", "x"))},
		{"long names of PAX", "pack.yaml", "a", bundle(file("pack.yaml", "a"), file("schemas/x.json", "x"), entry{tar.Header{Name: long, Format: tar.FormatPAX}, ""})},
		{"long names of GNU", "pack.yaml", "a", bundle(file("pack.yaml", "a"), file("schemas/x.json", "x"), entry{tar.Header{Name: long, Format: tar.FormatGNU}, ""})},
		{"other letters", "pack.yaml", "a", bundle(file("pack.yaml", "a"), file("schemas/x.json", "x"), file("schémas/日本.json", ""))},
		{"K13 2048 files", "pack.yaml", "a", bundle(append(many(2047, "f%d")[1:], file("pack.yaml", "a"), file("schemas/x.json", "x"))...)},
		{"without an end", "pack.yaml", "a", zip(rawTar([]entry{file("pack.yaml", "a"), file("schemas/x.json", "x")}, false))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := archive.Read(tt.bundle)
			if err != nil {
				t.Fatal(err)
			}
			if a.Manifest != tt.manifest || !a.Has("schemas/x.json") || a.Has("schemas") {
				t.Errorf("manifest %s", a.Manifest)
			}
			files, err := a.Files(a.Manifest, "schemas/x.json", "schemas/x.json")
			if err != nil || string(files[tt.manifest]) != tt.text || string(files["schemas/x.json"]) != "x" || len(files) != 2 {
				t.Errorf("%q, %v", files, err)
			}
			if _, err := a.Files("schemas/y.json"); err == nil || err.Error() != "file not found in archive: schemas/y.json" {
				t.Errorf("missing: %v", err)
			}
		})
	}
}

// The command that the original's documents name, with the tar that is there.
func TestK12_TheDocumentedCommand(t *testing.T) {
	dir := t.TempDir()
	must(os.MkdirAll(filepath.Join(dir, "my-pack", "schemas"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "my-pack", "pack.yaml"), []byte("metadata: {}\n"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "my-pack", "schemas", "x.json"), []byte("{}"), 0o644))
	for _, args := range [][]string{{"-C", "my-pack", "."}, {"my-pack"}, {"--format=gnu", "-C", "my-pack", "pack.yaml", "schemas"}} {
		cmd := exec.CommandContext(t.Context(), "tar", append([]string{"-czf", "x.tgz"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
		b, err := os.ReadFile(filepath.Join(dir, "x.tgz"))
		must(err)
		a, err := archive.Read(b)
		if err != nil {
			t.Fatalf("tar %v: %v", args, err)
		}
		if _, err := a.Files("pack.yaml", "schemas/x.json"); err != nil {
			t.Errorf("tar %v: %v", args, err)
		}
	}
}

func TestFilesThatAreTooLarge(t *testing.T) {
	text := strings.Repeat("x", archive.MaxText)
	files := map[string][]byte{"pack.yaml": nil, "large": []byte(text + "x")}
	var all []string
	for i := range 5 {
		name := fmt.Sprintf("f%d", i)
		files[name], all = []byte(text), append(all, name)
	}
	b, err := archive.Write(files)
	must(err)
	a, err := archive.Read(b)
	must(err)
	if _, err := a.Files(all[:4]...); err != nil {
		t.Error(err)
	}
	if _, err := a.Files(all...); err == nil || err.Error() != "the files that the manifest names have 5242880 bytes, and at most 4194304 together" {
		t.Error(err)
	}
	if _, err := a.Files("large"); err == nil || err.Error() != "archive file too large: large has 1048577 bytes, and one that the manifest names at most 1048576" {
		t.Error(err)
	}
}

func TestK21_NamesOfBundles(t *testing.T) {
	for name, ok := range map[string]bool{"x.tgz": true, "x.tar.gz": true, "X.TGZ": true, "x.zip": false, "x.gz": false, "tgz": false, "": false, "x.tgz.exe": false} {
		if err := archive.CheckName(name); (err == nil) != ok || !ok && err.Error() != "bundle must be .tgz" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteIsTheSameEveryTime(t *testing.T) {
	files := map[string][]byte{"pack.yaml": []byte("a"), "b/c": []byte("d"), strings.Repeat("n", 200): nil}
	one, err := archive.Write(files)
	must(err)
	for range 5 {
		if two, err := archive.Write(files); err != nil || !bytes.Equal(one, two) {
			t.Fatal("differs", err)
		}
	}
	a, err := archive.Read(one)
	must(err)
	if got, err := a.Files("pack.yaml", "b/c", strings.Repeat("n", 200)); err != nil || string(got["b/c"]) != "d" {
		t.Error(got, err)
	}
}

func FuzzRead(f *testing.F) {
	for _, h := range hostile() {
		f.Add(h.bundle, false)
	}
	f.Add(rawTar([]entry{folder("./"), file("./pack.yaml", "a"), file("./schemas/x.json", "x")}, true), true)
	f.Add(rawTar([]entry{{tar.Header{Name: strings.Repeat("n/", 99) + "n", PAXRecords: map[string]string{"VENDOR.x": "1"}}, ""}}, true), true)
	f.Fuzz(func(t *testing.T, data []byte, unzipped bool) {
		if unzipped {
			data = zip(data)
		}
		a, err := archive.Read(data)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Fatalf("%q", err)
			}
			return
		}
		if files, err := a.Files(a.Manifest); err != nil && !fault.Is(err, fault.Invalid) || err == nil && len(files) != 1 {
			t.Fatal(files, err)
		}
	})
}
