"""The command line against a scripted agent: what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from agents.faces.cli.app import app
from agents.faces.cli.order import FIRST, Ordered
from agents.views import AnswerView
from tests.agents.faces.fake_agent import NAME, FakeAgent, running

COMMANDS = [
    ["demo"],
    ["up"],
    ["ask"],
    ["peers"],
    ["names"],
    ["resolve"],
    ["call"],
    ["status"],
    ["doctor"],
    ["version"],
    ["mesh", "create"],
    ["mesh", "add"],
]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setenv("GOSSAMER_STATE", str(tmp_path))
    with running(tmp_path) as fake:
        yield fake


def gossamer(*args: str, stdin: str = "") -> Result:
    """Run a command in this process, its output in a pipe."""
    return CliRunner().invoke(app, list(args), input=stdin)


def answered(result: Result) -> Any:
    """The JSON that a command printed, as its only output."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_piped_answer_is_the_answer_alone_and_its_route_goes_aside(agent: FakeAgent) -> None:
    result = gossamer("ask", "What is 48 * 27?", "--reach", "group", "--timeout", "7")
    assert result.exit_code == 0
    assert result.stdout == "1296\n"
    assert f"{NAME} on abacus, 0.40 s" in result.stderr
    assert agent.asked == [
        ("ask", {"question": "What is 48 * 27?", "timeout_s": 7.0, "reach": "group"})
    ]


def test_a_question_may_come_from_standard_input(agent: FakeAgent) -> None:
    assert gossamer("ask", stdin="What is 48 * 27?\n").stdout == "1296\n"
    assert agent.asked[0][1]["question"] == "What is 48 * 27?\n"


def test_ask_as_json_is_one_object(agent: FakeAgent) -> None:
    found = answered(gossamer("ask", "What is 48 * 27?", "--json"))
    assert found["text"] == "1296"
    assert found["steps"][0]["name"] == NAME
    assert {"degraded", "elapsed_s", "nodes"} <= set(found)


def test_an_answer_without_text_is_a_failure_and_a_degraded_one_is_not(agent: FakeAgent) -> None:
    agent.answer = AnswerView(
        text="12", degraded=True, elapsed_s=1, steps=[], nodes=[], missing=["7 * 8"]
    )
    result = gossamer("ask", "x")
    assert result.exit_code == 0
    assert "degraded: 7 * 8" in result.stderr
    agent.answer = AnswerView(text="", degraded=True, elapsed_s=1, steps=[], nodes=[])
    assert gossamer("ask", "x").exit_code == 1
    assert gossamer("ask", "x", "--json").exit_code == 1


def test_an_error_is_one_line_with_what_to_do_next(agent: FakeAgent) -> None:
    result = gossamer("ask", "nobody")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (f"gossamer: nobody who offers {NAME} is reachable. Try again later\n")


def test_an_error_as_json_has_code_message_and_hint(agent: FakeAgent) -> None:
    result = gossamer("resolve", "knowledge.gpt/unknown", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "error": {
            "code": "no_such_name",
            "message": "nobody offers knowledge.gpt/unknown",
            "hint": "see gossamer names",
        }
    }


@pytest.mark.parametrize(
    "args",
    [
        ["resolve", "arithmetic"],
        ["call", "knowledge.gpt/", "x"],
        ["names", "nowhere/**"],
        ["ask", "  "],
        ["ask", "x", "--reach", "moon"],
        ["ask", "x", "--timeout", "0"],
        ["up"],
        ["dance"],
    ],
)
def test_wrong_usage_ends_with_2_and_asks_nobody(agent: FakeAgent, args: list[str]) -> None:
    assert gossamer(*args).exit_code == 2
    assert agent.asked == []


