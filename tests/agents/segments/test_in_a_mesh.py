"""A model on two machines, in a mesh of real agents: over CURVE, by name, by access rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agents.agent import Agent
from agents.faces.verbs_generate import GenerateVerbs
from agents.port import Task
from capabilities.messages import Done, Generate, Message, decode_event, encode
from capabilities.segments.files import Range, Segment, layers_of, split
from capabilities.slm.host import ModelHost
from mesh.core.errors import ConfigError, GossamerError
from tests.agents.cloud.house import House, house
from tests.capabilities.segments.halves import WHOLE, write_exits

NAME = "knowledge.gpt/sums"
QUESTION = "What is 12 + 30?"
LONG_S = 60.0
STATES = [{"allow": True, "names": "computation.gpt/segment/**", "ops": ["states", "query"]}]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Segment]:
    folder = tmp_path_factory.mktemp("files")
    exits = write_exits(folder / "arithmetic.exits.gguf", 2, 3)
    ranges = [Range(1, 2), Range(3, 3), Range(3, layers_of(WHOLE))]
    made = split(WHOLE, ranges, folder, exits=exits)
    return dict(zip(("first", "second", "far"), made, strict=True))


def edge_model(files: dict[str, Segment], **options: Any) -> list[dict[str, Any]]:
    return [
        {
            "path": str(files["first"].path),
            "name": [{"name": NAME}],
            "threads": 1,
            "split": {"second": str(files["second"].path), **options},
        }
    ]


def far_model(files: dict[str, Segment]) -> list[dict[str, Any]]:
    return [{"path": str(files["far"].path), "threads": 1}]


def run(folder: Path, body: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(LONG_S), house(folder) as made:
            await body(made)

    asyncio.run(main())


async def knows(agent: Agent, name: str, *, healthy: bool = True) -> None:
    async with asyncio.timeout(LONG_S):
        while not any(  # noqa: ASYNC110 - the store tells nobody in a test
            o.served.name == name and o.healthy == healthy for o in agent.port.offers()
        ):
            await asyncio.sleep(0.02)


async def ask(agent: Agent, tokens: int = 64) -> Done:
    task = Task(trace=b"t" * 16, deadline=agent.port.now() + 30)
    request = Generate(messages=[Message("user", QUESTION)], max_tokens=tokens)
    offer = next(one for one in agent.port.resolve(NAME, task))
    async for body in agent.port.call(offer, encode(request), task):
        event = decode_event(body)
        if isinstance(event, Done):
            return event
    raise AssertionError("no end of the answer")


async def whole_says(tokens: int = 160) -> Done:
    host = ModelHost(WHOLE)
    await host.start()
    try:
        request = Generate(messages=[Message("user", QUESTION)], max_tokens=tokens)
        async for event in host.generate(request, timeout_s=20):
            if isinstance(event, Done):
                return event
    finally:
        await host.stop()
    raise AssertionError("no end of the answer")


def test_an_edge_answers_with_the_far_half_what_the_whole_model_answers(
    tmp_path: Path, files: dict[str, Segment]
) -> None:
    async def body(made: House) -> None:
        far = await made.agent("far", model=far_model(files))
        edge = await made.agent(
            "edge",
            far,
            model=edge_model(files, theta=1.1, infer_s=10.0, budget_s=30.0),
            access=STATES,
        )
        await knows(edge, files["far"].name)
        done, whole = await ask(edge, 160), await whole_says()
        assert (done.text, done.finish) == (whole.text, "stop")
        assert done.halves is not None
        assert set(done.halves.said_by) == {"far"}
        assert done.halves.mode == "together"
        assert done.halves.degraded == 0

    run(tmp_path, body)


def test_rows_stay_here_without_a_rule_that_lets_states_out(
    tmp_path: Path, files: dict[str, Segment]
) -> None:
    async def body(made: House) -> None:
        far = await made.agent("far", model=far_model(files))
        edge = await made.agent("edge", far, model=edge_model(files, theta=1.1))
        await knows(edge, files["far"].name)
        done = await ask(edge)
        assert done.halves is not None
        assert "far" not in done.halves.said_by
        assert "states" in done.halves.why
        capability = next(c for c in far.ready_capabilities if hasattr(c, "streams"))
        assert len(capability.streams) == 0

    run(tmp_path, body)


def test_the_answer_goes_on_when_the_far_node_dies_and_says_so(
    tmp_path: Path, files: dict[str, Segment]
) -> None:
    async def body(made: House) -> None:
        far = await made.agent("far", model=far_model(files))
        edge = await made.agent(
            "edge",
            far,
            model=edge_model(files, theta=1.1, infer_s=10.0, budget_s=30.0),
            access=STATES,
        )
        await knows(edge, files["far"].name)
        together = await ask(edge)
        assert together.halves is not None
        assert together.halves.mode == "together"
        await made.stop(far)
        alone = await ask(edge)
        assert alone.usage.completion_tokens == 64
        assert alone.halves is not None
        assert alone.halves.mode == "alone"
        assert 1 <= alone.halves.alone_from <= 64
        assert alone.halves.said_by.get("far", 0) == 0

    run(tmp_path, body)


def test_what_two_machines_cannot_do_is_refused_with_the_reason(
    tmp_path: Path, files: dict[str, Segment]
) -> None:
    async def body(made: House) -> None:
        edge = await made.agent("edge", model=edge_model(files))
        verbs = GenerateVerbs(edge)
        request = {
            "messages": [{"role": "user", "content": QUESTION}],
            "json_schema": '{"type": "object"}',
        }
        handler = verbs.handlers()["generate"]

        async def everything() -> list[Any]:
            found = handler({"target": NAME, "request": request})
            return [item async for item in found]  # type: ignore[union-attr]

        with pytest.raises(GossamerError, match="does not serve a JSON schema"):
            await everything()

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"path": "first"}, "no name to answer under"),
        ({"path": "far", "name": [{"name": NAME}]}, "does not begin at the first layer"),
        ({"path": "first", "name": [{"name": NAME}], "split": {"second": "far"}}, "is no segment"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(
    files: dict[str, Segment], model: dict[str, Any], words: str, tmp_path: Path
) -> None:
    from agents.config import make_config
    from agents.hosting import make_capabilities

    made = dict(model)
    made["path"] = str(files[model["path"]].path)
    if "split" in made:
        made["split"] = {"second": str(WHOLE)}
    raw = {"node": {"state": str(tmp_path)}, "model": [made]}
    with pytest.raises(ConfigError, match=words):
        make_capabilities(make_config(raw, base=tmp_path), "here")
