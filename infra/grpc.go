package infra

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapplicationautoscaling"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecrassets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	elb "github.com/aws/aws-cdk-go/awscdk/v2/awselasticloadbalancingv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"

	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// grpc is the stack of the container behind the load balancer.
type grpc struct {
	stack    awscdk.Stack
	p        Params
	vpc      awsec2.Vpc
	outer    awsec2.SecurityGroup // the load balancer's
	inner    awsec2.SecurityGroup // the containers'
	service  awsecs.FargateService
	balancer elb.NetworkLoadBalancer
	targets  elb.NetworkTargetGroup
}

const (
	grpcPort = 8080
	// deregistration is how long new connections still may reach a container that leaves, and so how long until it hears of it.
	deregistration = 30 * time.Second
	// busy is the share of a processor above which there should be more containers.
	busy = 60
)

func newGrpc(s awscdk.Stack, p Params, from Sources, d data) *grpc {
	g := &grpc{stack: s, p: p}
	g.addNetwork()
	g.addService(from, wheres{p: p, secrets: d.secrets})
	g.addBalancer()
	g.addScaling()
	g.addAlarms()
	return g
}

// public says whether the service can be reached from outside: never in plain text, since keys travel with every call.
func (g *grpc) public() bool { return g.p.GrpcCertificate != "" }

// addNetwork makes a VPC without a way out: what containers need of AWS is reached through endpoints.
func (g *grpc) addNetwork() {
	subnets := []*awsec2.SubnetConfiguration{{Name: new("inner"), SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED, CidrMask: num(24)}}
	if g.public() {
		subnets = append(subnets, &awsec2.SubnetConfiguration{
			Name: new("outer"), SubnetType: awsec2.SubnetType_PUBLIC, CidrMask: num(24), MapPublicIpOnLaunch: no,
		})
	}
	g.vpc = awsec2.NewVpc(g.stack, new("Vpc"), &awsec2.VpcProps{
		MaxAzs: num(zones), NatGateways: num(0), SubnetConfiguration: &subnets, RestrictDefaultSecurityGroup: no,
		GatewayEndpoints: &map[string]*awsec2.GatewayVpcEndpointOptions{
			"DynamoDB": {Service: awsec2.GatewayVpcEndpointAwsService_DYNAMODB()},
			"S3":       {Service: awsec2.GatewayVpcEndpointAwsService_S3()},
		},
	})
	g.outer = g.securityGroup("Balancer", "load balancer")
	g.inner = g.securityGroup("Containers", "containers")
	g.outer.AddEgressRule(g.inner, awsec2.Port_Tcp(num(grpcPort)), new("to containers"), nil)
	g.inner.AddIngressRule(g.outer, awsec2.Port_Tcp(num(grpcPort)), new("from the load balancer"), nil)
	g.inner.AddEgressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_Tcp(num(443)), new("to the endpoints; there is no other way out"), nil)
	g.addEndpoints()
}

func (g *grpc) securityGroup(id, what string) awsec2.SecurityGroup {
	return awsec2.NewSecurityGroup(g.stack, new(id), &awsec2.SecurityGroupProps{
		Vpc: g.vpc, AllowAllOutbound: no, Description: new("gRPC service: " + what),
	})
}

// addEndpoints makes the interface endpoints, which cost by the hour: none that is not used.
func (g *grpc) addEndpoints() {
	door := g.securityGroup("Endpoints", "VPC endpoints")
	door.AddIngressRule(g.inner, awsec2.Port_Tcp(num(443)), new("from containers"), nil)
	for _, e := range []struct {
		id      string
		service awsec2.InterfaceVpcEndpointAwsService
	}{
		{"Sqs", awsec2.InterfaceVpcEndpointAwsService_SQS()},
		{"Secrets", awsec2.InterfaceVpcEndpointAwsService_SECRETS_MANAGER()},
		{"Logs", awsec2.InterfaceVpcEndpointAwsService_CLOUDWATCH_LOGS()},
		{"EcrApi", awsec2.InterfaceVpcEndpointAwsService_ECR()},
		{"EcrDocker", awsec2.InterfaceVpcEndpointAwsService_ECR_DOCKER()},
	} {
		g.vpc.AddInterfaceEndpoint(new(e.id), &awsec2.InterfaceVpcEndpointOptions{
			Service: e.service, Open: no, SecurityGroups: &[]awsec2.ISecurityGroup{door}, Subnets: g.innerSubnets(),
		})
	}
}

