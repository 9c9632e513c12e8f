"""Says what the plane was heard to answer, and fails when a route was never heard to succeed: its tests would have been empty."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

# Operations that cannot succeed here, and why.
UNREACHED = {
    "POST /api/v1/auth/password": "a key has no password of its own",
    "POST /api/v1/marketplace/install": "no catalog can be reached",
}

routes = {}
for counts in Path(os.environ["FUZZ_COUNTS"]).glob("*.json"):
    for label, statuses in json.loads(counts.read_text()).items():
        routes.setdefault(label, Counter()).update(statuses)
total = sum(routes.values(), Counter())
silent = {label for label, statuses in routes.items() if not any(status.startswith("2") for status in statuses)}
print(f"\n{sum(total.values())} answers of {len(routes)} routes: " + ", ".join(f"{status} {n} times" for status, n in sorted(total.items())))
for label in sorted(silent - UNREACHED.keys()):
    print(f"never heard to succeed: {label} {dict(routes[label])}")
for label in sorted(UNREACHED.keys() - silent):
    print(f"is heard to succeed, or is no route: {label}; take it from the list in judge.py")
sys.exit(silent != UNREACHED.keys())
