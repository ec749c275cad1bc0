"""Prometheus reads what an agent counts, under OpenTelemetry's names."""

from __future__ import annotations

import httpx
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from agents.faces.http.metrics import HttpMetrics, render
from tests.e2e.serving import Served

NAME = "knowledge.gpt/arithmetic"


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels; raises when Prometheus could not read the page."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def total(
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str
) -> float:
    wanted = set(labels.items())
    return sum(value for (n, have), value in found.items() if n == name and wanted <= set(have))


@pytest.mark.e2e
def test_a_request_shows_in_every_figure_it_belongs_to(served: Served, client: OpenAI) -> None:
    before = samples(httpx.get(f"{served.url}/metrics").text)
    client.chat.completions.create(
        model="mesh", messages=[{"role": "user", "content": "What is 48 * 27?"}]
    )
    after = samples(httpx.get(f"{served.url}/metrics").text)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    model = {"gen_ai_request_model": NAME, "gen_ai_response_model": "gossamer-arithmetic"}
    assert grown("gen_ai_server_request_duration_seconds_count", **model) == 1
    assert grown("gen_ai_server_time_to_first_token_seconds_count", **model) == 1
    tokens = "gen_ai_client_token_usage_tokens_sum"
    assert grown(tokens, gen_ai_token_type="output") > 50
    assert grown(tokens, gen_ai_token_type="input") > 5
    assert grown("gossamer_requests_total", verb="ask", outcome="ok") == 1
    assert grown("gossamer_escalations_total", rung="own_model") == 1
    assert grown("gossamer_http_requests_total", route="/v1/chat/completions", status="200") == 1
    assert total(after, "gossamer_slots") == 8
    assert total(after, "gossamer_peers", state="alive") == 1
    assert total(after, "gossamer_up") == 1
    assert grown("gossamer_network_bytes_total") >= 0


def test_a_page_without_an_agent_still_says_so() -> None:
    found = samples(render(HttpMetrics(), None).decode())
    assert found["gossamer_up", ()] == 0


def test_every_refusal_has_a_reason() -> None:
    metrics = HttpMetrics()
    metrics.refused("invalid_api_key")
    metrics.over("/v1/models", "BREW", 418, 0.1)
    found = samples(render(metrics, None).decode())
    assert total(found, "gossamer_http_refusals_total", reason="invalid_api_key") == 1
    assert total(found, "gossamer_http_requests_total", method="other") == 1
