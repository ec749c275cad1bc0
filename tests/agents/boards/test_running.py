"""What containers start: one makes the mesh and leaves an invitation, another joins with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.boards.running import Wishes, run
from mesh.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
START_S = 100.0


def gossamer(*words: str) -> list[str]:
    return [sys.executable, "-m", "agents.faces.cli", *words]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(20)


def test_a_state_without_a_node_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no node") as caught:
        run(Wishes(state=tmp_path))
    assert "--invitation-file" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be read"):
        run(Wishes(state=tmp_path, invitation=tmp_path / "absent"))


@pytest.mark.e2e
def test_one_makes_the_mesh_and_the_other_waits_for_its_invitation(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    token = tmp_path / "token"
    common = ["--advertise", "127.0.0.1", "--model", "builtin:arithmetic"]
    for words in (
        ["--invitation-file", str(token), "--wait", "90", "--name", "abacus"],
        ["--mesh", "home", "--name", "desk", "--invite", str(token)],
    ):
        state = str(tmp_path / words[words.index("--name") + 1])
        command = gossamer("board", "run", "--state", state, *words, *common)
        with (tmp_path / "log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            )
    until = time.monotonic() + START_S
    peers: list[dict[str, Any]] = []
    while not any(peer["name"] == "abacus" and peer["state"] == "alive" for peer in peers):
        assert time.monotonic() < until, (tmp_path / "log").read_text()
        assert all(process.poll() is None for process in started), (tmp_path / "log").read_text()
        done = subprocess.run(
            gossamer("peers", "--json", "--state", str(tmp_path / "desk")),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        peers = json.loads(done.stdout) if done.returncode == 0 else []
        time.sleep(0.3)
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text().strip() not in (tmp_path / "log").read_text()
