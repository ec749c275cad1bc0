"""Deploying to two OpenSSH servers on this machine, each with a root of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.boards.houses import PIP, fake_house
from tests.agents.boards.sshd import KEYGEN, SSHD, Sshd, free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (SSHD and KEYGEN), reason="no OpenSSH server: openssh-server"),
]

ROOT = Path(__file__).resolve().parents[3]
SECRET = "sk-not-to-be-seen-4711"
WAIT_S = "60"


class Fleet:
    """An inventory over two servers, and the command that deploys it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = {name: Sshd(folder / "hosts", name) for name in ("alder", "birch")}
        self.ports = {name: [free_port() for _ in range(3)] for name in self.servers}
        self.said = ""
        (folder / "cloud.key").write_text(SECRET + "\n")
        (folder / "agent.toml").write_text("machine = true\n")
        self.wheel = ""
        self.write()

    def write(self, **more: object) -> None:
        lines = ['[mesh]\nname = "grove"\n']
        for name, server in self.servers.items():
            host = {
                "name": name,
                **server.host,
                "python": sys.executable,
                "runner": "plain",
                "listen": "127.0.0.1",
                "ports": self.ports[name],
                "publish": ["data.gpt/machine/**"],
                "config": "agent.toml",
                **more,
            }
            lines.append("[[host]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in host.items()]
            lines.append('[host.secrets]\n"cloud.key" = "cloud.key"\n')
            lines.append('[[host.run]]\nname = "beside"')
            lines.append('command = ["{python}", "-c", "import time; time.sleep(600)"]\n')
        (self.folder / "inventory.toml").write_text("\n".join(lines))

    def deploy(self, *words: str) -> tuple[int, Any]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "agents.faces.cli", "deploy"),
                *(str(self.folder / "inventory.toml"), *words, "--json"),
            ],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        self.said += done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout or "null")

    def apply(self, *hosts: str) -> tuple[int, dict[str, dict[str, Any]]]:
        only = [word for host in hosts for word in ("--host", host)]
        code, told = self.deploy("apply", "--yes", "--wait", WAIT_S, *only)
        assert told, self.said
        assert "hosts" in told, told
        return code, {one["host"]: one for one in told["hosts"]}

    def status(self) -> dict[str, dict[str, Any]]:
        return {one["host"]: one for one in self.deploy("status")[1]["hosts"]}

    def root(self, name: str) -> Path:
        return self.servers[name].folder / "root"

    def stop(self) -> None:
        self.deploy("remove", "--yes")
        for server in self.servers.values():
            server.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def fake_wheel(path: Path) -> None:
    """A version whose agent does not start; everything else of it works."""
    with zipfile.ZipFile(path, "w") as wheel:
        for package in ("agents", "mesh"):
            for file in (ROOT / package).rglob("*.py"):
                wheel.write(file, file.relative_to(ROOT))
        inside = "agents/faces/up.py"
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr(inside, "import os\nraise SystemExit('no such luck: ' + os.name)\n")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.timeout(600)  # of a loaded machine; a quiet one needs half a minute
def test_a_mesh_is_planned_applied_left_alone_and_put_back_after_a_broken_version(
    fleet: Fleet,
) -> None:
    code, told = fleet.deploy("plan")
    assert code == 0, fleet.said
    assert [step["action"] for step in told["steps"]] == ["install", "install"]
    assert not fleet.root("alder").exists(), "a plan changes nothing"

    code, hosts = fleet.apply()
    assert code == 0, fleet.said
    assert {one["outcome"] for one in hosts.values()} == {"done"}
    good = hosts["alder"]["release"]
    secret = fleet.root("birch") / "current/secrets/cloud.key"
    assert secret.read_text().strip() == SECRET
    assert secret.stat().st_mode & 0o777 == 0o600
    identity = fleet.root("birch") / "state/identity.json"
    keys = identity.read_bytes()

    code, hosts = fleet.apply()
    assert code == 0
    assert {one["outcome"] for one in hosts.values()} == {"unchanged"}

    fake_wheel(fleet.folder / "gossamer_mesh-9.9.9-py3-none-any.whl")
    fleet.write(wheel="gossamer_mesh-9.9.9-py3-none-any.whl")
    code, hosts = fleet.apply()
    assert code == 1
    assert hosts["alder"]["outcome"] == "rolled back", hosts
    assert "no such luck" in hosts["alder"]["log"]
    assert hosts["birch"]["outcome"] == "left"
    status = fleet.status()
    assert status["alder"]["current"] == good
    for one in status.values():
        assert one["agent"]["ready"]
        assert one["processes"] == {"agent": True, "beside": True}

    fleet.write()
    (fleet.folder / "agent.toml").write_text('machine = true\nlog_level = "ERROR"\n')
    code, hosts = fleet.apply()
    assert code == 0, hosts
    assert hosts["alder"]["release"] != good
    code, told = fleet.deploy("rollback", "--host", "alder", "--wait", WAIT_S)
    assert code == 0, fleet.said
    assert fleet.status()["alder"]["current"] == good
    assert identity.read_bytes() == keys, "a node stays who it is through every release"

    code, told = fleet.deploy("remove", "--yes")
    assert code == 0
    assert identity.exists()
    assert not (fleet.root("birch") / "releases").exists()

    logs = [server.log.read_text() for server in fleet.servers.values()]
    logs += [p.read_text() for p in fleet.folder.rglob("*.log")]
    logs += [p.read_text() for p in fleet.folder.rglob("deploy.json")]
    assert SECRET not in "".join([fleet.said, *logs])


