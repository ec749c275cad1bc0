"""The tools and resources as a client sees them, in front of a scripted agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp", reason="pip install 'gossamer-mesh[mcp]'")

from agents.faces.mcp.feeds import Heard  # noqa: E402
from agents.faces.mcp.messages import Subscribe  # noqa: E402
from agents.faces.mcp.server import MeshServer  # noqa: E402
from agents.library import Agent, Broken, Current, Missed, Published, Sample  # noqa: E402
from tests.agents.faces import fake_agent  # noqa: E402

Body = Callable[[Any], Awaitable[None]]
FEED = "data.gpt/air/raw"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[fake_agent.FakeAgent]:
    with fake_agent.running(tmp_path) as found:
        yield found


def with_client(state: Path, body: Body) -> None:
    """Run ``body`` with the SDK's client connected to our server."""

    async def run() -> None:
        async with Agent(state) as agent:
            mesh = MeshServer(agent)
            async with mcp.Client(mesh.server) as client:
                await body(client)
            await mesh.watching.close()

    asyncio.run(run())


def test_a_question_is_answered_and_its_progress_told(
    fake: fake_agent.FakeAgent, tmp_path: Path
) -> None:
    told: list[tuple[float, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message or ""))

    async def body(client: Any) -> None:
        asked = {"question": "What is 48 * 27?", "reach": "node", "max_tokens": 7}
        result = await client.call_tool("ask", asked, progress_callback=hear)
        assert not result.is_error
        assert result.content[0].text == "1296"
        assert result.structured_content["nodes"] == ["abacus"]
        assert result.structured_content["steps"][0]["name"] == fake_agent.NAME

    with_client(tmp_path, body)
    (_, args), *_ = fake.asked
    assert args["reach"] == "node"
    assert args["max_tokens"] == 7
    counts = [count for count, _ in told]
    assert counts == sorted(set(counts))
    assert told[0][1] == "1 step planned"
    assert any("abacus" in text for _, text in told)


def test_a_client_that_gives_up_cancels_the_question(
    fake: fake_agent.FakeAgent, tmp_path: Path
) -> None:
    async def body(client: Any) -> None:
        asking = asyncio.create_task(client.call_tool("ask", {"question": "wait"}))
        assert await asyncio.to_thread(fake.waiting.wait, 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await asyncio.to_thread(fake.cancelled.wait, 10)

    with_client(tmp_path, body)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("ask", {}, "question"),
        ("ask", {"question": ""}, "$.question"),
        ("ask", {"question": "x", "reach": "moon"}, "$.reach"),
        ("ask", {"question": "x", "timeout_s": 0}, "$.timeout_s"),
        ("ask", {"question": "x", "colour": "red"}, "colour"),
        ("call", {"name": fake_agent.NAME}, "text"),
        ("subscribe", {"name": FEED, "count": 101}, "$.count"),
        ("status", {"name": "x"}, "name"),
    ],
)
def test_wrong_arguments_are_told_to_the_model(
    fake: fake_agent.FakeAgent, tmp_path: Path, tool: str, arguments: dict[str, Any], said: str
) -> None:
    async def body(client: Any) -> None:
        result = await client.call_tool(tool, arguments)
        assert result.is_error
        assert said in result.content[0].text

    with_client(tmp_path, body)
    assert fake.asked == []


def test_a_refusal_of_the_mesh_has_its_code_and_its_hint(
    fake: fake_agent.FakeAgent, tmp_path: Path
) -> None:
    async def body(client: Any) -> None:
        result = await client.call_tool("ask", {"question": "nobody"})
        assert result.is_error
        assert result.content[0].text.startswith("nobody_healthy: ")
        assert "try again later" in result.content[0].text
        result = await client.call_tool("resolve", {"name": "knowledge.gpt/astrology"})
        assert result.content[0].text.startswith("no_such_name: ")

    with_client(tmp_path, body)


def test_an_answer_without_a_good_step_is_an_error(
    fake: fake_agent.FakeAgent, tmp_path: Path
) -> None:
    import msgspec

    failed = msgspec.structs.replace(fake_agent.STEP, status="failed")
    fake.answer = msgspec.structs.replace(
        fake_agent.ANSWER, text="Nobody could.", steps=[failed], missing=["48 * 27"]
    )

    async def body(client: Any) -> None:
        result = await client.call_tool("ask", {"question": "What is 48 * 27?"})
        assert result.is_error
        assert result.content[0].text == "Nobody could.\n\nMissing: 48 * 27"

    with_client(tmp_path, body)


