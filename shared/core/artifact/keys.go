package artifact

import (
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// An artifact is the item AR#<tenant>#<id> | D, which says what is known about it, and the object art/<id>, which is its bytes.
func key(tenant, id string) store.Key {
	return store.Key{PK: "AR#" + listing.Segment(tenant) + "#" + listing.Segment(id), SK: "D"}
}

func object(id string) string { return resources.ArtifactObjects + "/" + id }

// Names of the attributes: the media type, the size in bytes, the retention, the labels as JSON, who stored it and when; of one that its client
// uploads, the SHA-256 that it announced, and whether what is there has it.
const (
	attrType      = "ty"
	attrSize      = "sz"
	attrRetention = "rt"
	attrLabels    = "lb"
	attrBy        = "by"
	attrAt        = "at"
	attrSum       = "sm"
	attrVerified  = "ok"
)
