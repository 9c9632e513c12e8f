# Everything that is done with this repository. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
GOFLAGS ?=
export GOFLAGS
PKGS := ./...
# without the race detector: jsii, which infra runs on, is not free of races of its own, and weighing binaries has none; tests of the plane, and of installations, are many, and most
# of them do one thing after the other; commands run whole planes, as the end-to-end suite does with it; the policy's evaluator and the engine of runs are functions, of which random ones
# are asked by the ten thousand
RACED = $$(go list ./... | grep -vE '/(infra(/app)?|localdev/(build|plane|cmd/.*)|shared/core/(pack/install|policy|workflow/engine))$$')
# tests of those where many things happen at one time
TOGETHER := AtOnce|Many|Never|Together|Race|Concurrent|T100
DATA ?= .cordum
ROUNDS ?= 50
SOAK ?= 10m
SEEDS ?= 200
SEED_BASE ?= $(shell date +%s)
# parameters of a plane: make deploy CONTEXT="-c stage=prod -c region=eu-west-1"; docs/deploy.md lists them
CONTEXT ?=
CDK := npx --yes aws-cdk@2.1148.1
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20

.PHONY: help demo dev dev-memory dev-localstack test test-quick test-aws e2e lint proto openapi docs lambdas size synth lint-infra diff deploy bench cost \
	fuzz fuzz-api scan crash soak sim policy-test policy-million bench-policy audit-verify clean bench-workflows try-packs

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Watch jobs run: starts a plane on free ports if none runs, a worker, and submits jobs of every kind
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local demo

dev: ## Run the whole plane: REST on :8081, gRPC on :8080, data in $(DATA)/; CHAOS=mild makes it fail now and then
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@exec ./bin/cordum-local dev --data $(DATA) $(if $(SAFETY_POLICY_PATH),,--policy localdev/seed/policy.yaml) $(if $(CHAOS),--chaos "$(CHAOS)")

dev-memory: ## The same without keeping anything
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@exec ./bin/cordum-local dev --memory $(if $(SAFETY_POLICY_PATH),,--policy localdev/seed/policy.yaml)

dev-localstack: ## The same on LocalStack, every function as its real binary; AWS_ENDPOINT_URL names another endpoint
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@exec ./bin/cordum-local localstack

test: ## All tests, with the race detector wherever things happen at one time
	go vet $(PKGS)
	go test -race -timeout 25m $(RACED)
	go test -race -timeout 15m -run '$(TOGETHER)' ./localdev/plane ./shared/core/pack/install
	go test -timeout 15m ./localdev/plane ./localdev/cmd/... ./shared/core/pack/install ./shared/core/policy ./shared/core/workflow/engine ./infra ./localdev/build
	go test -timeout 15m -run TestEachProtectionIsNeeded ./localdev/sim

test-quick: ## All tests, without the race detector
	go test $(PKGS)

test-aws: ## What needs AWS: the ports' conformance suites, the real binaries, end to end too; on LocalStack, which it starts, or on AWS_ENDPOINT_URL
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	./bin/cordum-local with-aws -- go test -count=1 -p 1 -timeout 40m ./shared/platform/aws/... ./localdev/cost ./localdev/stack ./localdev/e2e

$(foreach v,URL KEY WORKER_KEY GRPC TENANT OTHER_KEY OTHER_TENANT QUEUES LAMBDA,$(eval e2e: export E2E_$(v) = $$($(v))))
e2e: ## The end-to-end suite against a deployment: URL=https://... KEY=... [WORKER_KEY=... GRPC=host:port OTHER_KEY=...]; README says what else
	@test -n "$$E2E_URL" -a -n "$$E2E_KEY" || { echo "say where it is and give a key of role admin: make e2e URL=https://... KEY=..."; exit 2; }
	@go test -count=1 -timeout 30m -v -run '^TestDeployment$$' ./localdev/e2e

lint: ## golangci-lint with everything on, formatting included (buf lint is a test in proto/)
	go tool -modfile=tools/tools.mod golangci-lint run

proto: ## Generate Go from proto/ into sdk/gen/go
	./proto/generate.sh

openapi: proto ## Generate docs/api/openapi and docs/api-reference.md
	go run ./docs/api/generate

docs: ## Generate the diagrams and tables that docs take from code
	go run ./docs/generate docs

