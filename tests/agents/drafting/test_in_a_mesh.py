"""A small node drafts, a bigger one checks, in a mesh of real agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agents.agent import Agent
from agents.config import make_config
from agents.hosting import make_capabilities
from agents.port import Task
from capabilities.messages import Done, Generate, Message, decode_event, encode
from mesh.core.errors import ConfigError
from tests.agents.cloud.house import House, house

SMALL, BIG = "knowledge.gpt/small", "knowledge.gpt/big"
LONG_S = 60.0


def big() -> list[dict[str, Any]]:
    return [{"path": "builtin:arithmetic", "name": [{"name": BIG}], "threads": 1, "verifies": True}]


def small(**draft: Any) -> list[dict[str, Any]]:
    return [
        {
            "path": "builtin:general",
            "name": [{"name": SMALL}],
            "threads": 1,
            "draft": {"of": "arithmetic", **draft},
        }
    ]


def run(folder: Path, body: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(LONG_S), house(folder) as made:
            await body(made)

    asyncio.run(main())


async def ask(agent: Agent, name: str, **more: Any) -> Done:
    async with asyncio.timeout(LONG_S):
        while not any(o.served.name == name and o.healthy for o in agent.port.offers()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    task = Task(trace=b"t" * 16, deadline=agent.port.now() + 30)
    request = Generate(messages=[Message("user", "What is 12 + 30?")], max_tokens=120, **more)
    offer = next(iter(agent.port.resolve(name, task)))
    async for body in agent.port.call(offer, encode(request), task):
        event = decode_event(body)
        if isinstance(event, Done):
            return event
    raise AssertionError("no end of the answer")


@pytest.mark.parametrize("ngrams", [False, True])
def test_the_small_node_answers_with_the_bigger_models_words(tmp_path: Path, ngrams: bool) -> None:
    async def body(made: House) -> None:
        checker = await made.agent("checker", model=big())
        drafter = await made.agent("drafter", checker, model=small(ngrams=ngrams))
        whole = await ask(drafter, BIG)
        done = await ask(drafter, SMALL)
        assert (done.text, done.finish) == (whole.text, whole.finish)
        assert done.halves is not None
        assert done.halves.mode == "together"
        assert set(done.halves.said_by) <= {"draft", "check"}

    run(tmp_path, body)


def test_when_nobody_checks_the_small_model_answers_alone_and_says_so(tmp_path: Path) -> None:
    async def body(made: House) -> None:
        drafter = await made.agent("drafter", model=small())
        done = await ask(drafter, SMALL)
        assert done.usage.completion_tokens > 0
        assert done.halves is not None
        assert done.halves.mode == "alone"
        assert "checks drafts" in done.halves.why
        assert set(done.halves.said_by) == {"alone"}

    run(tmp_path, body)


def test_a_model_does_not_draft_and_check_at_once(tmp_path: Path) -> None:
    raw = {"node": {"state": str(tmp_path)}, "model": [{**small()[0], "verifies": True}]}
    with pytest.raises(ConfigError, match="cannot draft or check"):
        make_capabilities(make_config(raw, base=tmp_path), "here")
