"""The names of readings in words. Pure."""

from __future__ import annotations

UNITS = (
    ("_ug_m3", "ug/m3"),
    ("_bpm", "per minute"),
    ("_percent", "%"),
    ("_ppb", "ppb"),
    ("_ppm", "ppm"),
    ("_hpa", "hPa"),
    ("_kmh", "km/h"),
    ("_mph", "mph"),
    ("_ms", "m/s"),
    ("_mm", "mm"),
    ("_db", "dB"),
    ("_per_h", "per hour"),
    ("_c", "C"),
)


def title(name: str) -> str:
    """A reading's name in words, with its unit behind it: pm25_ug_m3 is pm25 (ug/m3)."""
    for unit, shown in UNITS:
        if name.endswith(unit):
            return f"{name.removesuffix(unit).replace('_', ' ')} ({shown})"
    return name.replace("_", " ")
