"""Long answers over real agents: the embedded model writes, a fake strong node outlines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from agents.agent import Agent
from agents.cooperation import skeletons_protocol as protocol
from agents.faces.cli.app import app
from agents.faces.cli.writing import write_and_show
from agents.faces.client import ControlClient
from agents.faces.prompt import interact
from agents.library import WrittenAnswer, connect
from agents.library.events import Plan, Step
from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.messages import Delta, Done, Generate, decode, encode
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.records import ModelInfo, ServedName
from tests.agents.cloud.house import House, house

GENERAL = "computation.gpt/generate"
LONG_S = 60.0
INSTRUCTION = "Write a letter that explains why an appointment is put off."
SECRET = "Anna Petersen is treated for migraine in Bergen; her number is 4532 8812 0034."
OUTLINE = msgspec.json.encode(
    {
        "points": [
            {"title": title, "sketch": f"one sentence on {title.lower()}"}
            for title in ("A greeting", "The reason", "Another day")
        ]
    }
).decode()


class FakeStrong(Capability):
    """A fake of a node with a big model: a scripted outline, and a note of all that it was sent."""

    def __init__(self, outline: str = OUTLINE) -> None:
        self.seen: list[bytes] = []
        self._outline = outline

    @property
    def names(self) -> Sequence[ServedName]:
        return [ServedName(GENERAL, model="strong")]

    @property
    def models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(name="strong", parameters=70_000_000_000, context=8192, file="strong")]

    def admit(self, request: Request) -> Admission:
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        self.seen.append(request.body)
        asked = decode(request.body, Generate)
        text = self._outline if asked.json_schema else f"{asked.messages[-1].content[-40:]} Yes."
        yield encode(Delta(text=text))
        yield encode(Done(text=text, finish="stop", model="strong"))

    def occupancy(self) -> Occupancy:
        return Occupancy(slots=4, inflight=0)


def in_a_house(folder: Path, body: Callable[[House], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(LONG_S), house(folder) as made:
            return await body(made)

    return asyncio.run(main())


async def two(made: House, strong: Capability) -> tuple[Agent, Agent]:
    """A desk with the embedded general model, and a board with a strong one."""
    board = await made.agent("board")
    await board.add(strong)
    desk = await made.agent(
        "desk", board, model=[{"path": "builtin:general", "context": 1024, "slots": 1}]
    )
    async with asyncio.timeout(LONG_S):
        while not any(  # noqa: ASYNC110 - the store tells nobody in a test
            o.node_name == "board" and o.model and o.model.parameters for o in desk.port.offers()
        ):
            await asyncio.sleep(0.02)
    return desk, board


def test_the_strong_node_outlines_and_this_nodes_model_writes_what_is_private(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strong = FakeStrong()

    async def body(made: House) -> tuple[list[Any], int]:
        await two(made, strong)
        async with await connect(tmp_path / "desk") as agent:
            stream = agent.write_stream(INSTRUCTION, private=SECRET, length=200)
            events = [event async for event in stream]
        async with await ControlClient.connect(tmp_path / "desk") as client:
            args = {"instruction": INSTRUCTION, "private": SECRET, "timeout_s": 60, "length": 200}
            return events, await write_and_show(client, args, as_json=False)

    events, code = in_a_house(tmp_path, body)
    assert isinstance(events[0], Plan)
    assert [step.question for step in events[0].steps] == ["A greeting", "The reason"]
    end = events[-1]
    assert isinstance(end, WrittenAnswer)
    assert (end.mode, end.outline_by, end.answer.nodes) == ("private", "board", ["desk"])
    assert all(isinstance(event, Step) for event in events[1:-1])
    # The embedded model was never taught to write letters: of a point it may know nothing to say.
    told = [(step.status, step.error) for step in end.answer.steps]
    assert set(told) <= {("ok", ""), ("failed", "the node wrote nothing")}
    assert ("ok", "") in told
    # What left, byte for byte: two outlines were asked for, and nothing of the private context.
    assert len(strong.seen) == 2
    left = [message.content for raw in strong.seen for message in decode(raw, Generate).messages]
    assert protocol.leaks(SECRET, left, ["Anna", "Petersen", "migraine", "Bergen"]) == []
    assert not any(word in raw for raw in strong.seen for word in (b"Petersen", b"4532", b"igrain"))
    out, aside = capsys.readouterr()
    assert code == int("missing: " in aside)
    assert out.strip()
    assert "by board, which saw the instruction alone; written by desk" in aside


def test_the_embedded_model_alone_falls_back_to_the_fixed_outline_or_gives_a_valid_one(
    tmp_path: Path,
) -> None:
    async def body(made: House) -> WrittenAnswer:
        await made.agent("desk", model=[{"path": "builtin:general", "context": 1024, "slots": 1}])
        async with await connect(tmp_path / "desk") as agent:
            return await agent.write(INSTRUCTION, length=200)

    found = in_a_house(tmp_path, body)
    assert bool(found.fallback) != bool(found.outline_by)
    assert len(found.outline) >= protocol.FEWEST_POINTS
    assert bool(found.answer.notes) == bool(found.fallback)
    assert found.answer.text


def test_the_prompt_writes_and_reads_the_private_file_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "private.txt"
    file.write_text(SECRET)
    strong = FakeStrong()
    lines = [f"/private {file} {INSTRUCTION}", "/private nowhere.txt x", "/write", "/quit"]

    async def body(made: House) -> int:
        await two(made, strong)
        async with await ControlClient.connect(tmp_path / "desk") as client:
            return await interact(client, read_line=lambda _: lines.pop(0))

    assert in_a_house(tmp_path, body) == 0
    out = "".join(capsys.readouterr())
    assert "written by desk" in out
    assert "cannot be read" in out
    assert not any(b"Petersen" in raw for raw in strong.seen)


def test_without_a_model_here_a_private_context_goes_nowhere(tmp_path: Path) -> None:
    strong = FakeStrong()

    async def body(made: House) -> None:
        board = await made.agent("board")
        await board.add(strong)
        await made.agent("desk", board)
        async with await connect(tmp_path / "desk") as agent:
            with pytest.raises(ConfigError, match="no model on this node") as refused:
                await agent.write(INSTRUCTION, private=SECRET, length=300)
            assert "gossamer load" in refused.value.hint
            with contextlib.suppress(GossamerError):
                await agent.write("x", private=SECRET, length=10)

    in_a_house(tmp_path, body)
    assert strong.seen == []


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe\x00", "UTF-8"), (b"  \n", "empty")])
def test_a_private_file_that_is_no_text_is_refused(
    tmp_path: Path, content: bytes, why: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    found = CliRunner().invoke(app, ["write", "x", "--private-file", str(file), "--json"])
    assert found.exit_code == 1
    assert why in found.output