lambdas: ## Build every function of functions/*/lambda for AWS into build/lambdas
	@go run ./localdev/cmd/lambdas

size: ## What every function weighs, and how soon a new instance answers on this machine
	@go run ./localdev/cmd/lambdas -size

synth: lambdas ## Make the CloudFormation templates in build/cdk.out; needs Node, no account
	@rm -rf build/cdk.out
	@$(CDK) synth --quiet $(CONTEXT)

lint-infra: synth ## cfn-lint over the templates; needs Python
	@test -x build/venv/bin/cfn-lint || { python3 -m venv build/venv && build/venv/bin/pip install --quiet cfn-lint==1.58.0; }
	build/venv/bin/cfn-lint --ignore-checks W3005 -- build/cdk.out/*.template.json

diff: lambdas ## What a deployment would change
	@$(CDK) diff $(CONTEXT)

deploy: lambdas ## Deploy a plane: see docs/deploy.md
	@$(CDK) deploy --all $(CONTEXT)

bench: ## Measure: submits, round trips, reads, live frames, sweeps, lists, decisions; one line per figure; BENCH="--only lists"
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local bench $(BENCH)

bench-workflows: ## Runs per second of three shapes, what the engine takes for a step, and the AWS requests of one
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local bench --only workflows
	@go test -count=1 -run TestCostOfARun -v ./localdev/plane | grep ^cost

PACKS ?= ../shared/packs

try-packs: ## Take the packs in PACKS through their lives: installed, verified, upgraded, run to the ends of their workflows, uninstalled
	@PACKS=$(abspath $(PACKS)) go test -count=1 -run TestPacks -v ./shared/core/pack ./localdev/plane | grep -v '^==='

crash: ## Kill a plane under load ROUNDS times (50) and judge whether it kept what it acknowledged
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local crash --rounds $(ROUNDS)

soak: ## Load a plane with most of what it can take for SOAK (10m): no job lost, no event missed by who listens, no memory that grows
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local soak --duration $(SOAK)

sim: ## Simulate SEEDS runs (200) of the whole plane in virtual time, with crashes, faults and clock jumps; the set SEED_BASE, or a new one
	SEEDS=$(SEEDS) SEED_BASE=$(SEED_BASE) go test -count=1 -timeout 0 -v -run TestSimulation ./localdev/sim

cost: ## AWS requests, capacity units and dollars: of a job, by the ports and on LocalStack; and of a plane that idles
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@go test -count=1 -run TestCost -v ./localdev/plane | grep ^cost
	@./bin/cordum-local with-aws -- go test -count=1 -run TestCostOnAWS -v ./localdev/cost | grep '^cost\|^---'
	@go test -count=1 -run TestIdleCost -v ./infra | grep '^cost\|^---'

DIR ?= docs/example-policy
policy-test: ## Check that a policy decides what its cases say: DIR=docs/example-policy; docs/policy.md describes the directory
	@go run ./localdev/cmd/policytest $(DIR)

policy-million: ## The evaluator against the naive one, on a million random policies and requests
	POLICY_PAIRS=1000000 go test -count=1 -timeout 0 -v -run TestT102_DecideAgrees ./shared/core/policy

bench-policy: ## Decisions of policies of 100 and 10,000 rules: ours, OPA's and Cedar's, side by side
	@cd tools/policybench && go run .

audit-verify: ## Verify the audit trail in $(DATA), or of the plane that CORDUM_TABLE and CORDUM_BUCKET name; AUDIT="--checkpoint FILE" for more
	@go build -o bin/cordum-audit ./localdev/cmd/cordum-audit
	@./bin/cordum-audit --data $(DATA) verify $(AUDIT)

fuzz: ## Run every fuzz target for a short while: FUZZTIME=10s each, or FUZZTOTAL=90 seconds all together
	./tools/fuzz.sh

fuzz-api: ## schemathesis against the OpenAPI document on a running plane; EXAMPLES=200 CHAINS=20 for longer, SEED=9 for others
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./tools/fuzzapi/run.sh

scan: ## gosec over our code, govulncheck over what it stands on: what is found is mended or argued
	./tools/scan.sh

clean: ## Remove what was built and the local plane's data
	rm -rf bin build $(DATA)
