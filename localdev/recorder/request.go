package recorder

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Names are the plane's own names of its resources, by which requests are understood.
type Names struct {
	Table, Bucket, QueuePrefix, Secret, AuditKey string
	// SeedBucket holds the files of a deployment.
	SeedBucket string
}

// Other is the kind of what is not the plane's; the target's name says what it is.
const Other resources.Kind = "other"

// access is one thing that a request does, in IAM's words.
type access struct {
	action string
	on     resources.Target
}

// credential answers the access key that signed a request, and the service that it is for.
func credential(r *http.Request) (key, service string) {
	scope := r.URL.Query().Get("X-Amz-Credential")
	if _, signed, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		scope, _, _ = strings.Cut(signed, ",")
	}
	parts := strings.Split(scope, "/") // key/date/region/service/aws4_request
	if len(parts) != 5 {
		return "", ""
	}
	return parts[0], parts[3]
}

// understand says what a request does. body is its whole body, for the services that speak JSON.
func (n Names) understand(service string, r *http.Request, body []byte) []access {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch {
	case service == "execute-api" || strings.Contains(r.URL.Path, gateway.ManagementPath):
		return []access{{"execute-api:ManageConnections", resources.Target{Kind: resources.Connections}}}
	case service == "dynamodb":
		return n.dynamodb(operation, body)
	case service == "sqs":
		return n.sqs(operation, body)
	case service == "s3":
		return n.s3(r)
	case service == "secretsmanager":
		var in struct{ SecretId string } //nolint:revive // AWS's name
		_ = json.Unmarshal(body, &in)    // what is no JSON names no secret
		return []access{{"secretsmanager:" + operation, n.secret(in.SecretId)}}
	}
	if operation == "" {
		form, _ := url.ParseQuery(string(body)) // likewise
		operation = form.Get("Action")
	}
	return []access{{service + ":" + operation, resources.Target{Kind: Other, Name: r.URL.Path}}}
}

func (n Names) secret(id string) resources.Target {
	for name, kind := range map[string]resources.Kind{n.Secret: resources.TheSecret, n.AuditKey: resources.TheAuditKey} {
		if name != "" && (id == name || strings.Contains(id, ":secret:"+name)) {
			return resources.Target{Kind: kind}
		}
	}
	return resources.Target{Kind: Other, Name: id}
}

func (n Names) table(name, index string) resources.Target {
	switch {
	case name != n.Table && !strings.HasSuffix(name, ":table/"+n.Table):
		return resources.Target{Kind: Other, Name: strings.TrimSuffix(name+"/"+index, "/")}
	case index != "":
		return resources.Target{Kind: resources.AnIndex, Name: index}
	default:
		return resources.Target{Kind: resources.TheTable}
	}
}

// item is a part of a transaction.
type item struct{ TableName string }

// transaction members are named by what they do, and IAM asks for the action of that name.
var transaction = map[string]string{
	"Put": "dynamodb:PutItem", "Update": "dynamodb:UpdateItem", "Delete": "dynamodb:DeleteItem", "ConditionCheck": "dynamodb:ConditionCheckItem",
	"Get": "dynamodb:GetItem",
}

func (n Names) dynamodb(operation string, body []byte) []access {
	var in struct {
		TableName, IndexName string
		Key                  map[string]struct{ S string }
		RequestItems         map[string]json.RawMessage
		TransactItems        []map[string]item
	}
	_ = json.Unmarshal(body, &in) // what is no JSON names no table
	var out []access
	switch operation {
	case "TransactWriteItems", "TransactGetItems":
		for _, t := range in.TransactItems {
			for member, i := range t {
				out = append(out, access{transaction[member], n.table(i.TableName, "")})
			}
		}
	case "BatchGetItem", "BatchWriteItem":
		for name := range in.RequestItems {
			out = append(out, access{"dynamodb:" + operation, n.table(name, "")})
		}
	default:
		on := n.table(in.TableName, in.IndexName)
		if on.Kind == resources.TheTable && strings.HasPrefix(in.Key[resources.PK].S, resources.RatePrefix) {
			on.Kind = resources.TheRates
		}
		out = append(out, access{"dynamodb:" + operation, on})
	}
	return out
}

