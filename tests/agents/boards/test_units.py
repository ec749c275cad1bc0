"""systemd's units, as they are generated."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agents.boards.profiles import Board
from agents.boards.units import UNITS, unit
from mesh.core.errors import ConfigError

PI = Board(model="Raspberry Pi 4 Model B Rev 1.4", memory_mb=3800, cores=4)
JETSON = Board(model="NVIDIA Jetson AGX Orin Developer Kit", memory_mb=30000, tegra="R36.4.0")


def made(
    name: str = "gossamer",
    *,
    board: Board = PI,
    account: str = "gossamer",
    keys: Path = Path("/nowhere"),
) -> str:
    return unit(name, prefix="/opt/gossamer", account=account, credentials=keys, board=board)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("board", [PI, JETSON])
def test_a_unit_has_no_gap(name: str, board: Board) -> None:
    text = made(name, board=board)
    assert "@" not in text.replace("@system-service", "").replace("@privileged", "").replace(
        "@resources", ""
    )
    assert "NoNewPrivileges=yes" in text
    assert "User=gossamer" in text


def test_the_memory_limit_is_the_profiles_and_the_watchdog_is_on() -> None:
    text = made()
    assert "MemoryMax=75%" in text
    assert "WatchdogSec=60" in text
    assert "Type=notify" in text
    assert "Restart=on-failure" in text


def test_a_gpu_keeps_its_devices_and_other_boards_see_none() -> None:
    assert "PrivateDevices=yes" in made()
    jetson = made(board=JETSON)
    assert "PrivateDevices=yes" not in jetson
    assert "DeviceAllow=char-nvidia* rw" in jetson


def test_keys_are_credentials_and_their_text_is_not_in_the_unit(tmp_path: Path) -> None:
    (tmp_path / "cloud").write_text("sk-secret")
    text = made(keys=tmp_path)
    assert f"LoadCredential=cloud:{tmp_path}/cloud" in text
    assert "sk-secret" not in text


def test_a_setting_cannot_be_smuggled_in() -> None:
    with pytest.raises(ConfigError, match="cannot stand in a unit"):
        made(account="root\nExecStartPre=/bin/evil")
    with pytest.raises(ConfigError, match="no unit 'sshd'"):
        made("sshd")
    odd = made(board=Board(model="Evil\n[Service]\nUser=root", memory_mb=4000))
    assert "User=root" not in odd.splitlines()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_finds_the_sandbox_tight(tmp_path: Path) -> None:
    file = tmp_path / "gossamer.service"
    file.write_text(made())
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--no-pager",
            "--threshold=20",
            str(file),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("this systemd-analyze is too old for --offline")
    # Exposure of at most 2.0 of 10.
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
