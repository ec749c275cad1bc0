"""Two boards on a kitchen table, by the commands alone: create, invite, join, check, revoke."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agents.agent import Agent
from agents.config import load_config
from agents.faces.cli.app import app
from agents.faces.durations import seconds
from mesh.core.errors import ConfigError
from mesh.core.names import matches

runner = CliRunner()
PATIENCE_S = 30.0


def gossamer(*arguments: str | Path, fails: bool = False) -> Result:
    result = runner.invoke(app, [str(a) for a in arguments])
    assert (result.exit_code != 0) is fails, result.output
    assert "Traceback" not in result.output
    return result


def answered(*arguments: str | Path) -> Any:
    return json.loads(gossamer(*arguments, "--json").stdout)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it never came true: {what}"
        time.sleep(0.05)


class Running:
    """Agents in an event loop of their own, as their configuration files say."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.agents: list[Agent] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def _do(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(PATIENCE_S)

    def up(self, config: Path) -> Agent:
        agent = Agent(load_config(config))
        self.agents.append(agent)
        self._do(agent.start())
        return agent

    def down(self, agent: Agent) -> None:
        self.agents.remove(agent)
        self._do(agent.stop())

    def close(self) -> None:
        for agent in list(self.agents):
            self.down(agent)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.close()


def on_this_machine(config: Path) -> Path:
    """The configuration with ports of the system's choice, so that tests can run side by side."""
    lines = config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("host", "advertise"))]
    free = [line.split("=")[0] + "= 0" if "_port" in line else line for line in kept]
    config.write_text("\n".join(free) + "\n")
    return config


@pytest.fixture
def laptop(tmp_path: Path, running: Running) -> Agent:
    gossamer("mesh", "create", tmp_path / "owner", "home")
    gossamer("mesh", "add", tmp_path / "owner", "laptop", tmp_path / "laptop", "--issuer")
    return running.up(on_this_machine(tmp_path / "laptop" / "agent.toml"))


def state(agent: Agent) -> Path:
    return agent.config.node.state


def test_a_board_joins_with_one_line_and_is_taken_out_with_another(
    tmp_path: Path, laptop: Agent, running: Running
) -> None:
    here = ("--state", state(laptop))
    said = gossamer("invite", "--group", "sensors", "--name", "pi-kitchen", "--qr", *here)
    token = said.stdout.strip().splitlines()[-1]
    assert len(token) < 200
    assert "█" in said.stdout or "▄" in said.stdout or "\x1b" in said.stdout
    assert "gossamer join TOKEN" in said.stderr

    told = gossamer("join", token, "--state", tmp_path / "pi", "--model", "builtin:arithmetic")
    config = tmp_path / "pi" / "agent.toml"
    assert "pi-kitchen of mesh home, in sensors" in told.stdout
    assert f"gossamer up --config {config}" in told.stdout
    written = tomllib.loads(config.read_text())
    assert written["node"]["seeds"][0].startswith(laptop.node.endpoints.admission)
    assert written["model"] == [{"path": "builtin:arithmetic"}]
    config.write_text(config.read_text().replace("builtin:arithmetic", "builtin:arithmetic"))
    plain = [line for line in config.read_text().splitlines() if "builtin" not in line]
    config.write_text("\n".join(line for line in plain if line != "[[model]]"))

    pi = running.up(on_this_machine(config))
    until(lambda: laptop.node.core.member(pi.node.me.node), "the laptop sees it")
    until(lambda: pi.node.core.member(laptop.node.me.node), "and is seen")
    again = gossamer("join", token, "--state", tmp_path / "thief", fails=True)
    assert "used up" in again.output

    data = "data.gpt/vitals/raw"
    check = ("access", "check", "--as", "pi-kitchen", "--name", data, "--op", "subscribe", *here)
    assert answered(*check)["allowed"] is False
    rules = tmp_path / "rules.toml"
    rules.write_text(
        (tmp_path / "laptop" / "agent.toml").read_text()
        + '\n[[access]]\nallow = false\nnames = "data.gpt/vitals/**"\ngroups = ["guests"]\n'
        + '\n[[access]]\nallow = true\nnames = "data.gpt/vitals/**"\ngroups = ["sensors"]\n'
        + 'ops = ["subscribe"]\n'
    )
    assert answered("access", "reload", "--config", rules, *here)["rules"] == 2
    explained = answered(*check)
    assert (explained["allowed"], explained["number"]) == (True, 2)
    assert "not among them" in explained["passed_over"][0][2]
    assert "decided by rule 2: group sensors may subscribe" in gossamer(*check).stdout

    out = gossamer("revoke", "pi-kitchen", "--reason", "sold it", *here)
    assert "pi-kitchen is out" in out.stdout
    until(lambda: laptop.node.core.member(pi.node.me.node) is None, "the laptop forgets it")
    until(lambda: any("sold it" in line for line in pi.node.troubles), "it is told itself")
    assert "pi-kitchen" not in gossamer("peers", *here).stdout


