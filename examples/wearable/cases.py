"""What happens to Anna in each case, as her sensors tell it. Pure; only the pulse wave is real.

Every case is a session of its own: the key of all its feeds. A faster pulse is the recording played
faster; the other series are generated, with a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

WAVE_HZ = 100.0
STRETCH = 200  # samples in a message: two seconds
READINGS, STEP_S = 30, 60.0  # half an hour, a reading a minute
SEED = 20260


@dataclass(frozen=True)
class Case:
    """``tempo`` 1 plays the recording as it was, at some 59 beats a minute; pairs are the first
    and the last value of half an hour. ``ring_pulse`` 0: the ring tells none."""

    session: str
    title: str
    feeling: str
    tempo: float = 1.2
    spo2: tuple[float, float] = (97.5, 97.0)
    temperature: tuple[float, float] = (36.7, 36.7)
    breaths: tuple[float, float] = (14.5, 15.0)
    asleep_h: float = 7.4
    steps: int = 6800
    co2: tuple[float, float] = (650.0, 700.0)
    pm25: tuple[float, float] = (6.0, 7.0)
    ring_pulse: float = 0.0
    without: tuple[str, ...] = ()
    """Devices that are not there."""


CALM = Case("calm", "A calm day", "I feel fine and slept well.")
EVENING = (
    Case("evening-18h", "The evening, 18:00", "I feel fine.", tempo=1.4, steps=7900),
    Case(
        "evening-20h",
        "The evening, 20:00",
        "I feel hot and tired.",
        tempo=1.65,
        spo2=(96.0, 94.6),
        temperature=(37.6, 38.3),
        breaths=(18.0, 20.0),
        steps=8000,
        asleep_h=5.2,
        co2=(1300.0, 1900.0),
    ),
    Case(
        "evening-22h",
        "The evening, 22:00",
        "I am hot and short of breath.",
        tempo=2.0,
        spo2=(93.6, 91.8),
        temperature=(38.6, 39.3),
        breaths=(23.0, 26.0),
        steps=8020,
        asleep_h=5.2,
        co2=(1500.0, 2100.0),
    ),
)
MISSING = Case(
    "without-ring", "The ring is flat", "I am dizzy when standing up.", without=("ring",)
)
CONTRADICTION = Case(
    "contradiction", "The ring contradicts the watch", "I feel fine.", ring_pulse=134.0
)
AWAY = Case("away", "Out of the house", "I feel good.", without=("hub",))


@dataclass(frozen=True)
class Played:
    """Messages of one device, and how many readings its feeds then hold."""

    device: str
    messages: list[tuple[str, bytes]]
    expected: dict[str, int]


def play(case: Case, wave: Sequence[float], now: float) -> list[Played]:
    """What the sensors of a case say up to ``now`` (wall seconds), by device."""
    rng = random.Random(f"{SEED} {case.session}")
    root = f"wearable/{case.session}"

    def series(pair: tuple[float, float], noise: float, digits: int) -> list[float]:
        first, last = pair
        return [
            round(first + (last - first) * n / (READINGS - 1) + rng.gauss(0.0, noise), digits)
            for n in range(READINGS)
        ]

    def told(topic: str, columns: dict[str, list[float]]) -> list[tuple[str, bytes]]:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        times = [now - (len(rows) - 1 - n) * STEP_S for n in range(len(rows))]
        return [
            (topic, _json({**row, "n": n + 1, "ts": round(at, 3)}))
            for n, (row, at) in enumerate(zip(rows, times, strict=True))
        ]

    ring = {
        "spo2_percent": [min(99.9, v) for v in series(case.spo2, 0.3, 1)],
        "temperature_c": series(case.temperature, 0.06, 2),
    }
    if case.ring_pulse:
        ring["pulse_bpm"] = series((case.ring_pulse, case.ring_pulse), 1.5, 0)
    steps = [float(case.steps - (READINGS - 1 - n) * 3 + rng.randrange(3)) for n in range(READINGS)]
    curve = faster(wave, case.tempo)
    stretches = [curve[at : at + STRETCH] for at in range(0, len(curve), STRETCH)]
    waves = []
    for number, stretch in enumerate(stretches):
        left_s = (len(curve) - number * STRETCH - len(stretch)) / WAVE_HZ
        body = {"ppg": stretch, "n": number + 1, "ts": round(now - left_s, 3)}
        waves.append((f"{root}/watch/wave", _json(body)))
    walked = told(f"{root}/watch/steps", {"steps_today": steps})
    room = {
        "co2_ppm": series(case.co2, 12.0, 0),
        "pm25_ug_m3": [max(0.1, v) for v in series(case.pm25, 0.4, 1)],
        "room_c": series((21.0, 21.4), 0.1, 1),
    }
    played = [
        Played("watch", waves + walked, {"heart": len(curve), "activity": READINGS}),
        Played("ring", told(f"{root}/ring", ring), {"finger": READINGS}),
        Played(
            "patch",
            told(f"{root}/patch", {"breaths_per_min": series(case.breaths, 0.5, 1)}),
            {"breath": READINGS},
        ),
        Played(
            "hub",
            told(f"{root}/home/room", room)
            + told(f"{root}/home/sleep", {"asleep_h": [case.asleep_h]}),
            {"room": READINGS, "sleep": 1},
        ),
    ]
    return [one for one in played if one.device not in case.without]


def faster(wave: Sequence[float], tempo: float) -> list[float]:
    """The same curve at another tempo, by linear interpolation."""
    count = int((len(wave) - 1) / tempo)
    made = []
    for n in range(count):
        place = n * tempo
        low = int(place)
        made.append(round(wave[low] + (wave[low + 1] - wave[low]) * (place - low), 1))
    return made


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