func (g *grpc) innerSubnets() *awsec2.SubnetSelection {
	return &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED}
}

func (g *grpc) addService(from Sources, w wheres) {
	image := awsecrassets.NewDockerImageAsset(g.stack, new("Image"), &awsecrassets.DockerImageAssetProps{
		Directory: new(from.Root), File: new(dockerfile), Platform: awsecrassets.Platform_LINUX_ARM64(),
		IgnoreMode: awscdk.IgnoreMode_DOCKER, Exclude: strs(from.ignored()...),
	})
	def := resources.Container
	log := newLog(g.stack, "Log", g.p.containerLogGroup(), g.p)
	task := awsecs.NewFargateTaskDefinition(g.stack, new("Task"), &awsecs.FargateTaskDefinitionProps{
		Family: new(g.p.clusterName()), Cpu: num(def.CPU), MemoryLimitMiB: num(def.Memory),
		RuntimePlatform: &awsecs.RuntimePlatform{
			CpuArchitecture: awsecs.CpuArchitecture_ARM64(), OperatingSystemFamily: awsecs.OperatingSystemFamily_LINUX(),
		},
		TaskRole: g.taskRole(w), ExecutionRole: g.executionRole(*image.Repository().RepositoryArn()),
	})
	env := environment(w, def.Grants)
	env["AWS_REGION"] = new(g.p.Region)
	env["GRPC_PLAINTEXT"] = new("private") // only the load balancer reaches a container: it ends TLS, or is itself reached from the VPC alone
	task.AddContainer(new("grpc"), &awsecs.ContainerDefinitionOptions{
		Image: awsecs.ContainerImage_FromDockerImageAsset(image), Environment: &env,
		PortMappings:           &[]*awsecs.PortMapping{{ContainerPort: num(grpcPort)}},
		ReadonlyRootFilesystem: yes, User: new("65532"), StopTimeout: duration(def.Stop),
		Logging: awsecs.LogDrivers_AwsLogs(&awsecs.AwsLogDriverProps{
			LogGroup: awslogs.LogGroup_FromLogGroupName(g.stack, new("LogName"), log.Ref()), StreamPrefix: new("grpc"),
			Mode: awsecs.AwsLogDriverMode_NON_BLOCKING, // no stream waits for a log
		}),
	})
	cluster := awsecs.NewCluster(g.stack, new("Cluster"), &awsecs.ClusterProps{ClusterName: new(g.p.clusterName()), Vpc: g.vpc})
	g.service = awsecs.NewFargateService(g.stack, new("Service"), &awsecs.FargateServiceProps{
		ServiceName: new(g.p.clusterName()), Cluster: cluster, TaskDefinition: task, AssignPublicIp: no, VpcSubnets: g.innerSubnets(),
		SecurityGroups: &[]awsec2.ISecurityGroup{g.inner}, MinHealthyPercent: num(100), MaxHealthyPercent: num(200),
		CircuitBreaker: &awsecs.DeploymentCircuitBreaker{Enable: yes, Rollback: yes}, HealthCheckGracePeriod: awscdk.Duration_Seconds(num(30)),
	})
}

// dockerfile is where the image is described. What the file of the same name with .dockerignore leaves out does not change the image.
const dockerfile = "functions/grpc/Dockerfile"

func (from Sources) ignored() []string {
	text, _ := os.ReadFile(filepath.Join(from.Root, dockerfile+".dockerignore")) // check has seen it
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" || line[0] == '#' })
}

func (g *grpc) taskRole(w wheres) awsiam.IRole {
	r := &role{}
	r.grant(resources.Container.Grants, w.at)
	made := r.make(g.stack, "TaskRole", "What the gRPC service may do", "ecs-tasks.amazonaws.com")
	return fixed(g.stack, "TaskRoleOf", made)
}

func (g *grpc) executionRole(repositoryARN string) awsiam.IRole {
	r := &role{}
	r.allow("Token", "ECR gives tokens for a whole registry", []string{"ecr:GetAuthorizationToken"}, "*")
	r.allow("Image", "", []string{"ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"}, repositoryARN)
	r.allow("Log", "streams of its own log group", []string{"logs:CreateLogStream", "logs:PutLogEvents"},
		g.p.arn("logs", "log-group:"+g.p.containerLogGroup()+":*"))
	made := r.make(g.stack, "ExecutionRole", "What Fargate does to start a container of the gRPC service", "ecs-tasks.amazonaws.com")
	return fixed(g.stack, "ExecutionRoleOf", made)
}