def test_the_owner_revokes_offline_and_any_member_spreads_the_word(
    tmp_path: Path, laptop: Agent, running: Running
) -> None:
    owner = tmp_path / "owner"
    seed = laptop.node.seed
    gossamer("mesh", "add", owner, "tv", tmp_path / "tv", "--seed", seed)
    twice = gossamer("mesh", "add", owner, "tv", tmp_path / "tv2", fails=True)
    assert "there is a node named 'tv'" in twice.output
    television = running.up(on_this_machine(tmp_path / "tv" / "agent.toml"))
    until(lambda: laptop.node.core.member(television.node.me.node), "they meet")
    refused = gossamer("revoke", "tv", "--state", state(laptop), fails=True)
    assert "--authority" in refused.output
    statement = answered("mesh", "revoke", owner, "tv", "--reason", "broken")["statement"]
    # The one that is out may carry the word itself; here the laptop does.
    told = gossamer("revoke", "--statement", statement, "--state", state(laptop))
    assert "tv is out" in told.stdout
    until(lambda: laptop.node.core.member(television.node.me.node) is None, "it is out")
    bad = gossamer("revoke", "--statement", statement[:-20], "--state", state(laptop), fails=True)
    assert "copied" in bad.output
    gossamer("mesh", "add", owner, "tv", tmp_path / "tv2")  # the name is free again


def test_open_invitations_are_listed_and_withdrawn(tmp_path: Path, laptop: Agent) -> None:
    here = ("--state", state(laptop))
    token = answered("invite", "--uses", "2", *here)["token"]
    listed = answered("invite", "--list", *here)
    assert [one["uses_left"] for one in listed] == [2]
    assert answered("invite", "--withdraw", listed[0]["id"], *here) == []
    gone = gossamer("join", token, "--state", tmp_path / "late", fails=True)
    assert "nobody here knows this invitation" in gone.output


def test_an_invited_node_may_answer_but_neither_be_the_cloud_nor_publish_data(
    laptop: Agent,
) -> None:
    granted = answered("invite", "--state", state(laptop))["publish"]
    for name, fits in {
        "knowledge.gpt/arithmetic": True,
        "computation.gpt/generate": True,
        "computation.gpt/cloud": False,
        "data.gpt/vitals/raw": False,
    }.items():
        assert any(matches(pattern, name) for pattern in granted) is fits


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("invite", "--publish", "computation.gpt/cloud"), "may not grant"),
        (("invite", "--expires", "soon"), "is no time"),
        (("invite", "--publish", "everything"), "does not begin with"),
        (("invite", "--name", "Pi Kitchen"), "is no node name"),
        (("invite", "--uses", "3", "--name", "one"), "has one use"),
        (("revoke", "nobody"), "neither a node that is known here"),
        (("revoke", "laptop"), "does not revoke itself"),
        (("access", "check", "--as", "nobody", "--name", "data.gpt/x"), "is not known here"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    laptop: Agent, arguments: tuple[str, ...], said: str
) -> None:
    result = gossamer(*arguments, "--state", state(laptop), fails=True)
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_access_is_explained_from_files_alone(tmp_path: Path) -> None:
    gossamer("mesh", "create", tmp_path / "owner", "home")
    gossamer("mesh", "add", tmp_path / "owner", "hub", tmp_path / "hub", "--group", "house")
    config = tmp_path / "hub" / "agent.toml"
    check = ("access", "check", "--config", config, "--name", "data.gpt/door/raw", "--as")
    assert answered(*check, "hub")["rule"] == "a node may use its own names"
    assert "--group" in gossamer(*check, "camera", fails=True).output
    assert answered(*check, "camera", "--group", "street")["allowed"] is False
    assert answered(*check, "camera", "--group", "street", "--op", "publish")["allowed"] is False


def test_a_damaged_token_is_told_without_asking_anybody(tmp_path: Path) -> None:
    for token in ("hello", "gossamer1.AAAA"):
        result = gossamer("join", token, "--state", tmp_path / "x", fails=True)
        assert "invitation" in result.output


def test_times_are_written_as_people_write_them() -> None:
    assert [seconds(t) for t in ("90s", "30m", "1h", "1.5d", "2w")] == [
        90,
        1800,
        3600,
        129600,
        1209600,
    ]
    for bad in ("", "1", "h", "0s", "-1h", "1y", "1h30m", "9" * 30 + "s"):
        with pytest.raises(ConfigError):
            seconds(bad)


@pytest.mark.parametrize(
    "command",
    [("invite",), ("join",), ("revoke",), ("access", "check"), ("access", "reload")],
    ids=" ".join,
)
def test_every_command_has_help_with_an_example_and_speaks_json(command: tuple[str, ...]) -> None:
    text = gossamer(*command, "--help").stdout
    assert f"Example:  gossamer {' '.join(command)}" in text
    assert "--json" in text
