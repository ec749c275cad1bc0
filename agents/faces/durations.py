"""Times as people write them: 90s, 30m, 1h, 7d, 4w."""

from __future__ import annotations

import re

from mesh.core.errors import ConfigError

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])")


def seconds(text: str) -> float:
    """Seconds of a written time; raises :class:`ConfigError` for anything else."""
    found = _TIME.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"{text[:40]!r} is no time", hint="write 90s, 30m, 1h, 7d or 4w")
    return float(found[1]) * UNITS_S[found[2]]