func (n Names) sqs(operation string, body []byte) []access {
	var in struct {
		QueueUrl, QueueName string //nolint:revive // AWS's name
	}
	_ = json.Unmarshal(body, &in) // what is no JSON names no queue
	name := in.QueueName
	if name == "" {
		name = in.QueueUrl[strings.LastIndex(in.QueueUrl, "/")+1:]
	}
	on := resources.Target{Kind: Other, Name: name}
	if own, ok := strings.CutPrefix(name, n.QueuePrefix); ok && own != "" {
		on = resources.Target{Kind: resources.AQueue, Name: own}
	}
	return []access{{"sqs:" + strings.TrimSuffix(operation, "Batch"), on}} // IAM knows no batches
}

// s3 reads the address: /bucket/key.
func (n Names) s3(r *http.Request) []access {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	if key == "" {
		return []access{{bucketAction(r.Method, q), n.bucket(bucket)}}
	}
	on := n.object(bucket, key)
	var out []access
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		out = append(out, access{tagging(q, "s3:GetObject"), on})
	case http.MethodDelete:
		if q.Has("uploadId") {
			return []access{{"s3:AbortMultipartUpload", on}}
		}
		out = append(out, access{tagging(q, "s3:DeleteObject"), on})
	default: // PUT, and the POSTs of a multipart upload
		out = append(out, access{tagging(q, "s3:PutObject"), on})
	}
	if r.Header.Get("X-Amz-Tagging") != "" || q.Get("X-Amz-Tagging") != "" {
		out = append(out, access{"s3:PutObjectTagging", on})
	}
	if from := r.Header.Get("X-Amz-Copy-Source"); from != "" {
		from, _ = url.PathUnescape(from) // as it stands when it is not escaped
		bucket, key, _ := strings.Cut(strings.TrimPrefix(from, "/"), "/")
		out = append(out, access{"s3:GetObject", n.object(bucket, key)})
	}
	return out
}

func tagging(q url.Values, action string) string {
	if q.Has("tagging") {
		return action + "Tagging"
	}
	return action
}

// bucketAction names what is done to a bucket: listing it, or the subresource that the query names.
func bucketAction(method string, q url.Values) string {
	read := method == http.MethodGet || method == http.MethodHead
	for _, sub := range []struct{ query, name string }{
		{"lifecycle", "LifecycleConfiguration"}, {"tagging", "BucketTagging"}, {"policy", "BucketPolicy"}, {"versioning", "BucketVersioning"},
	} {
		switch {
		case !q.Has(sub.query):
		case read:
			return "s3:Get" + sub.name
		default:
			return "s3:Put" + sub.name
		}
	}
	switch {
	case read:
		return "s3:ListBucket"
	case q.Has("delete"):
		return "s3:DeleteObject"
	case method == http.MethodDelete:
		return "s3:DeleteBucket"
	default:
		return "s3:CreateBucket"
	}
}

func (n Names) bucket(name string) resources.Target {
	if name == n.Bucket {
		return resources.Target{Kind: resources.TheBucket}
	}
	return resources.Target{Kind: Other, Name: name}
}

func (n Names) object(bucket, key string) resources.Target {
	switch bucket {
	case n.Bucket:
	case n.SeedBucket:
		return resources.Target{Kind: resources.SeedFiles}
	default:
		return resources.Target{Kind: Other, Name: bucket + "/" + key}
	}
	prefix, _, _ := strings.Cut(key, "/")
	return resources.Target{Kind: resources.Objects, Name: prefix}
}

// matches says whether an action of IAM is one of these, which may end in a star; none is all.
func matches(actions []string, action string) bool {
	return len(actions) == 0 || slices.ContainsFunc(actions, func(a string) bool {
		start, star := strings.CutSuffix(a, "*")
		return a == action || star && strings.HasPrefix(action, start)
	})
}
