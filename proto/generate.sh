#!/usr/bin/env bash
# Generates all that is made from the contract: Go messages, gRPC servers and the HTTP gateway into sdk/gen/go, and the raw OpenAPI 2
# document into proto/gen-openapi/cordum.swagger.json, which docs/api/generate turns into the published one. Needs nothing but Go; the
# tools and their versions are in proto/tools.mod. With a folder as argument everything goes under that folder instead of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath "${1:-.}")
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
go tool -modfile=proto/tools.mod buf generate proto --template proto/buf.gen.yaml --output "$new"
# What is there is replaced only when all was generated, so that a mistake in the contract leaves no half of it behind.
for made in sdk/gen/go/cordum proto/gen-openapi; do
  mkdir -p "$out/$(dirname "$made")"
  rm -rf "${out:?}/$made"
  mv "$new/$made" "$out/$made"
done
