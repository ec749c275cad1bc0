"""The console at a mesh of two real agents: it asks, and sees the way of the answer."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.faces import demo as demonstration
from agents.faces.console.app import Console
from agents.faces.console.screenshots import screen_text
from agents.library import Agent, connect

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
QUESTION = "What is 48 * 27?"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two agents, desk and abacus; only abacus can calculate."""
    root = tmp_path_factory.mktemp("console")
    with demonstration.Demo(demonstration.roster(2), root) as mesh:

        async def start() -> None:
            await (await demonstration.start(mesh)).close()

        asyncio.run(start())
        yield mesh.state("desk")


def gossamer(state: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A command in a pipe."""
    command = [sys.executable, "-m", "agents.faces.cli", *args, "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_question_at_the_console_goes_to_the_other_node_and_its_route_is_seen(
    state: Path,
) -> None:
    async def again() -> Agent:
        return await connect(state)

    async def run() -> None:
        app = Console(again)
        async with app.run_test(size=(80, 24)) as pilot:

            async def until(*words: str) -> None:
                for _ in range(int(PATIENCE_S / 0.05)):
                    await pilot.pause(0.05)
                    if all(word in screen_text(app) for word in words):
                        return
                raise AssertionError(screen_text(app))

            await until("desk (me)", "abacus")
            await pilot.press("c")
            app.query_one("#typed").value = QUESTION  # type: ignore[attr-defined]
            await pilot.press("enter")
            await until("48 * 27 = 1296", "on abacus (remote)", "rung expert", "cost nothing")
            await pilot.press("f5")
            await until("ok", QUESTION)
            await pilot.press("enter")
            await until("DECISIONS", "client knowledge.gpt/arithmetic > abacus")
            await pilot.press("f8")
            await until("answered by abacus")
            await pilot.press("f2", "end", "a")
            await until("x  revoke it")
            await pilot.press("x")
            await until("y: yes")
            await pilot.press("y")
            await until("issuer")  # desk is none, and says so

    asyncio.run(run())


def test_scripts_get_one_view_as_text_and_as_json(state: Path) -> None:
    text = gossamer(state, "console", "--once")
    assert text.returncode == 0
    assert "abacus" in text.stdout
    assert "knowledge.gpt/arithmetic" in text.stdout
    found = json.loads(gossamer(state, "console", "--json").stdout)
    assert {node["name"] for node in found["nodes"]} == {"desk", "abacus"}


def test_without_a_terminal_it_says_what_to_do(state: Path) -> None:
    found = gossamer(state, "console")
    assert found.returncode == 1
    assert "--once" in found.stderr
    assert "ssh -t" in found.stderr


def test_top_prints_as_often_as_asked(state: Path) -> None:
    found = gossamer(state, "top", "--count", "2", "--every", "0.1", "--sort", "tok")
    assert found.stdout.count("abacus") == 2
    rows = gossamer(state, "top", "--count", "1", "--json").stdout.splitlines()
    assert {node["name"] for node in json.loads(rows[0])["nodes"]} == {"desk", "abacus"}
    wrong = gossamer(state, "top", "--sort", "colour")
    assert wrong.returncode == 1
    assert "rtt ms" in wrong.stderr


def test_a_trace_is_listed_and_shown(state: Path) -> None:
    gossamer(state, "ask", QUESTION)
    listed = json.loads(gossamer(state, "trace", "--json").stdout)
    assert listed[0]["question"] == QUESTION
    short = listed[0]["trace"][:8]
    assert short in gossamer(state, "trace").stdout
    shown = gossamer(state, "trace", short).stdout
    for part in ("48 * 27 = 1296", "on abacus", "SPANS", "DECISIONS"):
        assert part in shown
    assert json.loads(gossamer(state, "trace", short, "--json").stdout)["answer"]["text"]
    unknown = gossamer(state, "trace", "ffffffff")
    assert unknown.returncode == 1
    assert "remembers no request" in unknown.stderr


@pytest.mark.parametrize("verb", ["console", "top"])
def test_on_a_terminal_it_draws_and_gives_the_screen_back(state: Path, verb: str) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.faces.cli", verb, "--state", str(state)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        start_new_session=True,
        preexec_fn=None,
    )
    os.close(slave)
    seen = b""
    try:
        until = time.monotonic() + PATIENCE_S
        while b"abacus" not in seen and time.monotonic() < until:
            seen += os.read(master, 65536)
        if verb == "console":
            os.write(master, b"q")
        else:
            process.send_signal(2)
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            seen += data
        assert process.wait(PATIENCE_S) == (0 if verb == "console" else 130)
        assert b"Traceback" not in seen
        assert seen.rfind(b"\x1b[?1049l") > seen.rfind(b"\x1b[?1049h")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def test_status_tells_what_happens_while_it_watches(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.faces.cli", "status", "--watch", "--state", str(state)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "2 alive" in process.stdout.readline()
        gossamer(state, "ask", QUESTION)
        lines = []
        while not lines or "answered by" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1]
        assert f"  ? {QUESTION}\n" in lines
        process.send_signal(2)
        assert process.wait(PATIENCE_S) == 130
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