@pytest.mark.parametrize(
    "args",
    [["--once", "What?", "--json"], ["--once", "--json", "What?"], ["--json", "What?", "--once"]],
)
def test_demo_takes_its_question_before_or_after_other_options(
    monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    from agents.faces import demo

    seen: dict[str, Any] = {}
    monkeypatch.setattr(demo, "run", lambda **given: seen.update(given) or 0)
    assert gossamer("demo", *args).exit_code == 0
    assert seen == {"once": "What?", "as_json": True, "nodes": 4, "state": None}
    assert gossamer("demo", "--once").exit_code == 2
    assert gossamer("demo", "What?").exit_code == 2


@pytest.mark.parametrize("args", [["peers"], ["names"], ["ask", "x"], ["call", NAME, "x"]])
def test_without_an_agent_every_command_says_how_to_start_one(
    tmp_path: Path, args: list[str]
) -> None:
    result = gossamer(*args, "--state", str(tmp_path))
    assert result.exit_code == 1
    assert "No agent runs" in result.stderr
    assert "gossamer up --config FILE, or gossamer demo" in result.stderr
    assert "Traceback" not in result.output


def test_peers_are_columns_in_a_pipe_and_hold_no_control_character(agent: FakeAgent) -> None:
    result = gossamer("peers")
    assert "abacus" in result.stdout
    assert "dead" in result.stdout
    assert "desk (me)" in result.stdout
    assert "\x1b" not in result.stdout
    assert [peer["name"] for peer in answered(gossamer("peers", "--json"))] == ["desk", "abacus"]


def test_names_resolve_and_status_show_what_the_agent_says(agent: FakeAgent) -> None:
    assert "sums and products" in gossamer("names").stdout
    assert answered(gossamer("names", "knowledge.gpt/**", "--json"))[0]["name"] == NAME
    assert agent.asked[-1] == ("names", {"pattern": "knowledge.gpt/**"})
    result = gossamer("resolve", NAME)
    assert "98.0%" in result.stdout
    assert "by priority" in result.stderr
    assert answered(gossamer("resolve", NAME, "--json"))["endpoints"][0]["name"] == "abacus"
    assert "refused" in gossamer("status").stdout


def test_call_prints_the_answer_or_the_messages(agent: FakeAgent) -> None:
    result = gossamer("call", f"{NAME}@abacus", "48 * 27")
    assert result.stdout == "1296\n"
    assert "abacus" in result.stderr
    assert agent.asked[0][1]["name"] == f"{NAME}@abacus"
    assert answered(gossamer("call", NAME, "--json", stdin="48 * 27"))["text"] == "1296"
    assert agent.asked[1][1]["text"] == "48 * 27"


def test_a_subscription_ends_after_as_many_messages_as_asked(agent: FakeAgent) -> None:
    result = gossamer("call", "data.gpt/machine/raw", "--count", "3")
    assert result.exit_code == 0
    assert [json.loads(line)["reading"] for line in result.stdout.splitlines()] == [0, 1, 2]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_speaks_json(command: list[str]) -> None:
    result = gossamer(*command, "--help")
    assert result.exit_code == 0
    assert f"Example:  gossamer {' '.join(command)}" in result.stdout
    assert "--json" in result.stdout


def test_version_needs_no_agent() -> None:
    assert answered(gossamer("version", "--json"))["wire"] >= 1


def test_help_loads_nothing_heavy() -> None:
    heavy = ["zmq", "numpy", "networkx", "llama_cpp", "cryptography", "zeroconf", "rich.console"]
    code = (
        "import sys, agents.faces.cli.app as a\n"
        "try: a.app(['--help'])\n"
        f"except SystemExit: print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_ends_the_command_with_130_and_the_agents_work_with_it(
    agent: FakeAgent, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "agents.faces.cli", "ask", "wait"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert agent.waiting.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert agent.cancelled.wait(10)
    assert "Traceback" not in out + err


def test_a_reader_that_has_seen_enough_gets_no_traceback(agent: FakeAgent) -> None:
    command = f"{sys.executable} -m agents.faces.cli call data.gpt/machine/raw | head -n 1"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert json.loads(done.stdout) == {"reading": 0}
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_the_help_begins_with_what_a_newcomer_needs_and_leaves_nothing_out() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, Ordered)
    listed = group.list_commands(typer.Context(group))
    assert listed[:3] == ["demo", "up", "ask"]
    assert sorted(listed) == sorted(group.commands)
    assert set(FIRST) <= set(listed)  # no place is kept for what is gone
