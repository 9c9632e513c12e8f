#!/usr/bin/env bash
# Runs every fuzz target of the module, or of the folder FUZZ, for FUZZTIME each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-10s}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' "${FUZZ:-.}" | while read -r file; do
  dir=$(dirname "$file")
  grep -oE '^func (Fuzz[A-Za-z0-9_]+)' "$file" | awk '{print $2}' | while read -r target; do
    echo "--- $target ($dir)"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "./$dir"
  done
done
