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

# Fuzzes one target. Go's coordinator loses a race with its own deadline now and then, and calls a run that found nothing a failure: golang/go#75804, mended
# in Go 1.27. Such a run names no input and says nothing but the deadline; it is done again, and three of them are a failure like any other.
fuzz() {
  local name=$1 dir=$2 log
  log=$(mktemp)
  trap 'rm -f "$log"' RETURN
  for run in 1 2 3; do
    if go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 1x "./$dir" 2>&1 | tee "$log"; then
      return 0
    fi
    if [ "$(sed -n "/^--- FAIL: $name (/,\$p" "$log" | sed -n 2,3p)" != $'    context deadline exceeded\nFAIL' ] || grep -q 'Failing input written' "$log"; then
      return 1
    fi
    echo "    nothing found, but the coordinator missed its deadline (run $run of 3)"
  done
  return 1
}

for target in "${targets[@]}"; do
  read -r name dir <<<"$target"
  echo "--- $name ($dir)"
  [ -n "${FUZZLIST:-}" ] || fuzz "$name" "${dir#./}"
done
