package rules

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Wildcards is the rule that an IAM statement with a wildcard in an action or a resource states its reason, in the metadata of its role or
// policy under the statement's Sid.
func Wildcards(app App) []Finding {
	var found []Finding
	for _, r := range app.Of("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy") {
		for _, s := range statements(r) {
			sid, _ := s["Sid"].(string)
			for _, key := range []string{"Action", "Resource"} {
				for _, v := range list(s[key]) {
					if strings.Contains(Text(v), "*") && (sid == "" || r.Reason(sid) == "") {
						found = append(found, r.finding("statement %q has the wildcard %s without a reason", sid, Text(v)))
					}
				}
			}
			if s["NotAction"] != nil || s["NotResource"] != nil {
				found = append(found, r.finding("statement %q allows all but something", sid))
			}
		}
		if r.Properties["ManagedPolicyArns"] != nil && r.Reason("managed") == "" {
			found = append(found, r.finding("it has policies that AWS may change"))
		}
	}
	return found
}

// statements are what a role or a policy allows.
func statements(r Resource) []map[string]any {
	documents := []any{r.At("PolicyDocument")}
	for _, p := range list(r.At("Policies")) {
		documents = append(documents, at(p, "PolicyDocument"))
	}
	var all []map[string]any
	for _, d := range documents {
		for _, s := range list(at(d, "Statement")) {
			if m, ok := s.(map[string]any); ok && m["Effect"] == "Allow" {
				all = append(all, m)
			}
		}
	}
	return all
}

// OwnRoles is the rule that no two functions share a role, and a role's reasons are about statements that it has.
func OwnRoles(app App) []Finding {
	var found []Finding
	users := map[string]string{}
	for _, f := range app.Of("AWS::Lambda::Function") {
		role := f.Stack + Text(f.At("Role"))
		if other, taken := users[role]; taken {
			found = append(found, f.finding("it shares its role with %s", other))
		}
		users[role] = f.ID
	}
	for _, r := range app.Of("AWS::IAM::Role") {
		reasons, _ := r.Metadata["Reasons"].(map[string]any)
		for _, sid := range slices.Sorted(maps.Keys(reasons)) {
			if sid != "managed" && !slices.ContainsFunc(statements(r), func(s map[string]any) bool { return s["Sid"] == sid }) {
				found = append(found, r.finding("it gives a reason for %q, which it has no statement for", sid))
			}
		}
	}
	return found
}

// NotPublic is the rule that nothing but a load balancer with TLS can be reached from anywhere, and nobody in the world is allowed anything.
func NotPublic(app App) []Finding {
	var found []Finding
	for _, b := range app.Of("AWS::S3::Bucket") {
		for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if b.At("PublicAccessBlockConfiguration", block) != true {
				found = append(found, b.finding("%s is not set", block))
			}
		}
	}
	for _, p := range app.Of("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy") {
		for _, s := range statements(p) {
			if Text(s["Principal"]) == "*" || Text(at(s["Principal"], "AWS")) == "*" {
				found = append(found, p.finding("it allows %s to everybody", Text(s["Action"])))
			}
		}
	}
	for _, p := range app.Of("AWS::Lambda::Permission") {
		if Text(p.At("Principal")) == "*" || p.At("SourceArn") == nil {
			found = append(found, p.finding("it lets more than one source start the function"))
		}
	}
	for _, u := range app.Of("AWS::Lambda::Url") {
		found = append(found, u.finding("a function has a URL of its own"))
	}
	for _, s := range app.Of("AWS::ECS::Service") {
		if at(s.At("NetworkConfiguration", "AwsvpcConfiguration"), "AssignPublicIp") != "DISABLED" {
			found = append(found, s.finding("its containers have public addresses"))
		}
	}
	return append(found, openGroups(app)...)
}

func openGroups(app App) []Finding {
	var found []Finding
	for _, g := range app.Of("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress") {
		rules := list(g.At("SecurityGroupIngress"))
		if g.Type == "AWS::EC2::SecurityGroupIngress" {
			rules = []any{any(g.Properties)}
		}
		for _, r := range rules {
			open := Text(at(r, "CidrIp")) == "0.0.0.0/0" || Text(at(r, "CidrIpv6")) == "::/0"
			if open && g.Reason("public") == "" {
				found = append(found, g.finding("it is open to the world without a reason"))
			}
		}
	}
	return found
}