// fixed keeps CDK from adding to a role what it thinks is needed.
func fixed(s awscdk.Stack, id string, made awsiam.CfnRole) awsiam.IRole {
	return awsiam.Role_FromRoleArn(s, new(id), made.AttrArn(), &awsiam.FromRoleArnOptions{Mutable: no})
}

func (g *grpc) addBalancer() {
	props := &elb.NetworkLoadBalancerProps{
		LoadBalancerName: new(g.p.clusterName()), Vpc: g.vpc, InternetFacing: yes, CrossZoneEnabled: yes,
		SecurityGroups: &[]awsec2.ISecurityGroup{g.outer}, VpcSubnets: &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PUBLIC},
	}
	listener := &elb.BaseNetworkListenerProps{Port: num(443), Protocol: elb.Protocol_TLS, SslPolicy: elb.SslPolicy_RECOMMENDED_TLS,
		AlpnPolicy: elb.AlpnPolicy_HTTP2_ONLY} // gRPC clients refuse a server that does not say h2
	from := awsec2.Peer_AnyIpv4()
	if g.public() {
		listener.Certificates = &[]elb.IListenerCertificate{elb.ListenerCertificate_FromArn(new(g.p.GrpcCertificate))}
	} else {
		props.InternetFacing, props.VpcSubnets = no, g.innerSubnets()
		listener = &elb.BaseNetworkListenerProps{Port: num(grpcPort), Protocol: elb.Protocol_TCP}
		from = awsec2.Peer_Ipv4(g.vpc.VpcCidrBlock())
	}
	g.outer.AddIngressRule(from, awsec2.Port_Tcp(listener.Port), new("callers"), nil)
	if g.public() {
		explain(defaultOf(g.outer), map[string]any{"public": "workers connect from anywhere; TLS only, and every call carries a key"})
	}
	g.balancer = elb.NewNetworkLoadBalancer(g.stack, new("LoadBalancer"), props)
	g.targets = g.balancer.AddListener(new("Listener"), listener).AddTargets(new("Targets"), &elb.AddNetworkTargetsProps{
		Port: num(grpcPort), Protocol: elb.Protocol_TCP, Targets: &[]elb.INetworkLoadBalancerTarget{g.service},
		DeregistrationDelay: duration(deregistration), PreserveClientIp: no,
		HealthCheck: &elb.HealthCheck{Protocol: elb.Protocol_TCP, Interval: awscdk.Duration_Seconds(num(10)),
			HealthyThresholdCount: num(2), UnhealthyThresholdCount: num(3)},
	})
	g.addAddress(*listener.Port)
}

// addAddress says where the service is, and gives it its name.
func (g *grpc) addAddress(port float64) {
	host := *g.balancer.LoadBalancerDnsName()
	if g.p.GrpcDomain != "" {
		if g.p.Zone != "" {
			awsroute53.NewCfnRecordSet(g.stack, new("Record"), &awsroute53.CfnRecordSetProps{
				HostedZoneId: new(g.p.Zone), Name: new(g.p.GrpcDomain), Type: new("A"), AliasTarget: &awsroute53.CfnRecordSet_AliasTargetProperty{
					DnsName: g.balancer.LoadBalancerDnsName(), HostedZoneId: g.balancer.LoadBalancerCanonicalHostedZoneId(),
				},
			})
		}
		output(g.stack, "LoadBalancerName", host, "what the name "+g.p.GrpcDomain+" must lead to")
		host = g.p.GrpcDomain
	}
	output(g.stack, "IdleCost", fmt.Sprintf("about %.0f dollars a month in us-east-1", IdleCost(g.p)), "of this stack while nobody uses it; docs/deploy.md")
	output(g.stack, "GrpcTarget", fmt.Sprintf("%s:%v", host, port), "where workers and gRPC clients connect")
}

