"""The chat's commands for long texts: they reach the agent, and show as an answer with steps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agents.faces.console.writing import asked
from agents.library.events import AskedEvent, Plan, Step
from agents.views import AnswerView
from mesh.core.errors import ConfigError
from tests.agents.faces.console.fake_source import FakeSource


def typed(text: str, source: FakeSource, reach: str = "mesh") -> list[AskedEvent]:
    async def everything() -> list[AskedEvent]:
        source.hold.set()
        made = asked(source, text, timeout_s=5.0, reach=reach, history=())
        return [event async for event in made]

    return asyncio.run(everything())


def test_a_text_is_written_and_shows_as_an_answer() -> None:
    source = FakeSource()
    plan, step, answer = typed("/write A letter.", source)
    assert isinstance(plan, Plan)
    assert isinstance(step, Step)
    assert isinstance(answer, AnswerView)
    assert source.written == [("A letter.", "", "")]
    assert source.asked == []


def test_a_private_file_is_read_here_and_the_cloud_outlines_only_when_it_may(
    tmp_path: Path,
) -> None:
    file = tmp_path / "private.txt"
    file.write_text("a secret")
    source = FakeSource()
    typed(f"/private {file} A letter to them.", source, reach="cloud")
    assert source.written == [("A letter to them.", "a secret", "cloud")]


@pytest.mark.parametrize("text", ["/write", "/write  ", "/private", "/private file.txt"])
def test_a_command_without_its_text_is_refused(text: str) -> None:
    source = FakeSource()
    with pytest.raises(ConfigError, match="what is to be written"):
        typed(text, source)
    assert source.written == []


def test_a_private_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        typed(f"/private {tmp_path / 'none.txt'} A letter.", FakeSource())


def test_any_other_text_is_a_question() -> None:
    source = FakeSource()
    typed("/written by whom?", source)
    assert [question for question, _ in source.asked] == ["/written by whom?"]
    assert source.written == []
