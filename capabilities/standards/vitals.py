"""The National Early Warning Score 2: from vital signs to a score and its level of clinical risk.

Source: Royal College of Physicians, "National Early Warning Score (NEWS) 2: Standardising the
assessment of acute-illness severity in the NHS", London 2017, charts 1 and 2, SpO2 scale 1. It is
made for adults at rest under observation. It ranks urgency; it diagnoses nothing.

A full score takes seven parameters. A wearable knows fewer: the score of those that there are is
called partial, and is a lower bound, since every parameter that is missing could only add points.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("Low", "Low-medium", "Medium", "High")
MEDIUM_FROM, HIGH_FROM = 5, 7  # aggregate scores (chart 2)
RED = 3  # points that, in a single parameter, lift a low score to low-medium


@dataclass(frozen=True)
class Parameter:
    """A measured row of chart 1.

    Values count in whole `step`s of `unit`, rounded; `edges` are the highest value, in steps, of
    each band but the last, `points` what each band scores.
    """

    key: str
    title: str
    unit: str
    step: Decimal
    edges: tuple[int, ...]
    points: tuple[int, ...]

    def steps(self, value: float | str | Decimal) -> int:
        """`value`, in `unit`, in whole steps. Raises ValueError below zero."""
        number = Decimal(str(value))
        if not number.is_finite() or number < 0:
            raise ValueError(f"{self.title} cannot be {value} {self.unit}")
        return int((number / self.step).to_integral_value(ROUND_HALF_UP))

    def score(self, value: float | str | Decimal) -> int:
        return self.points[bisect_left(self.edges, self.steps(value))]


ONE, TENTH = Decimal(1), Decimal("0.1")
PARAMETERS = {
    p.key: p
    for p in (
        Parameter("respiration", "breathing", "/min", ONE, (8, 11, 20, 24), (3, 1, 0, 2, 3)),
        Parameter("spo2", "SpO2", "%", ONE, (91, 93, 95), (3, 2, 1, 0)),
        Parameter("systolic", "blood pressure", "mmHg", ONE, (90, 100, 110, 219), (3, 2, 1, 0, 3)),
        Parameter("pulse", "pulse", "/min", ONE, (40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3)),
        Parameter("temperature", "temperature", "C", TENTH, (350, 360, 380, 390), (3, 1, 0, 1, 2)),
    )
}
# The two rows that are not numbers: what scores nothing, and the points of the contrary.
STATES = {"oxygen": 2, "consciousness": 3}  # on supplemental oxygen; any of new confusion, V, P, U
COMPLETE = len(PARAMETERS) + len(STATES)


@dataclass(frozen=True)
class Score:
    """`points` by parameter, in the order in which they were given."""

    points: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.points.values())

    @property
    def partial(self) -> bool:
        return len(self.points) < COMPLETE

    @property
    def level(self) -> int:
        """The place in LEVELS: of the whole score, or at least this for a partial one."""
        if self.total >= HIGH_FROM:
            return 3
        if self.total >= MEDIUM_FROM:
            return 2
        return int(RED in self.points.values())


def score(observed: Mapping[str, float | str | Decimal | bool]) -> Score:
    """NEWS2 of what was observed at rest: PARAMETERS by number, STATES by whether they hold.

    `oxygen` is true on supplemental oxygen, `consciousness` true when the person is anything but
    alert. Raises KeyError for a parameter that NEWS2 does not know, ValueError below zero or when
    nothing was observed.
    """
    if not observed:
        raise ValueError("NEWS2 needs at least one of its seven parameters")
    points = {}
    for key, value in observed.items():
        if key in STATES:
            points[key] = STATES[key] if value else 0
        else:
            points[key] = PARAMETERS[key].score(value)
    return Score(points)
