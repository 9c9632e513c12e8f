package build

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"io"
	"os"
)

// What a function may weigh, in bytes: its binary, and the archive that is uploaded. They are most of its cold start on AWS.
const (
	MaxBinary = 15 << 20
	MaxZip    = 5 << 20
)

// Size is what a binary weighs, in bytes.
type Size struct {
	Binary, Zip int64
}

// SizeOf weighs a binary, and the archive that would be uploaded.
func SizeOf(binary string) (Size, error) {
	var zipped counter
	z := zip.NewWriter(&zipped)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	into, err := z.Create("bootstrap")
	if err != nil {
		return Size{}, err
	}
	f, err := os.Open(binary)
	if err != nil {
		return Size{}, err
	}
	n, err := io.Copy(into, f)
	if err = errors.Join(err, z.Close(), f.Close()); err != nil {
		return Size{}, err
	}
	return Size{Binary: n, Zip: int64(zipped)}, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
