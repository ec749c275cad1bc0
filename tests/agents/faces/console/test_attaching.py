"""The console at a mesh that this machine is not in: joined for it, left with it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.agent import Agent
from agents.faces.console.attaching import FOLDER, attached
from mesh.core.errors import ConfigError, IdentityError
from mesh.core.events import PeerState
from tests.agents.faces.test_admission_cli import (
    Running,
    answered,
    gossamer,
    on_this_machine,
    state,
    until,
)
from tests.e2e.harness import processes_of, signals_heeded

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.close()


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, running: Running) -> Agent:
    """A node that may invite others."""
    root = tmp_path_factory.mktemp("attaching")
    gossamer("mesh", "create", root / "owner", "home")
    gossamer("mesh", "add", root / "owner", "laptop", root / "laptop", "--issuer")
    return running.up(on_this_machine(root / "laptop" / "agent.toml"))


def test_an_invitation_shows_the_mesh_from_another_machine_and_its_name_does_it_again(
    tmp_path: Path, laptop: Agent
) -> None:
    token = answered("invite", "--state", state(laptop))["token"]
    mine = ("--state", tmp_path)
    found = answered("console", "--attach", token, *mine)
    assert {node["name"]: node["me"] for node in found["nodes"]}["laptop"] is False
    (me,) = [node for node in found["nodes"] if node["me"]]
    assert me["names"] == me["models"] == []
    assert found["self"]["mesh"] == "home"

    def left() -> bool:
        members = {m.name: m.node for m in laptop.node.core.members()}
        found = laptop.node.core.membership.state(members[me["name"]])
        return found in {PeerState.DEPARTED, PeerState.DEAD}

    until(left, "it has left the mesh with its console")
    # The invitation is used up; the certificate that it brought is not.
    with attached("home", tmp_path) as first:
        with attached("home", tmp_path) as second:
            assert first == second
        # The second console has left; the agent of the first goes on.
        assert answered("status", "--state", first)["node"] == me["node"]
    # A terminal that is closed while the console is open takes the agent with it, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        with (
            signals_heeded(),
            pytest.raises(SystemExit),
            attached("home", tmp_path) as first,
        ):
            signal.raise_signal(number)
        assert not processes_of(first)
    assert first.parent == tmp_path / FOLDER
    assert first.stat().st_mode & 0o077 == 0


def test_what_is_no_invitation_is_told_with_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no invitation") as told, attached("nonsense", tmp_path):
        pass
    assert "gossamer invite" in told.value.hint
    with pytest.raises(IdentityError, match="copied"), attached("gossamer1.AAAA", tmp_path):
        pass
    assert not (tmp_path / FOLDER).exists()
    said = gossamer("console", "--attach", "nonsense", "--json", "--state", tmp_path, fails=True)
    assert json.loads(said.stdout)["error"]["code"] == "config"
