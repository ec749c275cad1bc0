"""The US EPA's air quality index: from concentrations to an index and its category.

Source: 40 CFR Part 58, Appendix G, and "Technical Assistance Document for the Reporting of Daily
Air Quality", EPA-454/B-24-002, May 2024, Table 6 (with the PM2.5 breakpoints of 2024).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CATEGORIES = (
    "Good",
    "Moderate",
    "Unhealthy for sensitive groups",
    "Unhealthy",
    "Very unhealthy",
    "Hazardous",
)
# The highest index of each category; an index above 500 is reported as it comes out.
INDEX_EDGES = (50, 100, 150, 200, 300, 500)


@dataclass(frozen=True)
class Pollutant:
    """One column of Table 6.

    Concentrations count in whole `step`s of `unit`; what is finer is cut off, as the document
    says. `edges` are the highest concentration, in steps, of each category but the last there is.
    `ceiling` is the concentration whose index is the last category's highest.
    """

    key: str
    title: str
    unit: str
    averaged_h: int
    step: Decimal
    edges: tuple[int, ...]
    ceiling: int

    def steps(self, concentration: float | str | Decimal) -> int:
        """`concentration`, in `unit`, in whole steps. Raises ValueError below zero."""
        value = Decimal(str(concentration))
        if not value.is_finite() or value < 0:
            raise ValueError(f"{self.title} cannot be {concentration} {self.unit}")
        return int((value / self.step).to_integral_value(ROUND_DOWN))

    def category(self, concentration: float | str | Decimal) -> int:
        """The place in CATEGORIES of `concentration`."""
        return bisect_left(self.edges, self.steps(concentration))

    def index(self, concentration: float | str | Decimal) -> int:
        """The air quality index of `concentration`, by equation 1 of the document."""
        steps = self.steps(concentration)
        at = bisect_left(self.edges, steps)
        low_index = INDEX_EDGES[at - 1] + 1 if at else 0
        low = self.edges[at - 1] + 1 if at else 0
        high = (*self.edges, self.ceiling)[at]
        if steps > high and len(self.edges) < len(CATEGORIES) - 1:
            return INDEX_EDGES[at]  # this averaging time defines no higher one
        slope = Decimal(INDEX_EDGES[at] - low_index) / (high - low)
        return int((slope * (steps - low) + low_index).to_integral_value(ROUND_HALF_UP))


TENTH, ONE, THOUSANDTH = Decimal("0.1"), Decimal(1), Decimal("0.001")
POLLUTANTS = {
    p.key: p
    for p in (
        Pollutant("pm2_5", "PM2.5", "ug/m3", 24, TENTH, (90, 354, 554, 1254, 2254), 3254),
        Pollutant("pm10", "PM10", "ug/m3", 24, ONE, (54, 154, 254, 354, 424), 604),
        # Eight hours of ozone define no index above 300 (Table 6, note b).
        Pollutant("o3", "ozone", "ppm", 8, THOUSANDTH, (54, 70, 85, 105), 200),
        Pollutant("no2", "NO2", "ppb", 1, ONE, (53, 100, 360, 649, 1249), 2049),
        # One hour of SO2 defines no index above 200 (Table 6, note d).
        Pollutant("so2", "SO2", "ppb", 1, ONE, (35, 75, 185), 304),
        Pollutant("co", "CO", "ppm", 8, TENTH, (44, 94, 124, 154, 304), 504),
    )
}


@dataclass(frozen=True)
class Reading:
    """A concentration of the pollutant `key`, in the unit that POLLUTANTS names."""

    key: str
    concentration: float | str | Decimal

    @property
    def category(self) -> int:
        return POLLUTANTS[self.key].category(self.concentration)


def worst(readings: Iterable[Reading]) -> Reading:
    """The reading that sets the category: the highest, the first among equals.

    Raises ValueError without readings or for a concentration below zero, KeyError for a pollutant
    that the index does not know.
    """
    return max(readings, key=lambda reading: reading.category)
