"""Long texts over HTTP: whole, point by point, and refused with the field at fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

WISH = {"instruction": "What is 12 + 30?", "length": 400}


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=90) as client:
        yield client


def events(body: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_text_is_written_by_its_outline(http: httpx.Client) -> None:
    found = http.post("/v1/write", json=WISH)
    assert found.status_code == 200
    written = found.json()
    assert written["mode"] == "outline"
    assert len(written["outline"]) >= 2
    assert written["answer"]["text"]


def test_a_stream_tells_the_points_before_the_text(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/write", json={**WISH, "stream": True}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        told = events(reply.read().decode())
    kinds = [one["type"] for one in told]
    assert kinds[-1] == "written"
    assert "plan" in kinds[:-1]
    assert kinds.count("written") == 1
    points = [one for one in told if one["type"] == "step" and one["step"]["status"] == "ok"]
    assert len(points) == len(told[-1]["written"]["outline"])


def test_a_short_text_needs_no_outline(http: httpx.Client) -> None:
    found = http.post("/v1/write", json={"instruction": "What is 12 + 30?", "length": 32}).json()
    assert (found["mode"], found["outline"]) == ("direct", [])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"instruction": ""}, "instruction"),
        ({"instruction": "Write.", "length": 10**9}, "length"),
        ({"instruction": "Write.", "length": -1, "stream": True}, "length"),
        ({"instruction": "Write.", "gossamer": {"reach": "moon"}}, "gossamer.reach"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, body: dict[str, Any], field: str) -> None:
    found = http.post("/v1/write", json=body)
    assert found.status_code == 400
    assert found.json()["error"]["param"] == field


def test_a_name_that_nobody_offers_leaves_the_fixed_outline_and_is_told(
    http: httpx.Client,
) -> None:
    found = http.post("/v1/write", json={**WISH, "strong": "knowledge.gpt/nowhere"})
    assert found.status_code == 200
    assert found.json()["fallback"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_agent_refuses_gets_a_status_of_its_own(http: httpx.Client, stream: bool) -> None:
    found = http.post("/v1/write", json={**WISH, "strong": "cloud", "stream": stream})
    assert found.status_code == 400
    assert "error" in found.json()
