"""Several stations become one picture, with where each part of it is from. Pure.

Each *node* has one voice, however many stations it says it has: a certificate cannot be made up,
a station can. The common value is the weighted median, so it holds while fewer than half of the
nodes lie; who lies far from it is named, and has no part in trend and spread. What nobody has
confirmed for ``stale_s`` is shown, called stale, and not counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from capabilities.data.messages import MAX_STATIONS, Quantity, StationSays, View
from capabilities.data.robust import (
    OUTLYING,
    cusum,
    hampel,
    mad_std,
    mann_kendall,
    theil_sen,
    weighted_median,
)
from capabilities.messages import Sample

MAJORITY = 3  # nodes; two that contradict each other cannot tell who is wrong
MIN_TREND = 5  # readings; fewer make no trend
SURE = 1.96  # standard deviations: 95 %, two-sided
FUTURE_S = 60.0  # a station whose clock is ahead by more is as wrong as a stale one
HOUR_S = 3600.0


@dataclass(frozen=True)
class ViewConfig:
    """How a view is made."""

    stale_s: float = 900.0
    """A reading older than this has no voice. Above the period of the slowest station."""

    window: int = 48
    """Readings per station for trend and change; the slope costs their square."""

    floor_share: float = 0.05
    """The least robust standard deviation over the stations, as a share of the common value:
    stations that agree to the digit must not make an outlier of one that differs by the next."""

    quantities: tuple[str, ...] = ()
    """Which readings; empty: all that come, up to the cap of a sample."""

    max_quantities: int = 16
    """A node that makes up readings must not grow the view for ever."""


@dataclass
class _Station:
    node: str
    series: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)


class StationBook:
    """The readings of all stations that are followed; :meth:`view` is what they say together."""

    def __init__(self, domain: str, config: ViewConfig | None = None) -> None:
        self.domain = domain
        self.config = config or ViewConfig()
        self.counters: Counter[str] = Counter()
        self._stations: dict[tuple[str, str], _Station] = {}
        self._names: set[str] = set()

    def add(self, node: str, key: str, sample: Sample) -> None:
        """A reading of the station ``key`` of ``node``. One that is not newer than what is known
        of it is passed over. An empty key is the node itself."""
        key = key or node
        station = self._stations.get((node, key))
        if station is None:
            if len(self._stations) >= MAX_STATIONS:
                self.counters["stations_refused"] += 1
                return
            station = self._stations[(node, key)] = _Station(node)
        for name, value in sample.values.items():
            if not self._wanted(name):
                continue
            series = station.series.setdefault(name, deque(maxlen=self.config.window))
            if series and sample.at <= series[-1][0]:
                self.counters["not_newer"] += 1
                continue
            series.append((sample.at, value))

    def forget(self, node: str, key: str) -> None:
        """The station is gone."""
        self._stations.pop((node, key or node), None)

    def _wanted(self, name: str) -> bool:
        if self.config.quantities:
            return name in self.config.quantities
        if name not in self._names and len(self._names) >= self.config.max_quantities:
            self.counters["readings_refused"] += 1
            return False
        self._names.add(name)
        return True

    def view(self, source: str, now: float) -> View | None:
        """Everything together at wall time ``now``; None while nothing was heard."""
        names = sorted({name for s in self._stations.values() for name in s.series})
        quantities = {name: self._quantity(name, now) for name in names}
        if not quantities:
            return None
        said = [s for quantity in quantities.values() for s in quantity.stations]
        return View(
            domain=self.domain,
            type="trend",
            source=source,
            at=now,
            quantities=quantities,
            outlying=sorted({_who(s) for s in said if s.state == "outlying"}),
            stale=sorted({_who(s) for s in said if s.state == "stale"}),
        )

    def _quantity(self, name: str, now: float) -> Quantity:
        said = [
            self._says(key, station, station.series[name], now)
            for (_, key), station in sorted(self._stations.items())
            if station.series.get(name)
        ]
        voices = [s for s in said if s.state != "stale"]
        nodes = {s.node for s in voices}
        if not voices:
            last = max(said, key=lambda s: s.at)
            return Quantity(
                value=last.value,
                spread=0.0,
                slope_per_h=0.0,
                trend="steady",
                nodes=0,
                stations=said,
                undecided=True,
            )
        weights = _weights(voices)
        middle = weighted_median([s.value for s in voices], weights)
        spread = _spread(voices, weights, middle)
        scale = max(spread, self.config.floor_share * abs(middle))
        judged = {
            (s.node, s.station): _judged(s, middle, scale, majority=len(nodes) >= MAJORITY)
            for s in voices
        }
        stations = [judged.get((s.node, s.station), s) for s in said]
        trusted = [s for s in stations if s.state == "ok"]
        slope, trend = self._trend(name, trusted)
        apart = any(
            abs(s.value - middle) > OUTLYING * self.config.floor_share * abs(middle) for s in voices
        )
        return Quantity(
            value=middle,
            spread=spread,
            slope_per_h=slope,
            trend=trend,
            nodes=len(nodes),
            stations=stations,
            changed_at=self._changed(name, trusted),
            undecided=len(nodes) < MAJORITY and len(voices) > 1 and apart,
        )

    def _says(
        self, key: str, station: _Station, series: deque[tuple[float, float]], now: float
    ) -> StationSays:
        at, value = series[-1]
        age_s = now - at
        values = [v for _, v in series]
        fresh = -FUTURE_S <= age_s <= self.config.stale_s
        floor = self.config.floor_share * abs(median(values))
        odd = len(values) - 1 in hampel(values, floor=floor) if len(values) >= MIN_TREND else False
        return StationSays(
            station=key,
            node=station.node,
            value=value,
            at=at,
            age_s=age_s,
            state="ok" if fresh else "stale",
            slope_per_h=HOUR_S * theil_sen([t for t, _ in series], values),
            note="" if fresh and not odd else _note(age_s, fresh=fresh),
        )

    def _series(self, name: str, said: StationSays) -> deque[tuple[float, float]]:
        return self._stations[(said.node, said.station)].series[name]

    def _trend(self, name: str, trusted: Sequence[StationSays]) -> tuple[float, str]:
        """The median of the stations' slopes, and whether most of them are sure of it."""
        signs: list[int] = []
        slopes: list[float] = []
        weights: list[float] = []
        for said, weight in zip(trusted, _weights(trusted), strict=True):
            series = self._series(name, said)
            if len(series) < MIN_TREND:
                continue
            sure = mann_kendall([t for t, _ in series], [v for _, v in series])
            signs.append(0 if abs(sure) < SURE else 1 if sure > 0 else -1)
            slopes.append(said.slope_per_h)
            weights.append(weight)
        if not slopes:
            return 0.0, "steady"
        sign = weighted_median([float(s) for s in signs], weights)
        word = "rising" if sign > 0 else "falling" if sign < 0 else "steady"
        return weighted_median(slopes, weights), word

    def _changed(self, name: str, trusted: Sequence[StationSays]) -> float:
        """Since when most of the stations are at another level than in their first half."""
        changes = []
        for said in trusted:
            series = self._series(name, said)
            if len(series) < 2 * MIN_TREND:
                continue
            values = [v for _, v in series]
            before = values[: len(values) // 2]
            std = max(mad_std(before), self.config.floor_share * abs(median(before)))
            place = cusum(values[len(before) :], median(before), std)
            if place >= 0:
                changes.append(series[len(before) + place][0])
        return median(changes) if 2 * len(changes) > len(trusted) else 0.0


def _weights(said: Sequence[StationSays]) -> list[float]:
    """One voice per node, shared among its stations."""
    stations = Counter(s.node for s in said)
    return [1.0 / stations[s.node] for s in said]


def _spread(said: Sequence[StationSays], weights: Sequence[float], middle: float) -> float:
    return 1.4826 * weighted_median([abs(s.value - middle) for s in said], weights)


def _judged(said: StationSays, middle: float, scale: float, *, majority: bool) -> StationSays:
    away = (said.value - middle) / scale if scale > 0 else 0.0
    far = abs(away) > OUTLYING if scale > 0 else said.value != middle
    state = "outlying" if far and majority else said.state
    return StationSays(
        station=said.station,
        node=said.node,
        value=said.value,
        at=said.at,
        age_s=said.age_s,
        away=away,
        state=state,
        slope_per_h=said.slope_per_h,
        note=said.note,
    )


def _note(age_s: float, *, fresh: bool) -> str:
    if fresh:
        return "unlike its own last readings"
    return "its clock is ahead" if age_s < 0 else f"last heard {age_s / 60:.0f} min ago"


def _who(said: StationSays) -> str:
    return said.node if said.station == said.node else f"{said.station}@{said.node}"
