#!/usr/bin/env bash
# Runs every fuzz target of the module, or of the folder FUZZ: each for FUZZTIME, or all of them together for FUZZTOTAL seconds (what building them takes
# comes on top). It finds the targets by itself. FUZZLIST=1 only lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t targets < <(grep -rEo '^func Fuzz[A-Z][A-Za-z0-9_]*' --include='*_test.go' "${FUZZ:-.}" | sed -E 's/^(.*)\/[^/]*:func (.*)$/\2 \1/' | sort -k2,2 -k1,1)
if [ ${#targets[@]} -eq 0 ]; then
  echo "no fuzz target below ${FUZZ:-.}" >&2
  exit 1
fi
time=${FUZZTIME:-10s}
if [ -n "${FUZZTOTAL:-}" ]; then
  time=$((FUZZTOTAL * 1000 / ${#targets[@]}))ms
fi
for target in "${targets[@]}"; do
  read -r name dir <<<"$target"
  echo "--- $name ($dir)"
  [ -n "${FUZZLIST:-}" ] || go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 1x "./${dir#./}"
done
