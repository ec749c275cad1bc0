"""The library: what a program can do with a running agent, and what it costs to have it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing

import pytest

import agents
from agents import connect, connect_sync
from agents.library import (
    AnswerView,
    Delta,
    Generate,
    Generation,
    GossamerError,
    Message,
    Plan,
    Step,
)
from tests.e2e.serving import Served, serving

NAME = "knowledge.gpt/arithmetic"
QUESTION = "What is 48 * 27?"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("library")) as found:
        yield found


@pytest.mark.e2e
def test_a_question_streams_its_plan_its_steps_its_text_and_its_answer(served: Served) -> None:
    async def run() -> None:
        async with await connect(served.state) as agent:
            events = [event async for event in agent.stream(QUESTION)]
        assert isinstance(events[0], Plan)
        assert isinstance(events[-1], AnswerView)
        assert any(isinstance(event, Step) for event in events)
        seen = "".join(e.text for e in events if isinstance(e, Delta) and not e.thinking)
        assert seen.strip() == events[-1].text == "48 * 27 = 1296"

    asyncio.run(run())


@pytest.mark.e2e
def test_many_requests_share_one_agent_object(served: Served) -> None:
    async def run() -> None:
        async with await connect(served.state) as agent:
            asked = Generate(messages=[Message("user", QUESTION)], max_tokens=128)
            found = await asyncio.gather(*(agent.generate(NAME, asked) for _ in range(6)))
            assert {one.text for one in found} == {"48 * 27 = 1296"}
            assert {one.node for one in found} == {"desk"}
            # Far more than one connection of the door takes at once.
            names = await asyncio.gather(*(agent.names("knowledge.gpt/*") for _ in range(150)))
            assert all(len(one) == 2 for one in names)

    asyncio.run(run())


@pytest.mark.e2e
def test_leaving_an_iterator_early_cancels_the_work(served: Served) -> None:
    async def run() -> None:
        async with await connect(served.state) as agent:
            asked = Generate(messages=[Message("user", "hello")], max_tokens=400, temperature=2.0)
            async with aclosing(agent.generate_stream("computation.gpt/generate", asked)) as items:
                async for item in items:
                    if isinstance(item, Delta):
                        break
            for _ in range(200):
                if not (await agent.metrics())["load"]["inflight"]:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("the slot was never given back")

    asyncio.run(run())


@pytest.mark.e2e
def test_a_request_can_be_looked_at_afterwards(served: Served) -> None:
    trace = "0123456789abcdef0123456789abcdef"

    async def run() -> None:
        async with await connect(served.state) as agent:
            await agent.ask(QUESTION, trace=trace)
            found = await agent.trace(trace[:8])
            assert found["trace"] == trace
            assert found["answer"]["text"] == "48 * 27 = 1296"
            assert next(event["type"] for _, event in found["events"]) == "plan"
            assert {span["kind"] for span in found["spans"]} == {"internal", "client", "server"}
            by_kind = {span["kind"]: span for span in found["spans"]}
            assert by_kind["server"]["parent"] == by_kind["client"]["span"]
            assert by_kind["client"]["parent"] == by_kind["internal"]["span"]
            assert (await agent.traces(1))[0]["trace"] == trace
            with pytest.raises(GossamerError, match="remembers no request"):
                await agent.trace("ffffffff")

    asyncio.run(run())


@pytest.mark.e2e
def test_the_feed_shows_the_mesh_first_and_then_each_request(served: Served) -> None:
    async def run() -> None:
        async with await connect(served.state) as agent:
            feed = agent.watch(0.2)
            async with aclosing(feed):
                first = await anext(feed)
                assert first["type"] == "mesh"
                assert [peer["name"] for peer in first["peers"]] == ["desk"]
                asking = asyncio.create_task(agent.ask(QUESTION))
                phases: list[str] = []
                kinds: set[str] = set()
                async for event in feed:
                    kinds.add(event["type"])
                    if event["type"] == "request":
                        phases.append(event["phase"])
                        if event["phase"] == "end":
                            break
                assert (await asking).text == "48 * 27 = 1296"
            assert phases[0] == "begin"
            assert phases[-1] == "end"
            assert "event" in phases
            assert {"self", "span"} <= kinds

    asyncio.run(run())


@pytest.mark.e2e
def test_data_is_subscribed_to_and_calls_are_not(served: Served) -> None:
    async def run() -> None:
        async with await connect(served.state) as agent:
            samples = agent.subscribe("data.gpt/machine/raw")
            async with aclosing(samples):
                sample = await anext(samples)
            assert sample.source == "desk"
            assert sample.values
            with pytest.raises(GossamerError, match="not subscribed to"):
                await anext(agent.subscribe(NAME))

    asyncio.run(run())


@pytest.mark.e2e
def test_the_verbs_that_look_on_return_types(served: Served) -> None:
    async def run() -> None:
        async with await connect(served.state) as agent:
            assert (await agent.resolve(NAME)).endpoints[0].name == "desk"
            kinds = {m.model: m.kind for m in await agent.models()}
            assert kinds["arithmetic"] == "generate"
            assert kinds["gossamer-static"] == "embed"
            assert [peer.name for peer in await agent.peers()] == ["desk"]
            assert (await agent.status())["http"] == served.url
            assert len((await agent.embed(["a", "b"], model="general")).vectors) == 2
            found = await agent.embed(["a warm day"] * 100)
            assert (found.model, found.node, len(found.vectors)) == ("gossamer-static", "desk", 100)
            assert await agent.call(NAME, QUESTION) == "48 * 27 = 1296"
            with pytest.raises(GossamerError) as caught:
                await agent.generate("no-such-model", "hello")
            assert caught.value.code == "no_such_name"

    asyncio.run(run())


@pytest.mark.e2e
def test_a_program_without_an_event_loop_has_the_same_verbs(served: Served) -> None:
    with connect_sync(served.state) as agent:
        assert agent.ask(QUESTION).text == "48 * 27 = 1296"
        *_, last = agent.generate_stream(NAME, QUESTION)
        assert isinstance(last, Generation)
        first = next(iter(agent.stream(QUESTION)))  # the rest is cancelled
        assert isinstance(first, Plan)
        with pytest.raises(GossamerError):
            agent.resolve("knowledge.gpt/no_such_thing")
    agent.close()


def test_where_no_agent_runs_the_error_says_how_to_start_one(tmp_path: object) -> None:
    with pytest.raises(GossamerError) as caught:
        connect_sync(str(tmp_path))
    assert caught.value.code == "no_agent"
    assert "gossamer" in caught.value.hint


def test_importing_the_package_alone_loads_nothing_of_the_library() -> None:
    code = "import agents, sys; assert 'agents.library' not in sys.modules; agents.connect"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        _ = agents.no_such_thing


def test_the_library_needs_neither_numpy_nor_a_web_server_nor_a_model() -> None:
    heavy = "{'numpy', 'starlette', 'uvicorn', 'llama_cpp', 'pydantic', 'zmq', 'openai'}"
    code = f"import sys; from agents import connect; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""
