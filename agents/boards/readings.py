"""How the machine under the agent is: warmth, slowing, power, battery, storage, links.

Everything is read from files below a root, so that a folder of files can stand for a board.
What a machine does not tell stays at its "unknown" value; nothing is guessed.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from capabilities.sensors.machine import read_machine
from capabilities.slm.machine import slack_c

ROOT = Path("/")
VCGENCMD_S = 2.0
# The Raspberry Pi firmware's word, "get_throttled" in its documentation of vcgencmd: the low
# bits hold now, the same ones sixteen higher since the boot.
LOW_VOLTAGE, CAPPED, SLOWED, SOFT_LIMIT = 1, 2, 4, 8
SINCE_BOOT = 16
# eMMC 5.0 tells its wear in tenths of its life, 0x0B beyond it (JEDEC JESD84-B50, EXT_CSD 267-269).
LIFE_STEP, LIFE_OVER = 0.1, 11


class Wear(msgspec.Struct, frozen=True, kw_only=True):
    """A storage device: ``used`` of its life, 0 to 1, -1 where it does not tell."""

    device: str
    kind: str = ""
    used: float = -1.0
    spare: str = ""
    """normal, warning or urgent: the reserve of spare blocks."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface that could meet another machine."""

    name: str
    up: bool
    wireless: bool = False
    signal_dbm: float = math.nan


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the machine."""

    temperature_c: float = 0.0  # 0 when unknown
    slack_c: float = math.inf  # degrees until it slows itself; infinite when unknown
    throttled: bool = False
    low_voltage: bool = False
    was_throttled: bool = False  # since the boot
    was_low_voltage: bool = False
    power_w: float = 0.0  # 0 when unknown
    battery: float = -1.0  # 0 to 1, -1 when there is none
    discharging: bool = False


def read(root: Path = ROOT) -> Readings:
    """What a running agent looks at every few seconds."""
    flags = firmware_flags(root)
    machine = read_machine(root / "proc", root / "sys")
    return Readings(
        temperature_c=machine.get("temperature_c", 0.0),
        slack_c=slack_c(root),
        throttled=bool(flags & (CAPPED | SLOWED | SOFT_LIMIT)) or _cooled(root),
        low_voltage=bool(flags & LOW_VOLTAGE),
        was_throttled=bool(flags >> SINCE_BOOT & (CAPPED | SLOWED | SOFT_LIMIT)),
        was_low_voltage=bool(flags >> SINCE_BOOT & LOW_VOLTAGE),
        power_w=machine.get("power_w", 0.0),
        battery=machine.get("battery", -1.0),
        discharging=_discharging(root),
    )


def firmware_flags(root: Path) -> int:
    """A Raspberry Pi's get_throttled; 0 on any other machine."""
    told = text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if not told and root == ROOT and (tool := shutil.which("vcgencmd")):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            told = subprocess.run(
                [tool, "get_throttled"],
                capture_output=True,
                text=True,
                timeout=VCGENCMD_S,
                check=False,
            ).stdout.rpartition("=")[2]
    try:
        return int(told.strip() or "0", 16)
    except ValueError:
        return 0


def _cooled(root: Path) -> bool:
    """Whether the kernel holds the processor's clock down (cpufreq as a cooling device)."""
    for device in root.glob("sys/class/thermal/cooling_device*"):
        kind = text(device / "type").lower()
        if ("cpufreq" in kind or kind == "processor") and number(device / "cur_state") > 0:
            return True
    return False


def _discharging(root: Path) -> bool:
    return any(
        text(supply / "type") == "Battery" and text(supply / "status") == "Discharging"
        # A mouse has a battery as well; its scope is "Device".
        for supply in root.glob("sys/class/power_supply/*")
        if text(supply / "scope") != "Device"
    )


# --- What only doctor looks at -----------------------------------------------------------------


def wear(root: Path = ROOT) -> list[Wear]:
    """Every block device that is a card, an eMMC or a drive."""
    found = []
    for block in sorted(root.glob("sys/block/*")):
        if block.name.startswith("mmcblk") and "boot" not in block.name:
            kind = text(block / "device/type")
            steps = [
                int(step, 16)
                for step in text(block / "device/life_time").split()
                if step.startswith("0x")
            ]
            told = max(steps, default=0)
            spare = text(block / "device/pre_eol_info")
            found.append(
                Wear(
                    device=block.name,
                    kind="SD card" if kind == "SD" else "eMMC",
                    used=min(told, LIFE_OVER) * LIFE_STEP if told else -1.0,
                    spare={1: "normal", 2: "warning", 3: "urgent"}.get(_hex(spare), ""),
                )
            )
        elif block.name.startswith(("nvme", "sd", "vd")):
            found.append(Wear(device=block.name, kind="drive"))
    return found


def file_errors(root: Path = ROOT) -> dict[str, int]:
    """Errors that ext4 has met by file system, where there are any."""
    found = {}
    for counter in sorted(root.glob("sys/fs/ext4/*/errors_count")):
        errors = number(counter)
        if math.isfinite(errors) and errors > 0:
            found[counter.parent.name] = int(errors)
    return found


def links(root: Path = ROOT) -> list[Link]:
    """Interfaces but loopback, and how strong a radio's signal is."""
    signals = dict(_signals(root))
    return [
        Link(
            name=folder.name,
            # A tunnel's state is "unknown" while it works.
            up=text(folder / "operstate") in {"up", "unknown"},
            wireless=(folder / "wireless").exists() or folder.name in signals,
            signal_dbm=signals.get(folder.name, math.nan),
        )
        for folder in sorted(root.glob("sys/class/net/*"))
        if folder.name != "lo" and (folder / "operstate").exists()
    ]


def _signals(root: Path) -> Iterator[tuple[str, float]]:
    for line in text(root / "proc/net/wireless").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) > 2:
            with contextlib.suppress(ValueError):
                yield name.strip(), float(fields[2].rstrip("."))


def has_route(root: Path = ROOT) -> bool:
    """Whether there is a way out of this network."""
    rows = [line.split() for line in text(root / "proc/net/route").splitlines()[1:]]
    return any(len(row) > 1 and row[1] == "00000000" for row in rows)


def swap_mb(root: Path = ROOT) -> tuple[float, bool]:
    """Megabytes of swap, and whether any of it is on a card or drive rather than in memory."""
    rows = [line.split() for line in text(root / "proc/swaps").splitlines()[1:]]
    rows = [row for row in rows if len(row) > 2 and row[2].isdecimal()]
    return sum(int(row[2]) for row in rows) / 1024, any("zram" not in row[0] for row in rows)


def text(path: Path) -> str:
    """A file's text without the line's end; empty where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip("\0\n\t ")
    except OSError:
        return ""


def number(path: Path) -> float:
    """A file's number; not a number where there is none (a sensor may be asleep)."""
    try:
        return float(text(path))
    except ValueError:
        return math.nan


def _hex(word: str) -> int:
    try:
        return int(word, 16)
    except ValueError:
        return 0
