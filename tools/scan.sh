#!/usr/bin/env bash
# Looks for what is known to be dangerous: gosec over our code (as a linter, with the exceptions of .golangci.yml, each with its reason), and govulncheck over
# everything that is compiled in. The second needs the database of vuln.go.dev, or GOVULNDB; where that cannot be reached it says so and checks nothing,
# unless SCAN=required.
set -euo pipefail
cd "$(dirname "$0")/.."
go tool -modfile=tools/tools.mod golangci-lint run --enable-only gosec
database=${GOVULNDB:-https://vuln.go.dev}
if [[ $database != file://* ]] && ! curl --silent --fail --location --max-time 15 --output /dev/null "$database/index/db.json"; then
  echo "govulncheck: $database cannot be reached, so no dependency was looked up" >&2
  [ "${SCAN:-}" != required ] || exit 1
  exit 0
fi
go tool -modfile=tools/scan.mod govulncheck -db "$database" ./...
