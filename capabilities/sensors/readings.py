"""What a payload says, whatever its format: readings with a time, a device, a sequence. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.core.errors import ConfigError, WireError

# What sensors and their gateways send in the place of a number that there is not.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "unknown", "unavailable", "-"})
TRUE, FALSE = frozenset({"on", "true", "open"}), frozenset({"off", "false", "closed"})
MILLISECONDS_FROM = 1e11  # seconds since 1970 reach this in the year 5138; milliseconds had in 1973
# A time below is none of the calendar: it counts from the moment of arrival (as RFC 8428, 4.5.3).
RELATIVE_BELOW = 2.0**28
MAX_DEPTH = 8  # of a path
MAX_BATCH = 4096  # readings of one message

_STEP = re.compile(r"""\[(\d{1,6})\]|\["([^"]*)"\]|(?:^|\.)([^.\[\]"]+)""")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of one moment. ``at`` is wall seconds, or below :data:`RELATIVE_BELOW` seconds from
    the moment of arrival; ``device``
    is who measured, where the payload says; ``missing`` are readings that it says it has not."""

    values: dict[str, float]
    at: float = 0.0
    device: str = ""
    sequence: int | None = None
    epoch: str = ""
    missing: tuple[str, ...] = ()
    units: dict[str, str] = {}


def number_of(value: Any) -> float | None:
    """A value as a number, None where there is none; raises :class:`WireError` for a text that
    is neither."""
    if value is None:
        return None
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        number = float(value) if abs(value) < 1e300 else math.inf
        return number if math.isfinite(number) else None
    if isinstance(value, str):
        text = value.strip()
        word = text.lower()
        if word in MISSING:
            return None
        if word in TRUE or word in FALSE:
            return float(word in TRUE)
        try:
            number = float(text)
        except ValueError:
            raise WireError(f"{text[:40]!r} is no number") from None
        return number if math.isfinite(number) else None
    raise WireError(f"a {type(value).__name__} is no number")


def time_of(value: Any) -> float:
    """Wall seconds of a time in seconds or milliseconds since 1970, or in ISO 8601 (UTC unless it
    says otherwise); raises :class:`WireError`."""
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value.strip())
        except ValueError:
            try:
                return time_of(float(value))
            except ValueError:
                raise WireError(f"{value[:40]!r} is no time") from None
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError("a time is seconds since 1970 or a text in ISO 8601")
    return value / 1000.0 if abs(value) >= MILLISECONDS_FROM else float(value)


def moment(at: float, arrived: float) -> float:
    """Wall seconds of a reading that arrived at ``arrived``."""
    return arrived + at if abs(at) < RELATIVE_BELOW else at


class Path:
    """Where in a JSON value something stands: ``a.b[0]["a key.with dots"]``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps: list[str | int] = []
        place = 0
        bare = text[1:] if text.startswith("$") else text
        bare = bare.removeprefix(".")
        while place < len(bare):
            found = _STEP.match(bare, place)
            if found is None or found.end() == place:
                raise ConfigError(f"{text!r} is no path", hint="such as weather.temp or values[0]")
            index, quoted, word = found.groups()
            self._steps.append(int(index) if index is not None else quoted or word)
            place = found.end()
        if len(self._steps) > MAX_DEPTH:
            raise ConfigError(f"{text!r} goes deeper than {MAX_DEPTH} steps")

    def find(self, value: Any) -> Any:
        """What stands there; raises :class:`KeyError` when there is nothing."""
        for step in self._steps:
            if isinstance(step, int):
                if not isinstance(value, list) or step >= len(value):
                    raise KeyError(self.text)
            elif not isinstance(value, dict) or step not in value:
                raise KeyError(self.text)
            value = value[step]
        return value
