#!/usr/bin/env bash
# Looks for what is known to be dangerous: gosec over our code (as a linter, with the exceptions of .golangci.yml, each with its reason), and govulncheck over
# everything that is compiled in, with the toolchain that go.mod names. The database is that of GOVULNDB, or vuln.go.dev, or, where that cannot be reached, the
# one that the module golang.org/x/vulndb has, by the module proxy. What is found must be mended, or argued in tools/vulnerable/accepted.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
go tool -modfile=tools/tools.mod golangci-lint run --enable-only gosec

database=${GOVULNDB:-https://vuln.go.dev}
if [[ $database != file://* ]] && ! curl --silent --fail --location --max-time 15 --output /dev/null "$database/index/db.json"; then
  read -r version dir < <(cd / && go mod download -json golang.org/x/vulndb@latest | sed -nE 's/^\t"(Version|Dir)": "(.*)",$/\2/p' | paste -sd' ')
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/cordum/vulndb/$version
  if [ ! -f "$cache/index/db.json" ]; then
    echo "$database cannot be reached; golang.org/x/vulndb $version takes its place"
    rm -rf "$cache.part"
    (cd / && go run "golang.org/x/vulndb/cmd/indexdb@$version" -vulns "$dir/data/osv" -out "$cache.part")
    mv -T "$cache.part" "$cache"
  fi
  database=file://$cache
fi

go build -modfile=tools/scan.mod -o bin/govulncheck golang.org/x/vuln/cmd/govulncheck
toolchain=$(sed -nE 's/^toolchain (.*)$/\1/p' go.mod)
if ! GOTOOLCHAIN=$toolchain go version >/dev/null 2>&1; then
  echo "$toolchain cannot be had: what is compiled in is looked at as $(go version) would compile it"
  toolchain=local
fi
# Of infra, which runs where it is deployed from and asks nobody, the packages are looked at and not the calls: those of the CDK are a million.
look() { GOTOOLCHAIN=$toolchain ./bin/govulncheck -db "$database" -format json "$@"; }
mapfile -t ours < <(go list ./... | grep -v /infra)
{ look "${ours[@]}" && look -scan package ./infra/...; } | go run ./tools/vulnerable tools/vulnerable/accepted.txt
