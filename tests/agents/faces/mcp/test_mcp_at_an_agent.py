"""A real agent through the SDK's real client, over standard input and output and over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

mcp = pytest.importorskip("mcp", reason="pip install 'gossamer-mesh[mcp]'")

from tests.e2e.serving import KEY, Served, serving  # noqa: E402

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

COMMAND = [sys.executable, "-c", "from agents.faces.cli import main; main()", "mcp"]
FEED = "gossamer://data/machine/raw"
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("mcp")) as found:
        yield found


@contextmanager
def over_http(served: Served, key: str = "") -> Iterator[str]:
    """The URL of a server over HTTP."""
    process = subprocess.Popen(
        [*COMMAND, "--http", "--port", "0", "--state", str(served.state)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GOSSAMER_MCP_KEY": key},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield found.group()
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


@asynccontextmanager
async def with_a_key(url: str, mode: Any = "auto") -> AsyncIterator[Any]:
    """The SDK's client with a bearer token."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    inner = httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=30)
    transport = streamable_http_client(url, http_client=inner)
    async with inner, mcp.Client(transport, mode=mode) as client:
        yield client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_every_tool_and_resource_over_standard_input(served: Served, mode: Any) -> None:
    told: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async def run() -> None:
        server = mcp.StdioServerParameters(
            command=COMMAND[0], args=[*COMMAND[1:], "--state", str(served.state)]
        )
        async with mcp.Client(server, mode=mode) as client:
            asked = {"question": "What is 48 * 27?"}
            answer = await client.call_tool("ask", asked, progress_callback=hear)
            assert "1296" in answer.content[0].text
            assert answer.structured_content["nodes"] == ["desk"]
            called = await client.call_tool(
                "call", {"name": "knowledge.gpt/arithmetic", "text": "What is 48 * 27?"}
            )
            assert "1296" in called.structured_content["text"]
            assert called.structured_content["node"] == "desk"
            found = await client.call_tool("resolve", {"name": "knowledge.gpt/arithmetic"})
            assert found.structured_content["endpoints"][0]["name"] == "desk"
            status = await client.call_tool("status", {})
            assert status.structured_content["ready"]
            for wait in ("latest", "next"):
                feed = {"name": "data.gpt/machine/raw", "wait": wait}
                heard = await client.call_tool("subscribe", feed)
                assert heard.structured_content["complete"]
                (update,) = heard.structured_content["updates"]
                assert update["value"]["values"]["memory_total_mb"] > 0
            listed = {one.uri for one in (await client.list_resources()).resources}
            assert {FEED, "gossamer://status", "gossamer://nodes/desk"} <= listed
            for uri in sorted(listed):
                (content,) = (await client.read_resource(uri)).contents
                assert content.mime_type == "application/json"
            begun = {"name": "path", "value": "mach"}
            template = mcp.types.ResourceTemplateReference(uri="gossamer://data/{+path}")
            done = await client.complete(template, begun)
            assert done.completion.values == ["machine/raw"]

    asyncio.run(run())
    assert told[0] == "1 step planned"
    assert any("on desk" in text for text in told)


def test_a_watched_resource_is_told_of_over_http(served: Served) -> None:
    async def run(url: str) -> None:
        async with (
            mcp.Client(url) as client,
            client.listen(resource_subscriptions=[FEED]) as events,
        ):
            assert (await asyncio.wait_for(anext(aiter(events)), PATIENCE_S)).uri == FEED
        told = asyncio.Event()

        async def hear(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/resources/updated":
                assert message.params.uri == FEED
                told.set()

        async with mcp.Client(url, mode="legacy", message_handler=hear) as client:
            await client.subscribe_resource(FEED)
            await asyncio.wait_for(told.wait(), PATIENCE_S)
            await client.unsubscribe_resource(FEED)

    with over_http(served) as url:
        asyncio.run(run(url))


def test_over_http_a_key_a_host_and_an_origin_are_asked_for(served: Served) -> None:
    with over_http(served, KEY) as url:
        hello = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"accept": "application/json, text/event-stream"}
        with_key = {**headers, "authorization": f"Bearer {KEY}"}
        assert httpx.post(url, json=hello, headers=headers).status_code == 401
        strange = {**with_key, "host": "elsewhere.example"}
        assert httpx.post(url, json=hello, headers=strange).status_code == 403
        page = {**with_key, "origin": "https://elsewhere.example"}
        assert httpx.post(url, json=hello, headers=page).status_code == 403

        async def run() -> None:
            async with with_a_key(url) as client:
                status = await client.call_tool("status", {})
                assert status.structured_content["node"] == "desk"

        asyncio.run(run())


def test_at_an_agents_own_http_it_is_served_behind_the_same_key_and_names(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        for mode in ("auto", "legacy"):
            async with with_a_key(url, mode) as client:
                answer = await client.call_tool("ask", {"question": "What is 48 * 27?"})
                assert "1296" in answer.content[0].text
                assert {one.name for one in (await client.list_tools()).tools} >= {"call", "names"}
        async with with_a_key(url) as client:
            await asyncio.wait_for(watched(client), PATIENCE_S)

    async def watched(client: Any) -> None:
        async with client.listen(resource_subscriptions=[FEED]) as events:
            assert (await anext(aiter(events))).uri == FEED

    with serving(tmp_path, http={"mcp": True, "key": KEY}) as found:
        url = f"{found.url}/mcp"
        hello = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"accept": "application/json, text/event-stream"}
        with_key = {**headers, "authorization": f"Bearer {KEY}"}
        assert httpx.post(url, json=hello, headers=headers).status_code == 401
        strange = {**with_key, "host": "elsewhere.example"}
        assert httpx.post(url, json=hello, headers=strange).status_code == 403
        page = {**with_key, "origin": "https://elsewhere.example"}
        assert httpx.post(url, json=hello, headers=page).status_code == 403
        large = {**hello, "method": "x" * 300_000}
        # The first request that passes waits for the SDK to be loaded.
        refused = httpx.post(url, json=large, headers=with_key, timeout=PATIENCE_S)
        assert refused.status_code == 413
        asyncio.run(run(url))
        assert not found.busy()


def test_an_agent_that_was_not_told_to_serves_none_at_its_http(served: Served) -> None:
    answer = httpx.post(f"{served.url}/mcp", json={})
    assert answer.status_code == 404
    assert "mcp = true" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("key", "said"), [("", "GOSSAMER_MCP_KEY"), (KEY, "--certificate"), ("short", "at least 16")]
)
def test_another_address_needs_a_key_and_tls(tmp_path: Path, key: str, said: str) -> None:
    plain = ["--plain"] if key == "short" else []
    done = subprocess.run(
        [*COMMAND, "--http", "--host", "0.0.0.0", *plain, "--state", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "GOSSAMER_MCP_KEY": key},
    )
    assert done.returncode == 1
    assert said in done.stderr


def test_a_client_that_closes_its_pipe_ends_the_server(served: Served) -> None:
    done = subprocess.run(
        [*COMMAND, "--state", str(served.state)],
        input="this is no JSON\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
