"""Anomalies, faults and heart rate on real series, each beside a library of its own field.

``--data`` is a folder with ``city/nab_traffic/*.csv`` and ``anomaly_windows.json`` (Numenta
Anomaly Benchmark), ``city/beijing_air_*.csv`` (UCI Beijing Multi-Site Air Quality) and
``wearable/ppg_*.csv`` (recordings of HeartPy's repository).
"""

from __future__ import annotations

import csv
import json
import random
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from capabilities.sensors.anomaly import AnomalyDetector
from capabilities.sensors.faults import FaultDetector
from capabilities.sensors.ppg import heart_rate

PROBATION = 0.15  # of a series is for learning, as in NAB
EPISODE_S = 6 * 3600.0  # detections closer than this are one alarm
DAY_S = 86_400.0
FAULT_KINDS = ("stuck", "spike", "drift", "range", "dropout")
FAULTS_PER_STATION = 10
MIN_FAULT_H, MAX_FAULT_H = 12, 72
# What parameters may be chosen on; the rest is for evaluation. NAB: the series with most windows.
# Stations: the first half by name.
TUNING_SERIES = frozenset({"TravelTime_387"})
TUNING, EVALUATION = "tuning", "evaluation"
LIBRARY_SHARE = 0.99  # of the scores of the past below which a value is normal, for the library

Series = list[tuple[float, float]]
Span = tuple[float, float]


def f1(hits: int, false: int, missed: int) -> float:
    """The harmonic mean of precision and recall."""
    return round(2 * hits / (2 * hits + false + missed), 3) if hits else 0.0


# -- anomalies of traffic -------------------------------------------------------------------------


def nab(folder: Path) -> list[tuple[str, Series, list[Span]]]:
    """The labelled series with their windows."""
    windows = json.loads((folder / "anomaly_windows.json").read_text())
    found = []
    for name, spans in windows.items():
        file = folder / Path(name).name
        with file.open(newline="") as opened:
            series = [
                (_at(row["timestamp"]), float(row["value"])) for row in csv.DictReader(opened)
            ]
        found.append((file.stem, series, [(_at(a), _at(b)) for a, b in spans]))
    return found


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _alarms(times: Sequence[float]) -> list[Span]:
    """Detections as episodes."""
    spans: list[Span] = []
    for at in times:
        if spans and at - spans[-1][1] <= EPISODE_S:
            spans[-1] = (spans[-1][0], at)
        else:
            spans.append((at, at))
    return spans


def _judge(alarms: list[Span], windows: list[Span]) -> tuple[int, int, int]:
    """Windows that were hit, alarms outside of all, windows that were missed."""
    hit = sum(any(a <= end and b >= start for a, b in alarms) for start, end in windows)
    false = sum(not any(a <= end and b >= start for start, end in windows) for a, b in alarms)
    return hit, false, len(windows) - hit


def our_alarms(series: Series) -> list[float]:
    """When the detector says that something is unusual; its defaults, no label seen."""
    detector = AnomalyDetector()
    return [at for at, value in series if detector.add(at, value).anomalous]


def river_alarms(series: Series) -> list[float]:
    """The same by river's half-space trees with hour of day, and a quantile filter."""
    from river import anomaly, compose, preprocessing

    model = compose.Pipeline(
        preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(n_trees=25, window_size=250, seed=1)
    )
    scores: list[float] = []
    found = []
    for at, value in series:
        features = {"value": value, "hour": at % DAY_S / 3600.0}
        score = model.score_one(features)
        limit = scores[int(LIBRARY_SHARE * len(scores))] if len(scores) >= 250 else 1.0
        if score > limit:
            found.append(at)
        scores.insert(bisect_left(scores, score), score)
        model.learn_one(features)
    return found


def traffic(folder: Path) -> dict[str, Any]:
    """F1 over the labelled windows of all series, ours and the library's."""
    totals = {
        half: {"ours": [0, 0, 0], "library": [0, 0, 0]} for half in (TUNING, EVALUATION, "all")
    }
    by_series: dict[str, Any] = {}
    detectors: dict[str, Callable[[Series], list[float]]] = {
        "ours": our_alarms,
        "library": river_alarms,
    }
    for name, series, windows in nab(folder):
        after = series[int(PROBATION * len(series))][0]
        for who, detect in detectors.items():
            alarms = _alarms([at for at in detect(series) if at >= after])
            counted = _judge(alarms, [w for w in windows if w[1] >= after])
            half = TUNING if name in TUNING_SERIES else EVALUATION
            for group in (half, "all"):
                _add(totals[group], who, counted)
            by_series.setdefault(name, {})[who] = dict(
                zip(("hit", "false", "missed"), counted, strict=True)
            )
    return {
        "f1": f1(*totals["all"]["ours"]),
        "library_f1": f1(*totals["all"]["library"]),
        "windows": sum(totals["all"]["ours"][::2]),
        "halves": _halves(totals),
        "series": by_series,
    }


