"""What the machine has left for a model: cores, memory, and how warm it is."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
UNKNOWN_BYTES = 1 << 62
BOARD_LIMIT_C = 80.0  # where a Raspberry Pi's firmware begins to lower the clock
LOW_BATTERY = 15  # percent
_HEX = re.compile(r"(0x)?[0-9a-fA-F]+")
# Kinds of trip points, and how far below them the slowing begins.
_TRIPS = {"passive": 0.0, "hot": 0.0, "critical": 10.0}


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that a new process can have: what the system says, and what its control group
    leaves. A very large number where neither can be read."""
    found = [UNKNOWN_BYTES]
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    used = _read(root / "sys/fs/cgroup/memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        # What the group counts as used includes files that give way.
        stat = dict(line.split() for line in _read(root / "sys/fs/cgroup/memory.stat").splitlines())
        files = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
        found.append(max(0, int(limit) - int(used) + files))
    return min(found)


def cool_c(root: Path = Path("/")) -> float:
    """Degrees Celsius until the machine slows itself down for warmth; infinite where no sensor
    says.

    Each zone names its limits itself; a board's firmware has one of its own besides.
    """
    board = (root / "proc/device-tree/model").exists()
    left = math.inf
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        now = _degrees(zone / "temp")
        limits = [BOARD_LIMIT_C] if board else []
        for kind in zone.glob("trip_point_*_type"):
            at = _degrees(kind.with_name(kind.name.replace("_type", "_temp")))
            if at > 0 and (name := _read(kind).strip()) in _TRIPS:
                limits.append(at - _TRIPS[name])
        if now > 0 and limits:
            left = min(left, min(limits) - now)
    return left


def power_short(root: Path = Path("/")) -> bool:
    """Whether the supply is too weak now, or the battery nearly empty and not charging."""
    # A Raspberry Pi's firmware: bit 0 under-voltage, 1 clock capped, 2 slowed down, all of now.
    told = _read(root / "sys/devices/platform/soc/soc:firmware/get_throttled").strip()
    if _HEX.fullmatch(told) and int(told, 16) & 0b111:
        return True
    for monitor in (root / "sys/class/hwmon").glob("hwmon*"):
        if _read(monitor / "name").strip() == "rpi_volt" and (
            _read(monitor / "in0_lcrit_alarm").strip() == "1"
        ):
            return True
    for supply in (root / "sys/class/power_supply").glob("*"):
        left = _read(supply / "capacity").strip()
        if (
            _read(supply / "type").strip() == "Battery"
            and _read(supply / "status").strip() == "Discharging"
            and left.isdecimal()
            and int(left) <= LOW_BATTERY
        ):
            return True
    return False


def slack_c(root: Path = Path("/")) -> float:
    """Degrees left as :func:`cool_c` says; none while the power is short."""
    return 0.0 if power_short(root) else cool_c(root)


def _degrees(path: Path) -> float:
    text = _read(path).strip()
    return int(text) / 1000 if text.lstrip("-").isdecimal() else 0.0


class Neighbours:
    """How many cores all other processes keep busy, from one look to the next."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._last = self._look()

    def busy_cores(self) -> float:
        """Cores busy with others since the last call; 0 where the system does not say."""
        at, everybody, mine = self._look()
        before, everybody_before, mine_before = self._last
        self._last = (at, everybody, mine)
        if at <= before or not everybody:
            return 0.0
        return max(0.0, (everybody - everybody_before - mine + mine_before) / (at - before))

    def _look(self) -> tuple[float, float, float]:
        """Now, seconds of work of all processes, and of this one."""
        first = _read(self._root / "proc/stat").partition("\n")[0].split()
        own = os.times()
        if len(first) < 9 or first[0] != "cpu":
            return self._clock(), 0.0, 0.0
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, first[1:9])
        work = (user + nice + system + irq + soft + steal) / _TICKS_PER_S
        return self._clock(), work, own.user + own.system


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
