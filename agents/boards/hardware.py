"""What doctor finds about the board itself: warmth, power, storage, clock, network.

Each check takes the root of the files that it reads, so that a folder can stand for a board.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from agents.boards import readings
from agents.boards.checks import FAIL, OK, WARN, Check
from agents.boards.profiles import choose, look
from agents.boards.readings import ROOT
from mesh.net.kernel_clock import is_unsynchronised

HOT_C = 80.0  # where no zone names its own limit: a Raspberry Pi throttles from here on
WORN = 0.8  # of an eMMC's life: from here on its maker expects blocks to fail
WEAK_DBM = -75.0  # below it a wireless link repeats more than it sends
MIN_YEAR = 2025  # a clock before the first release is a board without a clock chip
_APT = "sudo apt install"


def check_board(root: Path = ROOT) -> Check:
    """Which board this is, and what suits it."""
    board = look(root)
    profile = choose(board)
    parts = [board.model or "computer", f"profile {profile.name}"]
    if board.tegra:
        parts.append(f"Jetson Linux {board.tegra}")
    if board.tegra and not board.cuda:
        return Check(
            name="board",
            status=WARN,
            value=", ".join(parts),
            advice=f"for the GPU: {_APT} nvidia-jetpack, then run install.sh again; it compiles "
            "llama.cpp with CUDA",
        )
    parts.append(f"models up to {profile.size.file_mb} MB, {profile.size.slots} slot(s)")
    return Check(name="board", status=OK, value=", ".join(parts))


def check_temperature(root: Path = ROOT) -> Check:
    """The hottest sensor, against the machine's own limit, and whether it is slowed."""
    seen = readings.read(root)
    if seen.temperature_c <= 0 and not (seen.throttled or seen.low_voltage):
        return Check(name="temperature", status=OK, value="no sensor")
    value = f"{seen.temperature_c:.0f} C"
    if math.isfinite(seen.slack_c):
        value += f", slows at {seen.temperature_c + max(0.0, seen.slack_c):.0f} C"
    hot = seen.slack_c <= 0 if math.isfinite(seen.slack_c) else seen.temperature_c >= HOT_C
    if seen.throttled:
        value += ", slowed now"
    elif seen.was_throttled:
        value += ", was slowed since the boot"
    if seen.throttled or hot:
        advice = "the processor is or will be slowed: give it a heat sink or a fan"
        return Check(name="temperature", status=WARN, value=value, advice=advice)
    if seen.was_throttled:
        advice = "under work it gets too hot: give it a heat sink or a fan"
        return Check(name="temperature", status=WARN, value=value, advice=advice)
    return Check(name="temperature", status=OK, value=value)


def check_power(root: Path = ROOT) -> Check:
    """The supply, the battery, and what is drawn."""
    seen = readings.read(root)
    parts = [f"{seen.power_w:.1f} W"] if seen.power_w else []
    if seen.battery >= 0:
        doing = "discharging" if seen.discharging else "on its supply"
        parts.append(f"battery {seen.battery:.0%}, {doing}")
    value = ", ".join(parts) or "not told"
    advice = ""
    if seen.low_voltage or seen.was_low_voltage:
        value += ", voltage low now" if seen.low_voltage else ", voltage was low since the boot"
        advice = "the supply voltage is too low: use the board's own power supply and a short cable"
    elif seen.discharging and 0 <= seen.battery < 0.3:
        advice = "charge it: below 30 % this node takes half of the work, below 10 % none"
    return Check(name="power", status=WARN if advice else OK, value=value, advice=advice)


def check_swap(root: Path = ROOT) -> Check:
    """A small board wants swap in memory, and none on its card."""
    size_mb, on_disk = readings.swap_mb(root)
    value = f"{size_mb:.0f} MB{' on a card or drive' if on_disk else ''}" if size_mb else "none"
    cards = any(one.kind == "SD card" for one in readings.wear(root))
    if on_disk and cards:
        advice = (
            f"swapping wears the card out and stalls answers: {_APT} zram-tools, and turn it off"
        )
        return Check(name="swap", status=WARN, value=value, advice=advice)
    if not size_mb and look(root).memory_mb < 1024:
        advice = f"little memory and no swap, so a spike ends the agent: {_APT} zram-tools"
        return Check(name="swap", status=WARN, value=value, advice=advice)
    return Check(name="swap", status=OK, value=value)


def check_storage(root: Path = ROOT) -> Check:
    """Wear that eMMC tells, and errors that the file system met."""
    devices = readings.wear(root)
    errors = readings.file_errors(root)
    parts = []
    for one in devices:
        used = f"{one.used:.0%} of its life used" if one.used >= 0 else "tells no wear"
        parts.append(f"{one.device} {one.kind}: {used}" if one.kind != "drive" else one.device)
    worn = [one.device for one in devices if one.used >= WORN or one.spare in {"warning", "urgent"}]
    value = "; ".join(parts) or "no block device seen"
    if errors:
        total = sum(errors.values())
        return Check(
            name="storage",
            status=WARN,
            value=f"{value}; {total} error(s) on {', '.join(errors)}",
            advice="copy the state directory to another card, then check the file system (fsck)",
        )
    if worn:
        return Check(
            name="storage",
            status=WARN,
            value=value,
            advice=f"{', '.join(worn)} is near its end: move the state directory to other storage",
        )
    return Check(name="storage", status=OK, value=value)


def check_clock(now: float | None = None, root: Path = ROOT) -> Check:
    """The year, and whether anybody keeps the clock right."""
    wall = time.time() if now is None else now
    value = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall))
    if time.gmtime(wall).tm_year < MIN_YEAR:
        return Check(
            name="clock",
            status=FAIL,
            value=value,
            # Certificates are not valid yet for a board that believes it is 1970.
            advice=f"set the clock: {_APT} systemd-timesyncd, or sudo date -s '...'",
        )
    loose = (
        is_unsynchronised()
        if root == ROOT
        else not (root / "run/systemd/timesync/synchronized").exists()
    )
    chip = any(root.glob("sys/class/rtc/rtc*"))
    value += ", kept by a time server" if not loose else ", kept by nobody"
    if loose and not chip:
        return Check(
            name="clock",
            status=WARN,
            value=value + ", and no clock chip",
            advice="after a power cut it is wrong until a peer corrects it: "
            f"{_APT} systemd-timesyncd, or add a clock chip",
        )
    return Check(name="clock", status=OK, value=value)


def check_network(root: Path = ROOT) -> Check:
    """Interfaces over which another machine could be met."""
    found = readings.links(root)
    up = [link for link in found if link.up]
    if not up:
        down = f" ({', '.join(link.name for link in found)} down)" if found else ""
        return Check(
            name="network",
            status=WARN,
            value=f"loopback only{down}",
            advice="a mesh on this machine works; to meet others, connect it to a network",
        )
    told = []
    for link in up:
        signal = f" {link.signal_dbm:.0f} dBm" if math.isfinite(link.signal_dbm) else ""
        told.append(link.name + signal)
    value = ", ".join(told)
    if any(link.signal_dbm < WEAK_DBM for link in up):
        advice = "the radio's signal is weak: move it, or use a cable"
        return Check(name="network", status=WARN, value=value, advice=advice)
    if not readings.has_route(root):
        value += ", no way out of this network"  # a mesh needs none
    return Check(name="network", status=OK, value=value)