// secret is what a setting that holds a secret is called.
var secret = regexp.MustCompile(`(?i)(secret|password|token|api_?key|private)`)

// NoPlainSecrets is the rule that no environment holds a secret, only where it is kept.
func NoPlainSecrets(app App) []Finding {
	var found []Finding
	for _, r := range app.Of("AWS::Lambda::Function", "AWS::ECS::TaskDefinition") {
		for name, value := range environments(r) {
			kept := strings.Contains(value, "Secret") && strings.HasPrefix(value, "${") || strings.Contains(value, "Fn::ImportValue") ||
				strings.HasPrefix(value, "arn:")
			if secret.MatchString(name) && !kept {
				found = append(found, r.finding("%s is in plain sight", name))
			}
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return found
}

// environments are the settings of a function or of all containers of a task.
func environments(r Resource) map[string]string {
	all := map[string]string{}
	variables, _ := r.At("Environment", "Variables").(map[string]any)
	for name, value := range variables {
		all[name] = Text(value)
	}
	for _, c := range list(r.At("ContainerDefinitions")) {
		for _, v := range list(at(c, "Environment")) {
			all[Text(at(v, "Name"))] = Text(at(v, "Value"))
		}
	}
	return all
}

// Encrypted is the rule that what is kept is encrypted at rest, and what comes from outside is encrypted on its way. (A table cannot be
// otherwise.)
func Encrypted(app App) []Finding {
	var found []Finding
	for _, q := range app.Of("AWS::SQS::Queue") {
		if q.At("SqsManagedSseEnabled") != true && q.At("KmsMasterKeyId") == nil {
			found = append(found, q.finding("messages are not encrypted"))
		}
	}
	for _, b := range app.Of("AWS::S3::Bucket") {
		if b.At("BucketEncryption", "ServerSideEncryptionConfiguration", 0) == nil {
			found = append(found, b.finding("objects are not encrypted"))
		}
	}
	for _, topic := range app.Of("AWS::SNS::Topic") {
		if topic.At("KmsMasterKeyId") == nil && topic.Reason("encryption") == "" {
			found = append(found, topic.finding("notes are not encrypted, without a reason"))
		}
	}
	public := map[string]bool{}
	for _, b := range app.Of("AWS::ElasticLoadBalancingV2::LoadBalancer") {
		public[b.Stack+"${"+b.ID+"}"] = b.At("Scheme") != "internal"
	}
	for _, l := range app.Of("AWS::ElasticLoadBalancingV2::Listener") {
		protocol := l.At("Protocol")
		if public[l.Stack+Text(l.At("LoadBalancerArn"))] && protocol != "TLS" && protocol != "HTTPS" {
			found = append(found, l.finding("it listens to the world in plain text"))
		}
	}
	for _, d := range app.Of("AWS::CloudFront::Distribution") {
		behaviors := append(list(d.At("DistributionConfig", "CacheBehaviors")), d.At("DistributionConfig", "DefaultCacheBehavior"))
		for _, b := range behaviors {
			if at(b, "ViewerProtocolPolicy") == "allow-all" {
				found = append(found, d.finding("it answers plain HTTP"))
			}
		}
	}
	return found
}

// OnlyTLS is the rule that buckets and queues refuse plain HTTP.
func OnlyTLS(app App) []Finding {
	var found []Finding
	for kind, policy := range map[string]struct{ of, names string }{
		"AWS::S3::Bucket": {"AWS::S3::BucketPolicy", "Bucket"}, "AWS::SQS::Queue": {"AWS::SQS::QueuePolicy", "Queues"},
	} {
		for _, r := range app.Of(kind) {
			refused := slices.ContainsFunc(app.Of(policy.of), func(p Resource) bool {
				return p.Stack == r.Stack && slices.ContainsFunc(list(p.At(policy.names)), func(v any) bool { return Text(v) == "${"+r.ID+"}" }) &&
					refusesPlain(p)
			})
			if !refused {
				found = append(found, r.finding("it can be reached without TLS"))
			}
		}
	}
	return found
}

func refusesPlain(p Resource) bool {
	return slices.ContainsFunc(list(p.At("PolicyDocument", "Statement")), func(s any) bool {
		return at(s, "Effect") == "Deny" && Text(at(s, "Condition", "Bool", "aws:SecureTransport")) == "false"
	})
}