def test_without_an_agent_each_tool_says_how_to_start_one(tmp_path: Path) -> None:
    async def body(client: Any) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"ask", "status"}
        result = await client.call_tool("status", {})
        assert result.is_error
        assert result.content[0].text.startswith("no_agent: ")
        assert "gossamer up" in result.content[0].text
        with pytest.raises(mcp.MCPError, match="gossamer up"):
            await client.list_resources()

    with_client(tmp_path, body)


def test_what_does_not_exist_is_an_error_of_the_protocol(
    fake: fake_agent.FakeAgent, tmp_path: Path
) -> None:
    async def body(client: Any) -> None:
        with pytest.raises(mcp.MCPError, match="there are ask, call"):
            await client.call_tool("shell", {"command": "id"})
        with pytest.raises(mcp.MCPError, match="no node is called 'nobody'") as caught:
            await client.read_resource("gossamer://nodes/nobody")
        assert caught.value.data["code"] == "no_such_resource"
        for uri in ("gossamer://", "gossamer://data/", "file:///etc/passwd"):
            with pytest.raises(mcp.MCPError, match="there is no resource"):
                await client.read_resource(uri)
        for cursor in ("-1", "x", "9" * 10):
            with pytest.raises(mcp.MCPError, match="cursor"):
                await client.list_resources(cursor=cursor)

    with_client(tmp_path, body)


def test_words_of_peers_are_in_results_and_never_in_what_tools_are_described_by(
    fake: fake_agent.FakeAgent, tmp_path: Path
) -> None:
    theirs = fake_agent.NAMES[0].description

    async def body(client: Any) -> None:
        tools = (await client.list_tools()).model_dump_json()
        listed = (await client.list_resources()).model_dump_json()
        assert theirs not in tools + listed
        names = await client.call_tool("names", {})
        assert names.structured_content["names"][0]["description"] == theirs

    with_client(tmp_path, body)


def published(key: str, version: int, *, epoch: int = 1, gone: bool = False) -> Published:
    sample = Sample(domain="air", type="raw", source="s", at=1.0, values={"pm25": float(version)})
    return Published(
        name=FEED,
        node="oak",
        key=key,
        version=version,
        epoch=epoch,
        sequence=version,
        at=float(version),
        value=None if gone else sample,
    )


def heard(wait: str, count: int = 1) -> Heard:
    asked = Subscribe(name=FEED, wait=wait, count=count)  # type: ignore[arg-type]
    return Heard(asked, {(FEED, "oak")})


CURRENT = Current(name=FEED, node="oak", keys=2, sequence=2)


def test_the_latest_is_the_latest_of_each_key_of_every_publisher() -> None:
    found = heard("latest")
    assert not found.event(published("north", 1))
    assert not found.event(published("south", 2))
    assert not found.event(published("north", 3))
    assert not found.event(published("south", 4, gone=True))
    assert found.event(CURRENT)
    updates = found.updates()
    assert [(update.key, update.version) for update in updates.updates] == [("north", 3)]
    assert updates.complete


def test_the_next_is_what_comes_after_the_picture_is_whole() -> None:
    found = heard("next", count=2)
    assert not found.event(published("north", 1))
    assert not found.event(CURRENT)
    assert not found.event(published("north", 2))
    assert found.event(published("south", 3, gone=True))
    assert [(u.version, u.value is None) for u in found.updates().updates] == [
        (2, False),
        (3, True),
    ]


def test_a_stream_that_keeps_nothing_is_heard_from_its_first_sample() -> None:
    assert heard("latest").event(published("", 1, epoch=0))
    assert heard("next").event(published("", 1, epoch=0))


def test_what_was_missed_and_who_was_lost_is_noted() -> None:
    found = heard("latest")
    found.event(Missed(name=FEED, node="oak", missed=-1, why="gap"))
    assert found.event(Broken(name=FEED, node="oak", why="it went away", retry_s=1.0))
    notes = found.updates().notes
    assert "an unknown number of updates were missed" in notes[0]
    assert "it went away" in notes[1]
