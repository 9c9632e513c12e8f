"""What schemathesis is told beside its configuration: a check for every answer, and requests that mean something."""

import atexit
import base64
import itertools
import json
import os
import re
import zlib
from pathlib import Path

import requests
import schemathesis
import yaml

URL, KEY, WORKER_KEY = os.environ["FUZZ_URL"], os.environ["FUZZ_API_KEY"], os.environ["FUZZ_WORKER_KEY"]
SAMPLES = yaml.safe_load((Path(__file__).parent / "samples.yaml").read_text())
OPERATIONS = {
    operation["operationId"]: (method, path, "multipart/form-data" in operation.get("consumes", ()))
    for path, methods in json.loads(Path("docs/api/openapi/cordum.swagger.json").read_text())["paths"].items()
    for method, operation in methods.items()
}

# What a request uses up, so that another one of it would only hear 409 or 404, and the samples that make it anew: operations, and which sample of each.
MADE_BY = {
    "job.approval_required": [("Jobs.CreateJob", 1)],
    "job.denied": [("Jobs.CreateJob", 2)],
    "job.polled": [("Jobs.CreateJob", 3)],
    "job.claimed": [("Jobs.CreateJob", 3), ("Workers.ClaimJob", 0)],
    "run.waiting": [("Runs.StartRun", 0)],
    "run.ended": [("Runs.StartRun", 0), ("Runs.CancelRun", 0)],
    "bundle.lost": [("Bundles.PutBundle", 0)],
    "pack.installed": [("Packs.InstallPack", 0)],
}

numbers = itertools.count()
seen = {"key": KEY, "bytes": base64.b64encode(Path(os.environ["FUZZ_PACK"]).read_bytes()).decode(), "bundle.lost": "secops~lost", "pack.installed": "parcels"}
statuses = {}


@schemathesis.check
def answers(ctx, response, case):
    """A body is JSON and says so, and where there is none nothing is said; an error has the one shape and repeats its status."""
    types = response.headers.get("content-type") or []
    if not response.content:
        assert not types, f"no body, yet Content-Type {types}"
        assert response.status_code == 204 or response.request.method in ("HEAD", "OPTIONS"), f"{response.status_code} without a body"
        return
    assert response.status_code != 204, "204 with a body"
    assert types == ["application/json"], f"Content-Type {types}"
    body = json.loads(response.content)
    if response.status_code >= 400:
        assert isinstance(body, dict) and body.get("error"), f"an error without its text: {body}"
        assert body.get("status") == response.status_code, f"status {response.status_code} is {body.get('status')} in the body"


def filled(sample, anew=False):
    """A sample with its names replaced, anew by what is made for it; None when one of them is not known yet."""
    text = json.dumps(sample)
    names = set(re.findall(r"\{([a-z_.]+)\}", text))
    for name in sorted(names & MADE_BY.keys()) if anew else ():
        for operation, number in MADE_BY[name]:
            call(operation, number)
    if not names <= {"n", *seen}:
        return None
    number = f"{os.getpid()}-{next(numbers)}"
    return json.loads(re.sub(r"\{([a-z_.]+)\}", lambda m: number if m[1] == "n" else seen[m[1]], text))


@schemathesis.hook
def map_case(context, case):
    """Lay a sample over half of the requests that the document allows, and over all until one has succeeded."""
    meta = case.meta
    samples = SAMPLES.get(case.operation.definition.raw["operationId"], [])
    if not samples or not meta.generation.mode.is_positive or meta.phase.name.name not in ("FUZZING", "STATEFUL"):
        return case
    dice = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode("utf-8", "replace"))
    heard = any(200 <= status < 300 for status in statuses.get(case.operation.label, ()))
    sample = filled(samples[dice // 2 % len(samples)], anew=True) if dice % 2 or not heard else None
    if sample is None:
        return case
    case.path_parameters.update(sample.get("path", {}))
    if "query" in sample:
        case.query = sample["query"]
    if "body" in sample:
        body = {**case.body, **sample["body"]} if isinstance(case.body, dict) else sample["body"]
        case.body = {name: value for name, value in body.items() if value is not None}
    return case


@schemathesis.hook
def after_call(context, case, response):
    """Count what was answered, and remember what was made."""
    if response.request.method == case.operation.method.upper():
        counts = statuses.setdefault(case.operation.label, {})
        counts[response.status_code] = counts.get(response.status_code, 0) + 1
    if 200 <= response.status_code < 300 and response.content:
        remember(case.operation.definition.raw["operationId"], case.path_parameters, case.body, response.json())


def remember(operation, path, sent, body):
    """Keep the ids of what an answer says was made, for the samples that need one."""
    match operation:
        case "Jobs.CreateJob":
            seen["job"] = seen["job." + body["status"]] = body["job_id"]
            if sent.get("topic") == "job.e2e.polled":
                seen["job.polled"] = body["job_id"]
        case "Workers.ClaimJob" if body["outcome"] == "claimed":
            seen["job.claimed"] = sent["job_id"]
        case "Runs.StartRun":
            seen["run"] = body["run_id"]
            if path["id"] == "fuzz.look":
                seen["run.waiting"] = seen["run.ended"] = body["run_id"]
        case "Artifacts.CreateArtifact":
            seen["pack" if sent.get("content_type") == "application/gzip" else "artifact"] = body["artifact_ptr"]
        case "Bundles.CreateBundleSnapshot":
            seen["snapshot"] = body["id"]


def call(operation, number):
    """Send a sample by itself. Once schemathesis is at work the plane may refuse it, as a policy that was published would have it."""
    method, path, form = OPERATIONS[operation]
    sample = filled(SAMPLES[operation][number])
    sent = {name: value for name, value in sample.get("body", {}).items() if value is not None}
    answer = requests.request(
        method,
        URL + path.format(**sample.get("path", {})),
        headers={"X-API-Key": WORKER_KEY if operation.startswith("Workers.") else KEY, "X-Tenant-ID": "default"},
        **({"files": {name: (None, value) for name, value in sent.items()}} if form else {"json": sent}),
        timeout=10,
    )
    if answer.ok and answer.content:
        remember(operation, sample.get("path", {}), sent, answer.json())
    return answer


def begin():
    """Make one of each thing that samples name, since a route may be tried before the one that makes what it needs."""
    for operation in (
        "Artifacts.CreateArtifact",
        "Workers.Beat",
        "Jobs.CreateJob",
        "Workers.ClaimJob",
        "Workflows.CreateWorkflow",
        "Runs.StartRun",
        "Bundles.PutBundle",
        "Bundles.CreateBundleSnapshot",
        "Packs.InstallPack",
    ):
        for number in range(len(SAMPLES[operation])):
            call(operation, number).raise_for_status()


@atexit.register
def end():
    """Leave the counts to judge.py."""
    Path(os.environ["FUZZ_COUNTS"], f"{os.getpid()}.json").write_text(json.dumps(statuses))


begin()
