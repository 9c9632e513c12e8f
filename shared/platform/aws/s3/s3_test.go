package s3

import (
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

// TestWhatAnUploadMustHaveIsSigned: emulators verify no signatures, so the suite cannot show that S3 would refuse another upload.
func TestWhatAnUploadMustHaveIsSigned(t *testing.T) {
	b := New(sdk.Config{Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}, "bucket")
	signed, err := b.PresignPut(t.Context(), "art/x", blob.Upload{ContentType: "text/plain", Size: 3, Class: "short"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	const want = "content-length;content-type;host;if-none-match;x-amz-meta-cordum-class;x-amz-tagging"
	if got := u.Query().Get("X-Amz-SignedHeaders"); got != want {
		t.Errorf("signed are %s, want %s", got, want)
	}
	for name := range u.Query() { // a checksum in it would be that of no bytes: the SDK knows none, and S3 would refuse the others
		if strings.Contains(strings.ToLower(name), "checksum") {
			t.Errorf("the URL has %s", name)
		}
	}
	if want := map[string]string{
		"Content-Type": "text/plain", "If-None-Match": "*", "X-Amz-Tagging": "class=short", "X-Amz-Meta-Cordum-Class": "short",
	}; !maps.Equal(signed.Header, want) {
		t.Errorf("a client is told %v", signed.Header)
	}
}
