# Everything that is done with this repository. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
GOFLAGS ?=
export GOFLAGS
PKGS := ./...
DATA ?= .cordum

.PHONY: help demo dev dev-memory test test-quick test-aws lint proto openapi docs bench cost fuzz clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Watch jobs run: starts a plane on free ports if none runs, a worker, and submits jobs of every kind
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local demo

dev: ## Run the whole plane: REST on :8081, gRPC on :8080, data in $(DATA)/
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@exec ./bin/cordum-local dev --data $(DATA)

dev-memory: ## The same without keeping anything
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@exec ./bin/cordum-local dev --memory

test: ## All tests, with the race detector
	go vet $(PKGS)
	go test -race -timeout 15m $(PKGS)

test-quick: ## All tests, without the race detector
	go test $(PKGS)

test-aws: ## The conformance suites on the AWS adapters; needs AWS_ENDPOINT_URL (LocalStack)
	@test -n "$${AWS_ENDPOINT_URL:-}" || { echo "set AWS_ENDPOINT_URL, for example http://localhost:4566 (LocalStack)"; exit 2; }
	AWS_ACCESS_KEY_ID=$${AWS_ACCESS_KEY_ID:-test} AWS_SECRET_ACCESS_KEY=$${AWS_SECRET_ACCESS_KEY:-test} AWS_REGION=$${AWS_REGION:-us-east-1} \
	  go test -count=1 -timeout 30m ./shared/platform/aws/...

lint: ## golangci-lint with everything on, formatting included (buf lint is a test in proto/)
	go tool -modfile=tools/tools.mod golangci-lint run

proto: ## Generate Go from proto/ into sdk/gen/go
	./proto/generate.sh

openapi: proto ## Generate docs/api/openapi and docs/api-reference.md
	go run ./docs/api/generate

docs: ## Generate the diagrams and tables that docs take from code
	go run ./docs/generate docs

bench: ## Measure: submits, round trips, reads, decisions; one line per figure
	@go build -o bin/cordum-local ./localdev/cmd/cordum-local
	@./bin/cordum-local bench

cost: ## AWS requests, capacity units and dollars of a job's life
	@go test -count=1 -run TestCost -v ./localdev/plane | grep ^cost

fuzz: ## Run every fuzz target for a short while
	./tools/fuzz.sh

clean: ## Remove what was built and the local plane's data
	rm -rf bin $(DATA)