@pytest.mark.skipif(not PIP, reason="no pip beside this Python")
@pytest.mark.timeout(600)  # of a loaded machine; a quiet one needs half a minute
def test_gossamer_is_installed_from_a_wheelhouse_and_goes_back_with_its_release(
    fleet: Fleet,
) -> None:
    for version, broken in (("0.9.1", False), ("0.9.2", True), ("0.9.3", False)):
        fake_house(fleet.folder / version, version, broken=broken)
    fleet.write(wheelhouse="0.9.1")
    code, told = fleet.deploy("plan")
    assert code == 0, fleet.said
    assert [step["installs"] for step in told["steps"]] == ["0.9.1", "0.9.1"]
    assert "Gossamer 0.9.1 is installed first" in told["steps"][0]["why"]
    assert not fleet.root("alder").exists(), "a plan changes nothing"

    # One of the two from here on: what concerns several hosts is shown above.
    code, hosts = fleet.apply("alder")
    assert code == 0, fleet.said
    first = hosts["alder"]["release"]
    told = fleet.deploy("status", "--host", "alder")[1]["hosts"][0]
    assert told["installed"] == told["agent"]["version"] == "0.9.1"

    fleet.write(wheelhouse="0.9.2")
    code, hosts = fleet.apply("alder")
    assert code == 1
    assert hosts["alder"]["outcome"] == "rolled back", hosts
    assert "no such luck" in hosts["alder"]["log"]

    fleet.write(wheelhouse="0.9.3")
    step = fleet.deploy("plan", "--host", "alder")[1]["steps"][0]
    assert step["why"].endswith("Gossamer 0.9.3 is installed first in place of 0.9.1")
    code, hosts = fleet.apply("alder")
    assert code == 0, fleet.said
    kept = list((fleet.root("alder") / "environments").iterdir())
    assert len(kept) == 2, "of the release and of the one before; the broken one is gone"

    code, told = fleet.deploy("rollback", "--host", "alder", "--wait", WAIT_S)
    assert code == 0, fleet.said
    told = fleet.deploy("status", "--host", "alder")[1]["hosts"][0]
    assert told["current"] == first
    assert told["installed"] == told["agent"]["version"] == "0.9.1"
    assert told["agent"]["ready"]
    assert SECRET not in fleet.said


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.skipif(not PIP, reason="no pip beside this Python")
def test_an_environment_that_cannot_be_made_leaves_the_machine_as_it_is(fleet: Fleet) -> None:
    house = fake_house(fleet.folder / "house", "0.9.1")
    wheel = next((house / "wheels").glob("gossamer_mesh-*.whl"))
    with zipfile.ZipFile(wheel, "a") as packed:  # as if it needed a library that is not there
        packed.writestr("gossamer_mesh-0.9.1.dist-info/METADATA", NEEDY)
    resum(house)
    fleet.write(wheelhouse="house")
    code, told = fleet.deploy("apply", "--yes", "--wait", WAIT_S, "--host", "alder")
    assert code == 1
    assert "alder: its libraries do not install: ERROR" in told["error"]["message"]
    assert "no-such-library" in told["error"]["message"]
    assert fleet.status()["alder"]["current"] == ""
    wheel.write_bytes(b"damaged")
    code, told = fleet.deploy("plan")
    assert code == 1
    assert "is not as its SHA256SUMS says" in told["error"]["message"]


NEEDY = "Name: gossamer_mesh\nVersion: 0.9.1\nRequires-Dist: no-such-library>=1\n"


def resum(house: Path) -> None:
    """The checksums of a wheelhouse as it is now."""
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  wheels/{p.name}"
        for p in sorted((house / "wheels").iterdir())
    ]
    (house / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def test_a_machine_that_is_not_reached_is_told_in_one_line(fleet: Fleet) -> None:
    fleet.servers["birch"].stop()
    code, told = fleet.deploy("plan")
    assert code == 1
    assert told["error"]["code"] == "deploy_failed"
    assert told["error"]["message"].startswith("birch: ssh to 127.0.0.1")
    found = fleet.status()
    assert found["birch"]["reached"] is False
    assert found["alder"]["reached"] is True


def test_a_machine_whose_key_is_not_known_is_refused(fleet: Fleet) -> None:
    (fleet.servers["alder"].folder / "known_hosts").write_text("")
    code, told = fleet.deploy("plan")
    assert code == 1
    assert "alder" in told["error"]["message"]
    assert not fleet.root("alder").exists()
