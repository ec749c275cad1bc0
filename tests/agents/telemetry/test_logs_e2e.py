"""What an agent writes into its log of a question: its trace, and none of its words."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.e2e.serving import serving

pytestmark = pytest.mark.e2e

SETTINGS = 'log_level = "INFO"\nlog_format = "json"'


def test_a_question_is_one_line_with_its_trace_and_without_its_words(tmp_path: Path) -> None:
    with serving(tmp_path, more=SETTINGS) as served:
        answer = httpx.post(
            f"{served.url}/v1/chat/completions",
            json={
                "model": "knowledge.gpt/arithmetic",
                "messages": [{"role": "user", "content": "What is 48 * 27?"}],
            },
            timeout=60,
        )
        trace = answer.headers["x-gossamer-trace"]
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (request,) = (line for line in lines if line["logger"] == "gossamer.request")
    assert request["trace"] == trace
    assert request["outcome"] == "ok"
    assert request["nodes"] == ["desk"]
    assert "48 * 27" not in text
