"""Checks that hold for every answer of the plane, whatever the route; the OpenAPI document cannot say them."""

import json

import schemathesis


@schemathesis.check
def answers(ctx, response, case):
    """A body is JSON and says so, no body says nothing; an error has the one shape and repeats its status."""
    types = response.headers.get("content-type") or []
    if not response.content:
        assert not types, f"no body, yet Content-Type {types}"
        assert response.status_code in (204, 304) or response.request.method == "HEAD", f"{response.status_code} without a body"
        return
    assert response.status_code != 204, "204 with a body"
    assert types == ["application/json"], f"Content-Type {types}"
    body = json.loads(response.content)
    if response.status_code >= 400:
        assert isinstance(body, dict) and body.get("error"), f"an error without its text: {body}"
        assert body.get("status") == response.status_code, f"status {response.status_code} is {body.get('status')} in the body"
