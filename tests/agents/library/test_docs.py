"""What docs/library.md, docs/http.md and docs/metrics.md show is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.serving import Served, serving

pytestmark = pytest.mark.e2e

DOCS = Path(__file__).resolve().parents[3] / "docs"
# Metrics with labels have no sample before the first event; these need one that no test makes.
RARE = {
    "gossamer_answers_degraded_total",
    "gossamer_cost_total",
    "gossamer_http_refusals_total",
    "gossamer_peer_changes_total",
    "gossamer_refusals_total",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("docs")) as found:
        yield found


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def run(code: str, served: Served) -> str:
    environment = {**os.environ, "GOSSAMER_STATE": str(served.state)}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://127.0.0.1:8080", served.url)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_library_run(served: Served) -> None:
    first, second, third = (run(code, served) for code in blocks("library.md"))
    assert first == "48 * 27 = 1296 from desk\n"
    assert "knowledge.gpt/arithmetic ['desk']" in second
    assert "48 * 27 = 1296" in third
    assert "tokens on desk" in third
    assert "no_such_name - " in third


def test_the_example_of_http_runs(served: Served) -> None:
    (code,) = blocks("http.md")
    assert run(code, served) == "48 * 27 = 1296 ['desk']\n"


def test_every_metric_of_the_dashboard_and_of_the_table_is_published(served: Served) -> None:
    served.fetch("ask", question="What is 48 * 27?")
    httpx.get(f"{served.url}/v1/models")
    page = httpx.get(f"{served.url}/metrics").text
    published = set(re.findall(r"^(\w+)[ {]", page, re.MULTILINE)) | RARE
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    named = set(re.findall(r"\b(?:gossamer|gen_ai_client|gen_ai_server)_\w+", asked))
    assert named - published == set()
    rows = re.findall(r"^\| (`.*?`) \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    for row in rows:
        full = [name for name in re.findall(r"`(\w+)`", row) if not name.startswith("_")]
        for name in full:
            assert name in published or f"{name}_bucket" in published, name
