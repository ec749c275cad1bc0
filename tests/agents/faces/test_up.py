"""An agent in a process of its own ends in order, whichever way its terminal does."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.net.statedir import create_authority, create_identity
from tests.e2e.harness import signals_heeded

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@contextmanager
def _up(
    folder: Path, handler: Callable[..., object] | signal.Handlers
) -> Iterator[subprocess.Popen[str]]:
    """An agent that offers nothing, ready; it begins with SIGHUP handled so."""
    authority = create_authority(folder / "authority", "home")
    create_identity(folder / "state", authority, "home", name="desk", groups=("home",), publish=())
    config = folder / "agent.toml"
    config.write_text('[node]\nstate = "state"\n')
    with signals_heeded():
        signal.signal(signal.SIGHUP, handler)
        command = [sys.executable, "-m", "agents.faces.cli", "up", "--config", str(config)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    assert process.stderr is not None
    try:
        said: list[str] = []
        while not any("ready" in line for line in said):
            said.append(process.stderr.readline())
            assert said[-1], said
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_agent_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with _up(tmp_path, signal.SIG_DFL) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "leaving" in said


def test_an_agent_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with _up(tmp_path, signal.SIG_IGN) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "leaving" in said
