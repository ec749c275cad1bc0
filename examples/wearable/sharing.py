"""What a person's phone contributes to a secure sum: the figures of the day, from a file.

``source = "examples.wearable.sharing:day"`` of ``[[secure_sum]]`` calls :func:`day`; the file is
named by the environment variable ``WEARABLE_DAY`` of that agent's process, or else is
``wearable-day.json`` in the home of its user.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "WEARABLE_DAY"


def day() -> Mapping[str, float]:
    """The readings by name, none where there is no file yet."""
    place = Path(os.environ.get(VARIABLE, "") or Path.home() / "wearable-day.json")
    if not place.exists():
        return {}
    found = json.loads(place.read_text(encoding="utf-8"))
    return {str(name): float(value) for name, value in found.items()}
