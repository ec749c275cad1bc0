"""The machine itself as a sensor: load, memory, temperature, read from the kernel.

``data.gpt/machine/raw`` is a subscription that sends a :class:`~capabilities.messages.Sample`
every so often; ``data.gpt/machine/summary`` says the same in one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.messages import Done, Sample, encode, question_in
from mesh.core.errors import NoSuchName
from mesh.core.records import LIVE, ServedName

RAW = "data.gpt/machine/raw"
SUMMARY = "data.gpt/machine/summary"
MAX_SUBSCRIBERS = 32  # a subscription costs a timer and a reading; a crowd is refused


def read_machine(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> dict[str, float]:
    """One reading: load per core, memory in MB, temperature in degrees Celsius, battery, 0 to 1,
    and the power that the whole machine draws in watts, where known.

    What the kernel does not tell is left out rather than guessed.
    """
    values: dict[str, float] = {}
    cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError, IndexError):
        values["load_per_core"] = round(float((proc / "loadavg").read_text().split()[0]) / cores, 3)
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        lines = (proc / "meminfo").read_text().splitlines()
        memory = {key: int(rest.split()[0]) for key, _, rest in (x.partition(":") for x in lines)}
        values["memory_total_mb"] = memory["MemTotal"] // 1024
        values["memory_free_mb"] = memory["MemAvailable"] // 1024
    hottest = []
    for zone in sys.glob("class/thermal/thermal_zone*/temp"):
        try:
            hottest.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    if hottest:
        values["temperature_c"] = max(hottest)
    for supply in sys.glob("class/power_supply/BAT*/capacity"):
        with contextlib.suppress(OSError, ValueError):
            values["battery"] = min(1.0, max(0.0, int(supply.read_text()) / 100))
    if (power_w := _power_w(sys)) > 0:
        values["power_w"] = round(power_w, 2)
    return values


def _power_w(sys: Path) -> float:
    """What the machine draws: a Jetson's monitor on its inlet (or the sum of its rails where it
    has none there), else a battery that discharges; 0 where nobody tells."""
    for monitor in sys.glob("class/hwmon/hwmon*"):
        with contextlib.suppress(OSError, ValueError):
            if (monitor / "name").read_text().strip() != "ina3221":
                continue
            rails = {}
            for label in monitor.glob("in*_label"):
                number = label.name[2:].partition("_")[0]
                volts = int((monitor / f"in{number}_input").read_text()) / 1000
                amperes = int((monitor / f"curr{number}_input").read_text()) / 1000
                rails[label.read_text().strip()] = volts * amperes
            if found := rails.get("VDD_IN", sum(rails.values())):
                return found
    for supply in sys.glob("class/power_supply/BAT*"):
        with contextlib.suppress(OSError, ValueError):
            if (supply / "status").read_text().strip() != "Discharging":
                continue
            if (supply / "power_now").exists():
                return int((supply / "power_now").read_text()) / 1e6
            volts = int((supply / "voltage_now").read_text()) / 1e6
            return volts * int((supply / "current_now").read_text()) / 1e6
    return 0.0


def sentence(node: str, values: dict[str, float]) -> str:
    """A reading in words."""
    parts = []
    if "load_per_core" in values:
        load = values["load_per_core"]
        word = "idle" if load < 0.3 else "busy" if load < 1.0 else "overloaded"
        parts.append(f"is {word} (load {load:.2f} per core)")
    if "memory_total_mb" in values:
        free, total = values["memory_free_mb"], values["memory_total_mb"]
        parts.append(f"has {free / 1024:.1f} of {total / 1024:.1f} GB of memory free")
    if "temperature_c" in values:
        parts.append(f"is at {values['temperature_c']:.0f} degrees")
    if not parts:
        return f"{node} does not tell how it is."
    return f"{node} " + (", ".join(parts[:-1]) + " and " if parts[1:] else "") + parts[-1] + "."


class MachineCapability(Capability):
    """Offers readings of the machine that the agent runs on."""

    def __init__(self, node: str, period_s: float = 1.0) -> None:
        self._node = node
        self._period_s = period_s
        self._active = 0

    @property
    def names(self) -> Sequence[ServedName]:
        return (
            ServedName(
                name=SUMMARY,
                domain="machine",
                description="How busy this machine is, its free memory and its temperature.",
                examples=(
                    "How busy is this machine?",
                    "How much memory is free?",
                    "What is the load of the computer?",
                ),
                languages=("en",),
                newest=LIVE,
            ),
            ServedName(
                name=RAW,
                domain="machine",
                description="Readings of load, memory and temperature, as they are made.",
                kind="subscribe",
                newest=LIVE,
            ),
        )

    def admit(self, request: Request) -> Admission:
        if self._active >= MAX_SUBSCRIBERS:
            return Admission(
                accepted=False, reason="too many subscribers", retry_after_s=self._period_s
            )
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        self._active += 1
        try:
            if request.name == SUMMARY or (
                request.name == RAW and question_in(request.body) is not None
            ):
                values = await asyncio.to_thread(read_machine)
                yield encode(Done(text=sentence(self._node, values), finish="stop"))
            elif request.name == RAW:
                async for body in self._readings():
                    yield body
            else:
                raise NoSuchName(f"{request.name} is not a reading of the machine")
        finally:
            self._active -= 1

    async def _readings(self) -> AsyncIterator[bytes]:
        while True:  # ended by the subscriber or by the deadline of the stream
            values = await asyncio.to_thread(read_machine)
            yield encode(
                Sample(
                    domain="machine",
                    type="raw",
                    source=self._node,
                    at=time.time(),
                    values=values,
                )
            )
            await asyncio.sleep(self._period_s)

    def occupancy(self) -> Occupancy:
        return Occupancy(slots=MAX_SUBSCRIBERS, inflight=self._active)
