"""Holds a running gateway against its own description, by schemathesis: every operation, good requests and bad ones.

Reads a JSON object from stdin (admin, ingest, token, sink: where deliveries may go), seeds the gateway through its own
API so that there is something behind most ids, and exits non-zero with a report if an answer is not as described.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ASKED = json.load(sys.stdin)
SEED, EXAMPLES = 20260131, 12
# What never ends cannot be held against anything.
ENDLESS = ["/api/v1/live", "/api/v1/feed"]
# What is allowed differs from source to source.
BY_SOURCE = "allow_header_conformance,positive_data_acceptance"
# Where good parameters may contradict each other (`until` before `since`) or are bounded by bytes, which no schema says.
CONTRADICTING = [
    "/api/v1/events",
    "/api/v1/events/export",
    "/api/v1/events/histogram",
    "/api/v1/deliveries",
    "/api/v1/deliveries/cancel",
    "/api/v1/failures",
    "/api/v1/replays",
]
MAY_CONTRADICT = """
[[operations]]
include-path = "{}"
checks.positive_data_acceptance.expected-statuses = {}
"""
# Signs of a request that is well written and still cannot be done as things stand.
ACCEPTED = ["2xx", "304", "401", "403", "404", "409", "410", "422"]
# How what is wrong may be refused.
REFUSED = ["400", "401", "403", "404", "405", "409", "413", "422", "431"]


def ask(method, path, body=None, base="admin", media="application/json"):
    """The answer's JSON; `None` for an answer without."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ASKED[base]}{path}", data=data, method=method)
    request.add_header("Content-Type", media)
    if base == "admin":
        request.add_header("Authorization", f"Bearer {ASKED['token']}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as refused:
        text = refused.read()
    return json.loads(text) if text else None


def until(path, fits):
    """Asks until it is so; the test that runs this ends it if it never is."""
    while not fits(answer := ask("GET", path)):
        time.sleep(0.02)
    return answer


def seed():
    """Makes events that arrived, failed, are retried, wait and went nowhere; what was refused, tokens, a replay."""
    def post(source, kind, call):
        event = {"event_type": kind, "call_id": call, "timestamp": "2026-01-31T12:00:00Z", "data": {}}
        return ask("POST", f"/in/{source}", event, base="ingest")

    for kind in ["call_started", "tool_call", "call_ended", "odd", "down", "nowhere"]:
        post("flyflow", kind, "call 1/é")
    post("flyflow", "call_started", "call-2")
    post("flyflow", "call_started", "call-2")
    post("signed", "call_started", "call-3")
    ask("POST", "/in/strict", b"not json", base="ingest", media="text/plain")
    ask("POST", "/in/flyflow", b"\xff\x00", base="ingest", media="application/octet-stream")
    until("/api/v1/deliveries?endpoint=odd", lambda page: page["items"])
    until("/api/v1/deliveries?endpoint=down&status=retrying", lambda page: page["items"])
    until("/api/v1/refusals", lambda page: len(page["items"]) >= 3)
    replay = ask("POST", "/api/v1/replays", {"filter": {"endpoint": "odd"}, "rate": "1/h"})
    ask("POST", "/api/v1/endpoints/paused/pause", {"note": "it is a test"})
    for name in ["one", "two", "three"]:
        ask("POST", "/api/v1/tokens", {"name": name, "role": "read", "expires": "90d"})
    events = [event["id"] for event in ask("GET", "/api/v1/events")["items"]]
    deliveries = [
        delivery["id"]
        for status in ["dead", "retrying", "delivered"]
        for delivery in ask("GET", f"/api/v1/deliveries?status={status}&limit=3")["items"]
    ]
    return {
        "event": [*events[:8], "evt_00000000000000000000000001"],
        "delivery": [*deliveries, "dlv_00000000000000000000000001_0"],
        "replay": [replay["id"], "rpl_00000000000000000000000001"],
        "refusal": [kept["id"] for kept in ask("GET", "/api/v1/refusals")["items"]],
        "endpoint": ["crm", "odd", "down", "paused", "no-such"],
        "key": ["call 1/é", "call-2", "none"],
        "token": ["one", "two", "three", "admin", "nobody"],
        "source": ["flyflow", "strict", "signed", "no-such"],
        "secret": ["x"],
    }


def strict(schema):
    """The schema, with fields refused that it does not speak of: a field that is said has to be described."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    has_fields, ways = "properties" in schema, schema.get("oneOf")
    schema = {name: part if name == "oneOf" and has_fields else strict(part) for name, part in schema.items()}
    if has_fields and ways:
        schema["unevaluatedProperties"] = False
    elif has_fields:
        schema.setdefault("additionalProperties", False)
    return schema


def cursor(path, known):
    """Where a list may go on."""
    if "/keys/" in path:
        return f"1.{known['event'][0]}"
    first = ask("GET", path.removesuffix("/export") + "?limit=1")
    return first["next"] or known["event"][0]


def narrowed(document, known):
    """The description, for this gateway: with ids and cursors that are there, and no fields that it does not speak of."""
    schemas = document["components"]["schemas"] = strict(document["components"]["schemas"])
    # Nothing else may be reached.
    schemas["OpenReplay"]["properties"]["to_url"]["enum"] = [ASKED["sink"], None]
    for path, item in document["paths"].items():
        item.pop("servers", None)
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"]["enum"] = known[parameter["name"]]
                elif parameter["name"] == "cursor":
                    parameter["schema"]["enum"] = [cursor(path, known)]
    # It is lines of text to who has no serializer for it.
    content = document["paths"]["/api/v1/events/import"]["post"]["requestBody"]["content"]
    content["text/plain"] = content.pop("application/x-ndjson")
    return document


def run(folder, base, *arguments):
    """Whether every answer is as described."""
    command = [
        str(pathlib.Path(sys.executable).with_name("st")),
        "--config-file", str(folder / "schemathesis.toml"),
        "run", str(folder / "openapi.json"),
        "--url", f"http://{ASKED[base]}",
        "--header", f"Authorization: Bearer {ASKED['token']}",
        "--seed", str(SEED),
        "--generation-database", "none",
        "--request-timeout", "20",
        "--continue-on-failure",
        "--no-shrink",
        *arguments,
    ]
    return subprocess.run(command, cwd=folder).returncode == 0


def main():
    known = seed()
    document = narrowed(ask("GET", "/openapi.json"), known)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "openapi.json").write_text(json.dumps(document))
        (folder / "schemathesis.toml").write_text(
            f"[checks.positive_data_acceptance]\nexpected-statuses = {json.dumps(ACCEPTED)}\n"
            f"[checks.negative_data_rejection]\nexpected-statuses = {json.dumps(REFUSED)}\n"
            + "".join(MAY_CONTRADICT.format(path, json.dumps([*ACCEPTED, "400"])) for path in CONTRADICTING)
        )
        operators = ["--exclude-path-regex", "^/in/", *[part for path in ENDLESS for part in ("--exclude-path", path)]]
        whole = ["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)]
        # Wrong tokens last: after ten of them no token is looked at for a while.
        runs = [
            run(folder, "ingest", "--include-path-regex", "^/in/", *whole, "--exclude-checks", "ignored_auth," + BY_SOURCE),
            run(folder, "admin", *operators, *whole, "--exclude-checks", "ignored_auth"),
            run(folder, "admin", *operators, "--checks", "ignored_auth", "--phases", "fuzzing", "--max-examples", "1"),
        ]
    sys.exit(0 if all(runs) else 1)


main()
