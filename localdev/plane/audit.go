package plane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

// auditKeyFile is the file in the data folder that holds what signs the audit trail.
const auditKeyFile = "audit.key"

// AuditSecret answers CORDUM_AUDIT_KEY, or what is kept in the data folder, which is made when there is none. Without a folder it lasts as long as the
// process.
func AuditSecret(dir string, getenv func(string) string) (string, error) {
	if secret := getenv("CORDUM_AUDIT_KEY"); secret != "" {
		return secret, nil
	}
	fresh := ids.Source{}.Hex(32)
	if dir == "" {
		return fresh, nil
	}
	file := filepath.Join(dir, auditKeyFile)
	kept, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		kept, err = []byte(fresh), os.WriteFile(file, []byte(fresh), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("the key of the audit trail: %w", err)
	}
	return string(kept), nil
}
