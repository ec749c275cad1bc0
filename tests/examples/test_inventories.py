"""The scenarios' inventories, planned against a real OpenSSH server that stands for all boards."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.boards.deploy.applying import Deployment
from agents.boards.deploy.inventory import make_inventory
from agents.boards.deploy.ssh import Ssh
from tests.agents.boards.sshd import KEYGEN, SSHD, Sshd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (SSHD and KEYGEN), reason="no OpenSSH server: openssh-server"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    made = Sshd(tmp_path, "board")
    yield made
    made.stop()


@pytest.mark.timeout(180)  # of a loaded machine
@pytest.mark.parametrize(("name", "hosts"), [("smart_city", 12), ("wearable", 9)])
def test_an_inventory_can_be_planned_and_nothing_is_changed(
    server: Sshd, tmp_path: Path, name: str, hosts: int
) -> None:
    folder = EXAMPLES / name
    raw = tomllib.loads((folder / "inventory.toml").read_text())
    assert "127.0.0.1" not in {host["address"] for host in raw["host"]}, "boards, not this machine"
    for host in raw["host"]:  # all boards are this machine, each in a folder of its own
        host |= {**server.host, "root": str(tmp_path / "roots" / host["name"])}
        host |= {"python": sys.executable, "runner": "plain"}
    raw["mesh"]["owner"] = str(tmp_path / "owner")
    inventory = make_inventory(raw, folder)
    with Ssh(inventory) as ssh:
        steps = Deployment(inventory, ssh, lambda host, what: None).plan()
    assert len(steps) == hosts
    assert {step.action for step in steps} == {"install"}, [step.why for step in steps]
    assert all(step.certify and step.send_bytes > 0 for step in steps)
    assert not (tmp_path / "roots").exists()
    assert not (tmp_path / "owner").exists()
