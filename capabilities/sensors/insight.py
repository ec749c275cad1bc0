"""What a window of readings means, in figures and in sentences, without the readings. Pure.

The sentences are facts: each comes from a rule (a public standard, a median, a test for trend). A
model may put them in other words; a figure that is not among them is not believed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec

from capabilities.data.robust import mann_kendall, theil_sen
from capabilities.data.titles import title
from capabilities.sensors.anomaly import AnomalyConfig, AnomalyDetector
from capabilities.sensors.faults import Fault, FaultConfig, FaultDetector
from capabilities.sensors.ppg import heart_rate
from capabilities.sensors.series import fill, resample
from capabilities.standards.air_quality import CATEGORIES, POLLUTANTS
from capabilities.standards.vitals import LEVELS, PARAMETERS, score

SURE = 1.96  # standard deviations: a trend that chance makes in 5 % of steady series
TREND_POINTS = 48  # Theil and Sen look at all pairs
SHORT_GAP = 2  # periods that are filled in
HOUR_S = 3600.0
MAX_QUANTITIES = 32
MAX_READINGS = 20_000  # of one quantity in a window
PPG_S = 30.0  # of the curve that a heart rate is taken from
STANDARDS = tuple(f"air_quality.{key}" for key in POLLUTANTS) + tuple(
    f"vitals.{key}" for key in PARAMETERS
)


@dataclass(frozen=True)
class InsightConfig:
    """How a feed is looked at; the fields are those of ``[[insight]]``."""

    quantities: tuple[str, ...] = ()
    window_s: float = 3600.0
    period_s: float = 60.0
    season_s: float = 0.0
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    ppg: str = ""
    ppg_hz: float = 0.0


class Insight(msgspec.Struct, frozen=True, kw_only=True):
    """``values`` are figures that may leave the node, ``facts`` sentences that say the same."""

    at: float
    values: dict[str, float]
    facts: list[str]
    faulty: list[str] = []  # quantities whose sensor is at fault now
    unusual: list[str] = []


@dataclass
class _Quantity:
    readings: deque[tuple[float, float]]
    anomaly: AnomalyDetector
    faults: FaultDetector
    unusual: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=256))
    faulty: deque[Fault] = field(default_factory=lambda: deque(maxlen=256))
    slot: int = -1
    inside: list[float] = field(default_factory=list)


class InsightBook:
    """The readings of one key of one feed. They are held in memory for the window, and nowhere
    else by this."""

    def __init__(self, config: InsightConfig) -> None:
        self.config = config
        self._known: dict[str, _Quantity] = {}

    def add(self, at: float, values: Mapping[str, float]) -> None:
        """Readings of one moment (wall seconds), in order of time."""
        for name, value in values.items():
            if self.config.quantities and name not in self.config.quantities:
                continue
            known = self._known.get(name)
            if known is None:
                if len(self._known) >= MAX_QUANTITIES:
                    continue
                known = self._known[name] = self._new(name)
            if known.readings and at <= known.readings[-1][0]:
                continue  # told twice, or late: the window is in order
            if name == self.config.ppg:
                known.readings.append((at, value))
            else:
                self._judge(known, at, value)

    def _new(self, name: str) -> _Quantity:
        config = self.config
        return _Quantity(
            deque(maxlen=MAX_READINGS),
            AnomalyDetector(AnomalyConfig(season_s=config.season_s)),
            FaultDetector(
                FaultConfig(
                    low=config.low.get(name, -math.inf), high=config.high.get(name, math.inf)
                )
            ),
        )

    def _judge(self, known: _Quantity, at: float, value: float) -> None:
        faults = known.faults.add(at, value)
        known.faulty.extend(faults)
        if any(fault.kind == "spike" for fault in faults) and known.readings:
            known.readings.pop()  # the one before this: it is told when the next is there
            known.inside = known.inside[:-1]
        if any(fault.kind == "range" for fault in faults):
            return  # not a measurement
        known.readings.append((at, value))
        slot = math.floor(at / self.config.period_s)
        if slot != known.slot and known.inside:
            verdict = known.anomaly.add(known.slot * self.config.period_s, median(known.inside))
            if verdict.anomalous:
                known.unusual.append((at, verdict.kind))
            known.inside = []
        known.slot = slot
        known.inside.append(value)

    def insight(self, now: float) -> Insight | None:
        """What the window up to ``now`` means; None when there is nothing in it."""
        values: dict[str, float] = {}
        facts: list[str] = []
        faulty: list[str] = []
        unusual: list[str] = []
        middles: dict[str, float] = {}
        for name in sorted(self._known):
            known = self._known[name]
            while known.readings and known.readings[0][0] < now - self.config.window_s:
                known.readings.popleft()
            if name == self.config.ppg:
                self._pulse(known, values, facts, middles)
                continue
            wrong = self._wrong(known, now)
            if wrong is not None:
                faulty.append(name)
                values[f"{name}_faulty"] = 1.0
                facts.append(f"The sensor of {title(name)} is at fault: {wrong}.")
                continue
            if known.readings:
                middles[name] = self._plain(name, known, now, values, facts)
            recent = [k for at, k in known.unusual if at >= now - self.config.window_s]
            if recent:
                unusual.append(name)
                values[f"{name}_unusual"] = float(len(recent))
                word = "A level" if "shift" in recent else "A value"
                facts.append(f"{word} of {title(name)} is unusual for this time.")
        facts += self._standards(middles, values)
        if not facts:
            return None
        return Insight(at=now, values=values, facts=facts, faulty=faulty, unusual=unusual)

    def _wrong(self, known: _Quantity, now: float) -> str | None:
        """Why this sensor cannot be believed now."""
        silent = known.faults.silent(now)
        if silent is not None:
            return silent.note
        recent = [f for f in known.faulty if f.at >= now - self.config.window_s]
        inside = sum(at >= now - self.config.window_s for at, _ in known.readings)
        lasting = [f for f in recent if f.kind in {"stuck", "drift"}]
        if lasting:
            return f"{lasting[-1].kind}, {lasting[-1].note}"
        wild = [f for f in recent if f.kind in {"range", "spike"}]
        # A spike now and then is cut out; a sensor that does it in a tenth of its readings is ill.
        if wild and len(wild) > (len(wild) + inside) / 10:
            return f"{len(wild)} wild values, such as {wild[-1].note}"
        return None

    def _plain(
        self,
        name: str,
        known: _Quantity,
        now: float,
        values: dict[str, float],
        facts: list[str],
    ) -> float:
        config = self.config
        times = [at for at, _ in known.readings]
        readings = [value for _, value in known.readings]
        start = max(now - config.window_s, times[0])
        count = min(MAX_READINGS, max(1, math.ceil((now - start) / config.period_s)))
        slots = resample(times, readings, start=start, period_s=config.period_s, count=count)
        measured = [value for value in slots if value is not None]
        middle = median(measured or readings)
        values[name] = rounded(middle)
        values[f"{name}_low"], values[f"{name}_high"] = min(readings), max(readings)
        missing = 1.0 - len(measured) / count
        if missing > 0.5 and count >= 4:
            values[f"{name}_missing_share"] = round(missing, 2)
        slope, trend = _trend(fill(slots, SHORT_GAP), config.period_s)
        values[f"{name}_per_h"] = rounded(slope)
        text = f"{title(name)} was {rounded(middle):g}"
        if min(readings) < max(readings):
            text += f", between {min(readings):g} and {max(readings):g}"
        facts.append(f"{text}, {trend}.")
        return middle

    def _pulse(
        self,
        known: _Quantity,
        values: dict[str, float],
        facts: list[str],
        middles: dict[str, float],
    ) -> None:
        times = [at for at, _ in known.readings]
        if len(times) < 2:
            return
        steps = (times[-1] - times[0]) / (len(times) - 1)
        sample_hz = self.config.ppg_hz or 1.0 / max(steps, 1e-6)
        curve = [value for _, value in known.readings][-int(PPG_S * sample_hz) :]
        try:
            found = heart_rate(curve, sample_hz)
        except ValueError as error:
            facts.append(f"There is no heart rate: {error}.")
            return
        values["heart_rate_quality"] = found.quality
        if found.believed:
            values["heart_rate_bpm"] = round(found.bpm, 1)
            values["heart_rate_rmssd_ms"] = round(found.rmssd_ms, 1)
            middles["heart_rate_bpm"] = found.bpm
            facts.append(f"Heart rate was {found.bpm:.0f} per minute.")
        else:
            facts.append("The heart rate cannot be told: the signal is not clear enough.")

    def _standards(self, middles: Mapping[str, float], values: dict[str, float]) -> list[str]:
        facts = []
        observed: dict[str, float] = {}
        for name, rule in self.config.rules.items():
            if name not in middles:
                continue
            standard, _, key = rule.partition(".")
            if standard == "air_quality":
                pollutant = POLLUTANTS[key]
                index = pollutant.index(max(0.0, middles[name]))
                category = CATEGORIES[pollutant.category(max(0.0, middles[name]))]
                values[f"{name}_aqi"] = float(index)
                facts.append(
                    f"{pollutant.title} at this level is air quality index {index}, {category}."
                )
            elif middles[name] >= 0:
                observed[key] = middles[name]
        if observed:
            news = score(observed)
            values["news2"] = float(news.total)
            partly = f", from {len(news.points)} of 7 parameters" if news.partial else ""
            facts.append(f"NEWS2 is {news.total} ({LEVELS[news.level]} risk{partly}).")
        return facts


def rounded(value: float) -> float:
    """To four significant figures: more says nothing about a median of a window."""
    return float(f"{value:.4g}")


def _trend(slots: Sequence[float | None], period_s: float) -> tuple[float, str]:
    """Slope per hour of the periods that are known, and whether it is sure."""
    step = max(1, math.ceil(len(slots) / TREND_POINTS))
    points = [
        (place * period_s, value)
        for place, value in enumerate(slots)
        if value is not None and place % step == 0
    ]
    if len(points) < 5:
        return 0.0, "steady"
    times, values = [t for t, _ in points], [v for _, v in points]
    slope = HOUR_S * theil_sen(times, values)
    sure = mann_kendall(times, values)
    word = "steady" if abs(sure) < SURE or slope == 0 else "rising" if slope > 0 else "falling"
    return slope, word