def _add(totals: dict[str, list[int]], who: str, counted: Sequence[int]) -> None:
    before = totals.get(who, [0, 0, 0])
    totals[who] = [a + b for a, b in zip(before, counted, strict=True)]


def _halves(totals: dict[str, dict[str, list[int]]]) -> dict[str, Any]:
    """F1 and counts of the series that may be tuned on, and of those that may not."""
    return {
        half: {
            who: {"f1": f1(*counted), **dict(zip(("hit", "false", "missed"), counted, strict=True))}
            for who, counted in totals[half].items()
        }
        for half in (TUNING, EVALUATION)
    }


# -- faults of air stations -----------------------------------------------------------------------


def stations(folder: Path, column: str, hours: int) -> dict[str, list[float | None]]:
    """The hourly values of every station, None where there is none."""
    found: dict[str, list[float | None]] = {}
    for file in sorted(folder.glob("beijing_air_*.csv")):
        with file.open(newline="") as opened:
            rows = [row[column] for row in csv.DictReader(opened)][:hours]
        found[file.stem.removeprefix("beijing_air_")] = [
            None if text == "NA" else float(text) for text in rows
        ]
    return found


def inject(
    values: list[float | None], rng: random.Random
) -> tuple[list[float | None], list[tuple[str, int, int]]]:
    """The series with faults put in: what the sensor says then, and (kind, first, end) of each."""
    made = list(values)
    faults = []
    room = (len(values) - 1000) // FAULTS_PER_STATION
    spread = median(abs(v - w) for v, w in zip(values, values[24:], strict=False) if v and w) or 1.0
    for number in range(FAULTS_PER_STATION):
        kind = FAULT_KINDS[number % len(FAULT_KINDS)]
        first = 800 + number * room + rng.randrange(room // 2)
        length = 1 if kind == "spike" else rng.randint(MIN_FAULT_H, MAX_FAULT_H)
        end = first + length
        held = next((v for v in values[first::-1] if v is not None), 0.0)
        for hour in range(first, end):
            true = made[hour]
            if kind == "dropout":
                made[hour] = None
            elif kind == "stuck":
                made[hour] = held
            elif true is None:
                continue
            elif kind == "spike":
                made[hour] = true + rng.choice((8, 12)) * spread
            elif kind == "drift":
                made[hour] = true + 4 * spread * (hour - first + 1) / length
            else:
                made[hour] = rng.choice((-5.0, 5000.0))
        faults.append((kind, first, end))
    return made, faults


def air(folder: Path, *, quick: bool, seed: int) -> dict[str, Any]:
    """F1 of faults found, ours with the neighbours and alone, and the library's."""
    known = stations(folder, "PM2.5", 4400 if quick else 8760)
    rng = random.Random(seed)
    names = sorted(known)[: 2 if quick else None]
    totals: dict[str, dict[str, list[int]]] = {half: {} for half in (TUNING, EVALUATION, "all")}
    kinds: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        half = TUNING if number < len(names) / 2 else EVALUATION
        made, faults = inject(known[name], rng)
        # Gaps that the station had by itself are no false alarms, nor hits.
        own_gaps = {hour for hour, value in enumerate(known[name]) if value is None}
        neighbours = [
            _middle([known[other][hour] for other in known if other != name])
            for hour in range(len(made))
        ]
        for who, flagged in (
            ("with_neighbours", _our_faults(made, neighbours)),
            ("alone", _our_faults(made, None)),
            ("library", _river_faults(made)),
        ):
            counted, found = _count(flagged, faults, own_gaps)
            for group in (half, "all"):
                _add(totals[group], who, counted)
            if who == "with_neighbours":
                for (kind, _, _), hit in zip(faults, found, strict=True):
                    of = kinds.setdefault(kind, [0, 0])
                    of[0] += hit
                    of[1] += 1
    return {
        "f1": f1(*totals["all"]["with_neighbours"]),
        "f1_alone": f1(*totals["all"]["alone"]),
        "library_f1": f1(*totals["all"]["library"]),
        "halves": _halves(totals),
        "counts": {
            who: dict(zip(("hit", "false", "missed"), counted, strict=True))
            for who, counted in totals["all"].items()
        },
        "found_by_kind": {kind: f"{hit} of {of}" for kind, (hit, of) in kinds.items()},
    }


def _middle(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if len(there) >= 2 else None


def _our_faults(made: list[float | None], neighbours: list[float | None] | None) -> list[int]:
    detector = FaultDetector(_air_range())
    flagged = []
    for hour, value in enumerate(made):
        at = hour * 3600.0
        if value is None:
            if detector.silent(at) is not None:
                flagged.append(hour)
            continue
        reference = None if neighbours is None else neighbours[hour]
        faults = [f for f in detector.add(at, value, reference) if f.kind != "dropout"]
        if faults:
            flagged.append(hour)
    return flagged


def _air_range() -> Any:
    from capabilities.sensors.faults import FaultConfig

    return FaultConfig(low=0.0, high=1000.0)  # what such a monitor can measure, in ug/m3


def _river_faults(made: list[float | None]) -> list[int]:
    held, series = 0.0, []
    for hour, value in enumerate(made):
        held = held if value is None else value  # the library takes no gaps
        series.append((hour * 3600.0, held))
    return [round(at / 3600.0) for at in river_alarms(series)]


def _count(
    flagged: list[int], faults: list[tuple[str, int, int]], own_gaps: set[int]
) -> tuple[tuple[int, int, int], list[bool]]:
    """Faults that were found within their hours and six after, and alarms outside of all."""
    spans = [(first * 3600.0, (end + 6) * 3600.0) for _, first, end in faults]
    hours = [hour for hour in flagged if hour >= 700 and hour not in own_gaps]
    alarms = _alarms([hour * 3600.0 for hour in hours])
    hit, false, missed = _judge(alarms, spans)
    found = [any(a <= end and b >= start for a, b in alarms) for start, end in spans]
    return (hit, false, missed), found


# -- heart rate -----------------------------------------------------------------------------------

STRETCH_S = 24.0
RING_HZ = 32.0


def recordings(folder: Path) -> Iterator[tuple[str, list[float], float]]:
    """The recordings with their sampling rates."""
    with (folder / "ppg_100hz.csv").open() as file:
        yield "100hz", [float(line) for line in file], 100.0
    with (folder / "ppg_2.csv").open(newline="") as file:
        rows = [(float(row["timer"]), float(row["hr"])) for row in csv.DictReader(file)]
    yield "2", [value for _, value in rows], 1000.0 * (len(rows) - 1) / (rows[-1][0] - rows[0][0])
    with (folder / "ppg_ring.csv").open() as file:
        texts = [line.strip().strip('"') for line in file]
    held, ring = 0.0, []
    for text in texts:
        held = float(text) if text else held
        ring.append(held)
    yield "ring", ring, RING_HZ


def hearts(folder: Path) -> dict[str, Any]:
    """The distance from HeartPy's rate, over the stretches that both believe.

    HeartPy believes a stretch when it rejects at most a tenth of its beats, we when the quality is
    high enough. Neither is the truth: no electrocardiogram was recorded beside these.
    """
    import heartpy
    import numpy as np

    apart: list[float] = []
    by_recording: dict[str, Any] = {}
    for name, samples, hz in recordings(folder):
        size = int(STRETCH_S * hz)
        here: list[float] = []
        ours_only = theirs_only = neither = 0
        for first in range(0, len(samples) - size + 1, size):
            stretch = np.asarray(samples[first : first + size])
            own = heart_rate(stretch, hz)
            theirs = _heartpy(heartpy, stretch, hz)
            if own.believed and theirs is not None:
                here.append(abs(own.bpm - theirs))
            elif own.believed:
                ours_only += 1
            elif theirs is not None:
                theirs_only += 1
            else:
                neither += 1
        apart += here
        by_recording[name] = {
            "both": len(here),
            "mae_bpm": round(sum(here) / len(here), 2) if here else None,
            "worst_bpm": round(max(here), 2) if here else None,
            "only_ours_believed": ours_only,
            "only_heartpy_believed": theirs_only,
            "neither": neither,
        }
    return {
        "mae_bpm": round(sum(apart) / len(apart), 2) if apart else None,
        "within_3_share": round(sum(a <= 3 for a in apart) / len(apart), 3) if apart else None,
        "stretches": len(apart),
        "recordings": by_recording,
    }


def _heartpy(heartpy: Any, stretch: Any, hz: float) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            working, measures = heartpy.process(heartpy.scale_data(stretch), hz)
        except Exception:  # its way to say that there is no pulse
            return None
    rejected = len(working["removed_beats"]) / max(1, len(working["peaklist"]))
    rate = float(measures["bpm"])
    return rate if rejected <= 0.1 and rate == rate else None