// addScaling keeps containers between the two bounds, by processor and by connections. Every container leases a delivery queue, so there are
// never more of them than queues, except while one set takes over from another: the new ones wait for a lease.
func (g *grpc) addScaling() {
	target := awsapplicationautoscaling.NewCfnScalableTarget(g.stack, new("Scaling"), &awsapplicationautoscaling.CfnScalableTargetProps{
		MinCapacity: num(g.p.MinContainers), MaxCapacity: num(g.p.MaxContainers), ServiceNamespace: new("ecs"),
		ScalableDimension: new("ecs:service:DesiredCount"), ResourceId: new("service/" + g.p.clusterName() + "/" + g.p.clusterName()),
	})
	target.Node().AddDependency(g.service)
	policy := func(id string, goal int, spec *awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingScalingPolicyConfigurationProperty) {
		spec.TargetValue, spec.ScaleOutCooldown, spec.ScaleInCooldown = num(goal), num(60), num(600)
		awsapplicationautoscaling.NewCfnScalingPolicy(g.stack, new(id), &awsapplicationautoscaling.CfnScalingPolicyProps{
			PolicyName: new(g.p.clusterName() + "-" + strings.ToLower(id)), PolicyType: new("TargetTrackingScaling"), ScalingTargetId: target.Ref(),
			TargetTrackingScalingPolicyConfiguration: spec,
		})
	}
	policy("Processor", busy, &awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingScalingPolicyConfigurationProperty{
		PredefinedMetricSpecification: &awsapplicationautoscaling.CfnScalingPolicy_PredefinedMetricSpecificationProperty{
			PredefinedMetricType: new("ECSServiceAverageCPUUtilization"),
		},
	})
	policy("Connections", g.p.ContainerConnections, &awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingScalingPolicyConfigurationProperty{
		CustomizedMetricSpecification: &awsapplicationautoscaling.CfnScalingPolicy_CustomizedMetricSpecificationProperty{Metrics: g.perContainer()},
	})
}

// perContainer is the connections of all zones by the containers that take them. A load balancer counts by zone, and each zone sees all
// containers.
func (g *grpc) perContainer() []any {
	type query = awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingMetricDataQueryProperty
	metric := func(id, name, statistic string, dims ...string) *query {
		var pairs []any
		for i := 0; i+1 < len(dims); i += 2 {
			pairs = append(pairs, &awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingMetricDimensionProperty{Name: new(dims[i]), Value: new(dims[i+1])})
		}
		return &query{Id: new(id), ReturnData: no, MetricStat: &awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingMetricStatProperty{
			Stat: new(statistic), Metric: &awsapplicationautoscaling.CfnScalingPolicy_TargetTrackingMetricProperty{
				Namespace: new("AWS/NetworkELB"), MetricName: new(name), Dimensions: pairs,
			},
		}}
	}
	balancer := *g.balancer.LoadBalancerFullName()
	queries := []any{metric("hosts", "HealthyHostCount", "Maximum", "LoadBalancer", balancer, "TargetGroup", *g.targets.TargetGroupFullName())}
	var sum []string
	for n, zone := range *g.vpc.AvailabilityZones() {
		id := fmt.Sprintf("flows%d", n)
		queries = append(queries, metric(id, "ActiveFlowCount", "Average", "AvailabilityZone", *zone, "LoadBalancer", balancer))
		sum = append(sum, "FILL("+id+", 0)")
	}
	return append(queries, &query{Id: new("each"), ReturnData: yes, Expression: new("(" + strings.Join(sum, " + ") + ") / hosts")})
}

func (g *grpc) addAlarms() {
	hosts := func(statistic string) metric {
		return metric{"AWS/NetworkELB", "HealthyHostCount", statistic, []string{
			"LoadBalancer", *g.balancer.LoadBalancerFullName(), "TargetGroup", *g.targets.TargetGroupFullName(),
		}}
	}
	addAlarm(g.stack, g.p, alarm{
		kind: "containers-unhealthy", metric: hosts("Minimum"), below: float64(g.p.MinContainers), minutes: 1, bad: 5, of: 5, silence: "breaching",
		says: fmt.Sprintf("Fewer than %d containers of the gRPC service answer.", g.p.MinContainers),
	})
	addAlarm(g.stack, g.p, alarm{
		kind: "containers-at-most", metric: hosts("Maximum"), above: float64(g.p.MaxContainers), minutes: 1, bad: 15, of: 15,
		says: "The gRPC service has had as many containers as it may for a quarter of an hour.",
	})
	addAlarm(g.stack, g.p, alarm{
		kind: "containers-full", above: 85, minutes: 1, bad: 5, of: 5, says: "A container of the gRPC service runs out of memory.",
		metric: metric{"AWS/ECS", "MemoryUtilization", "Maximum", []string{"ClusterName", g.p.clusterName(), "ServiceName", g.p.clusterName()}},
	})
}
