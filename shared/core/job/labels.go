package job

import (
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// Limits of labels, in bytes where it is not their number.
const (
	MaxLabels          = 50
	MaxLabelKeyBytes   = 256
	MaxLabelValueBytes = 4096
)

// CheckLabels answers why labels are not stored: Invalid.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fault.New(fault.Invalid, "too many labels (max %d)", MaxLabels)
	}
	for k, v := range labels {
		switch {
		case strings.TrimSpace(k) == "":
			return fault.New(fault.Invalid, "label key must not be empty")
		case len(k) > MaxLabelKeyBytes:
			return fault.New(fault.Invalid, "label key too long (max %d bytes)", MaxLabelKeyBytes)
		case len(v) > MaxLabelValueBytes:
			return fault.New(fault.Invalid, "label value too long (max %d bytes)", MaxLabelValueBytes)
		}
	}
	return nil
}
