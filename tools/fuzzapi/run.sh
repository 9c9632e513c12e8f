#!/usr/bin/env bash
# Lets schemathesis loose on a plane: it reads the OpenAPI document and sends what the document allows, what it forbids, and chains of requests along its
# links; every answer must be one that the document describes. What is checked, and what is not, is in schemathesis.toml beside this file. EXAMPLES is how
# many requests each route gets beside those that cover its parameters (15), CHAINS how often chains of requests are tried (3), SEED which ones.
# Needs Python; schemathesis is installed into build/schemathesis. Run it by `make fuzz-api`, which builds what it starts.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tools/fuzzapi
venv=build/schemathesis
if ! cmp -s $here/requirements.txt $venv/installed.txt; then
  rm -rf $venv
  python3 -m venv $venv
  $venv/bin/pip install --quiet --no-deps --requirement $here/requirements.txt
  cp $here/requirements.txt $venv/installed.txt
fi

made=$(mktemp -d)
started=()
stop() {
  [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
  wait
  rm -rf "$made"
}
trap stop EXIT

# A plane of its own, whose limits are so high that a 429 never stands before the answer that is looked for.
export FUZZ_API_KEY=fuzz-admin-key FUZZ_WORKER_KEY=fuzz-worker-key
export CORDUM_API_KEYS='[{"key":"fuzz-admin-key","tenant":"default","role":"admin","principal_id":"fuzz"},
  {"key":"fuzz-worker-key","tenant":"default","role":"worker","pools":["demo","e2e-polled"]}]'
export API_RATE_LIMIT_RPS=100000 API_RATE_LIMIT_BURST=100000 API_PUBLIC_RATE_LIMIT_RPS=100000 API_PUBLIC_RATE_LIMIT_BURST=100000
: >"$made/plane.txt"
./bin/cordum-local dev --memory --http localhost:0 --grpc localhost:0 --metrics "" --policy localdev/seed/policy.yaml >"$made/plane.txt" 2>"$made/plane.log" &
started+=($!)
for _ in {1..100}; do
  grep -q 'Ctrl-C stops it' "$made/plane.txt" && break
  sleep 0.1
done
FUZZ_URL=$(sed -nE 's|^ *REST +(http://[^/]+)/api/v1$|\1|p' "$made/plane.txt")
grpc=$(sed -nE 's|^ *gRPC +(.+)$|\1|p' "$made/plane.txt")
if [ -z "$FUZZ_URL" ]; then
  cat "$made/plane.log" >&2
  exit 1
fi
./bin/cordum-local work --target "$grpc" --key fuzz-worker-key 2>>"$made/plane.log" &
started+=($!)
go run ./localdev/cmd/cordum-pack build --out "$made/pack.tgz" docs/example-packs/parcels >/dev/null
export FUZZ_URL FUZZ_PACK="$made/pack.tgz" FUZZ_COUNTS="$made/counts" HYPOTHESIS_STORAGE_DIRECTORY="$made/hypothesis" PYTHONDONTWRITEBYTECODE=1
mkdir "$FUZZ_COUNTS"

# Chains have runs of their own, and several: schemathesis gives up on them once the plane has answered the same otherwise than before, as it does when
# something was made or has ended meanwhile.
status=0
loose() {
  $venv/bin/schemathesis --config-file $here/schemathesis.toml run docs/api/openapi/cordum.swagger.json --url "$FUZZ_URL" \
    --max-examples "${EXAMPLES:-15}" "$@" ${FUZZ_FLAGS:-} || status=$?
}
loose --phases coverage,fuzzing --seed "${SEED:-1}"
for ((round = 0; round < ${CHAINS:-3}; round++)); do
  loose --phases stateful --seed $((${SEED:-1} + round))
done
if [ -z "${FUZZ_FLAGS:-}" ]; then # they may leave routes out
  $venv/bin/python $here/judge.py || status=$?
fi
if grep -E 'level=ERROR|panic' "$made/plane.log" >&2; then
  echo "the plane's log has errors" >&2
  status=1
fi
exit $status
