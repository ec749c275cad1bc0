"""The published document is true: what it says is taken, and nothing makes the server fail."""

from __future__ import annotations

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

from agents.faces.http.openapi import document
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
OPERATIONS = [
    (path, method) for path, item in json.loads(document())["paths"].items() for method in item
]
# What takes no body cannot be sent a wrong one.
WAYS = [(*one, GenerationMode.POSITIVE) for one in OPERATIONS] + [
    (*one, GenerationMode.NEGATIVE) for one in OPERATIONS if one[1] == "post"
]


def test_the_document_is_published(served: Served) -> None:
    assert httpx.get(f"{served.url}/openapi.json").json() == json.loads(document())
    assert ("/v1/chat/completions", "post") in OPERATIONS


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
