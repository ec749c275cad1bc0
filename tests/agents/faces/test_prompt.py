"""The prompt with a scripted person in front of it, and a real terminal once."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.faces import prompt
from agents.faces.client import ControlClient
from mesh.core.errors import PeerLost
from tests.agents.faces.fake_agent import NAME, FakeAgent, running


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with running(tmp_path) as fake:
        yield fake


def session(state: Path, *lines: str | type[BaseException]) -> int:
    """Type the lines (or press what an exception stands for) and return the exit status."""
    typed = iter(lines)

    def read_line(_: str) -> str:
        line = next(typed, EOFError)
        if isinstance(line, str):
            return line
        raise line

    async def run() -> int:
        async with await ControlClient.connect(state) as client:
            return await prompt.interact(client, read_line=read_line)

    return asyncio.run(run())


def test_questions_are_answered_until_quit(
    agent: FakeAgent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session(tmp_path, "What is 48 * 27?", "", "/quit", "never asked") == 0
    assert "\n1296\n" in capsys.readouterr().out
    assert [args["question"] for _, args in agent.asked] == ["What is 48 * 27?"]


def test_every_command_answers(
    agent: FakeAgent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(
        tmp_path,
        "/trace",
        "/peers",
        "/names",
        f"/resolve {NAME}",
        "/help",
        "/dance",
        "What is 48 * 27?",
        "/trace",
    )
    out = capsys.readouterr().out
    for expected in ("nothing was asked", "desk (me)", "sums and products", "98.0%", "/quit"):
        assert expected in out
    assert "no command /dance" in out
    assert "relevance" in out


def test_an_error_is_told_and_the_prompt_goes_on(
    agent: FakeAgent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(tmp_path, "nobody", "/resolve knowledge.gpt/unknown", "What is 48 * 27?")
    out = capsys.readouterr().out
    assert "is reachable. Try again later" in out
    assert "nobody offers knowledge.gpt/unknown" in out
    assert "1296" in out


def test_a_second_interrupt_in_a_row_leaves(agent: FakeAgent, tmp_path: Path) -> None:
    press = KeyboardInterrupt
    assert session(tmp_path, press, "What is 48 * 27?", press, press, "never asked") == 0
    assert len(agent.asked) == 1


def test_an_agent_that_is_gone_ends_the_session_with_its_error(tmp_path: Path) -> None:
    fake = running(tmp_path)
    fake.__enter__()

    async def run() -> None:
        async with await ControlClient.connect(tmp_path) as client:
            lines = iter(["What is 48 * 27?", "again"])

            def read_line(_: str) -> str:
                line = next(lines)
                if line == "again":
                    fake.__exit__(None, None, None)
                return line

            await prompt.interact(client, read_line=read_line)

    with pytest.raises(PeerLost):
        asyncio.run(run())


def _read_until(descriptor: int, wanted: str) -> str:
    seen, until = "", time.monotonic() + 60
    while wanted not in seen:
        assert time.monotonic() < until, f"{wanted!r} did not come: {seen!r}"
        try:
            seen += os.read(descriptor, 4096).decode(errors="replace")
        except OSError:
            break
    return seen


def test_on_a_terminal_ctrl_c_stops_the_answer_alone_and_history_is_kept(
    agent: FakeAgent, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "GOSSAMER_STATE": str(tmp_path), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.faces.cli", "ask"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        _read_until(ours, "> ")
        os.write(ours, b"wait\n")
        assert agent.waiting.wait(60)
        process.send_signal(signal.SIGINT)
        _read_until(ours, "stopped")
        assert agent.cancelled.wait(10)
        os.write(ours, b"What is 48 * 27?\n")
        shown = _read_until(ours, "on abacus")
        assert "1296" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        os.write(ours, b"/quit\n")
        _read_until(ours, "\0")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert (tmp_path / "history").read_text() == "wait\nWhat is 48 * 27?\n/quit\n"
    assert (tmp_path / "history").stat().st_mode & 0o077 == 0
