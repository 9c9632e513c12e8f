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

numbers = itertools.count()
seen = {"key": KEY}
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


def filled(sample):
    """A sample with its names replaced; None when one of them is not known yet."""
    text = json.dumps(sample)
    names = set(re.findall(r"\{([a-z_.]+)\}", text))
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
    sample = filled(samples[dice // 2 % len(samples)]) if dice % 2 or not heard else None
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
            seen["run"], seen["workflow"] = body["run_id"], path["id"]
            seen["run." + path["id"]] = body["run_id"]
        case "Artifacts.CreateArtifact":
            seen["artifact"] = body["artifact_ptr"]
        case "Bundles.CreateBundleSnapshot":
            seen["snapshot"] = body["id"]


def call(operation, method, path, body, key=KEY, **params):
    """Send one request of the beginning."""
    headers = {"X-API-Key": key, "X-Tenant-ID": "default"}
    answer = requests.request(method, URL + "/api/v1" + path.format(**params), headers=headers, json=body, timeout=10)
    answer.raise_for_status()
    said = answer.json()
    remember(operation, params, body, said)
    return said


def begin():
    """Make one of each thing that samples name, since a route may be tried before the one that makes what it needs."""
    pack = base64.b64encode(Path(os.environ["FUZZ_PACK"]).read_bytes()).decode()
    seen["pack"] = call("", "POST", "/artifacts", {"content_base64": pack, "content_type": "application/gzip"})["artifact_ptr"]
    for operation, method, path, key in (
        ("Artifacts.CreateArtifact", "POST", "/artifacts", KEY),
        ("Workers.Beat", "POST", "/worker/heartbeat", WORKER_KEY),
        ("Jobs.CreateJob", "POST", "/jobs", KEY),
        ("Workers.ClaimJob", "POST", "/worker/claim", WORKER_KEY),
        ("Jobs.CreateJob", "POST", "/jobs", KEY),
        ("Workflows.CreateWorkflow", "POST", "/workflows", KEY),
        ("Runs.StartRun", "POST", "/workflows/{id}/runs", KEY),
        ("Bundles.PutBundle", "PUT", "/policy/bundles/{id}", KEY),
    ):
        for sample in map(filled, SAMPLES[operation]):
            call(operation, method, path, sample["body"], key, **sample.get("path", {}))
    call("Bundles.CreateBundleSnapshot", "POST", "/policy/bundles/snapshots", {})


@atexit.register
def end():
    """Leave the counts to judge.py."""
    Path(os.environ["FUZZ_COUNTS"], f"{os.getpid()}.json").write_text(json.dumps(statuses))


begin()
