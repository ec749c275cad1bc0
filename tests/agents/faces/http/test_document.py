"""The published document is true: what it says is taken, and nothing makes the server fail."""

from __future__ import annotations

import itertools
import json
import os

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agents.faces.http import a2a, mcp
from agents.faces.http.app import ROUTES
from agents.faces.http.openapi import document
from agents.faces.http.page import FILES
from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

EXAMPLES = 15  # per operation; SCHEMATHESIS_EXAMPLES in the environment asks for more
MODEL = "knowledge.gpt/arithmetic"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
FEED = "/web/api/watch"  # it ends with its client only: nothing to wait for
OPERATIONS = [
    (path, method)
    for path, item in json.loads(document())["paths"].items()
    for method in item
    if path != FEED
]
# What takes no body cannot be sent a wrong one.
WAYS = [(*one, GenerationMode.POSITIVE) for one in OPERATIONS] + [
    (*one, GenerationMode.NEGATIVE) for one in OPERATIONS if one[1] == "post"
]


def test_the_document_is_published(served: Served) -> None:
    assert httpx.get(f"{served.url}/openapi.json").json() == json.loads(document())
    assert ("/v1/chat/completions", "post") in OPERATIONS


def test_every_route_is_in_the_document_but_the_pages_files_and_other_protocols() -> None:
    others = {"/openapi.json", a2a.CARD_PATH, a2a.KEYS_PATH, a2a.RPC_PATH, mcp.PATH, *FILES}
    served = {route.path.replace(":path", "") for route in ROUTES}
    assert served - others == set(json.loads(document())["paths"])


def test_the_feed_is_what_the_document_says(served: Served) -> None:
    said = json.loads(document())
    (kind,) = said["paths"][FEED]["get"]["responses"]["200"]["content"]
    fields = said["components"]["schemas"]["Seen"]
    with httpx.stream("GET", f"{served.url}{FEED}", timeout=30) as answer:
        assert answer.headers["content-type"].startswith(kind)
        lines = (line for line in answer.iter_lines() if line)
        for line in itertools.islice(lines, 3):
            event = json.loads(line.removeprefix("data: "))
            assert set(fields["required"]) <= set(event)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("path", "method", "mode"), WAYS)
def test_nothing_that_the_document_allows_or_forbids_makes_it_fail(
    served: Served, path: str, method: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_url(f"{served.url}/openapi.json")[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=int(os.environ.get("SCHEMATHESIS_EXAMPLES", EXAMPLES)),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL  # else every request would end at "no such model"
            if "embeddings" not in path:
                field = "max_output_tokens" if "responses" in path else "max_tokens"
                case.body.setdefault(field, 8)  # enough to reach the model
        case.call_and_validate(checks=CHECKS, timeout=100)

    one()
