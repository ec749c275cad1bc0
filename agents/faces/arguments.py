"""The arguments of verbs, read and checked; each raises an error that names its field."""

from __future__ import annotations

from typing import Any

from agents.trace import TRACE_BYTES
from mesh.core.errors import ConfigError
from mesh.core.wire import Reach

MAX_TIMEOUT_S = 24 * 3600.0
MAX_TEXTS = 64
MAX_AGE_S = 100 * 365 * 86_400.0


def text_of(args: dict[str, Any], key: str) -> str:
    """A text that must be there."""
    value = args.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key!r} is missing or empty")
    return value


def texts_of(args: dict[str, Any], key: str) -> tuple[str, ...]:
    """A short list of texts; none where nothing is said."""
    value = args.get(key) or []
    if not isinstance(value, list) or len(value) > MAX_TEXTS:
        raise ConfigError(f"{key!r} is a list of at most {MAX_TEXTS} texts")
    if not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"{key!r} is a list of texts")
    return tuple(value)


def timeout_of(args: dict[str, Any], default_s: float) -> float:
    """``timeout_s``, or the default, in seconds."""
    try:
        timeout_s = float(args.get("timeout_s") or default_s)
    except (TypeError, ValueError) as error:
        raise ConfigError("timeout_s is a number of seconds") from error
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise ConfigError(f"timeout_s is above 0 and at most {MAX_TIMEOUT_S:g} seconds")
    return timeout_s


def number_of(args: dict[str, Any], key: str, default: float, *, low: float, high: float) -> float:
    """A number within its bounds."""
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{key!r} is a number from {low:g} to {high:g}")
    return float(value)


def reach_of(args: dict[str, Any]) -> Reach:
    """How far the work may travel; the mesh where nothing is said."""
    name = str(args.get("reach") or "mesh").upper()
    try:
        return Reach[name]
    except KeyError as error:
        raise ConfigError(
            f"{name.lower()!r} is no reach", hint="node, group, mesh or cloud"
        ) from error


def trace_of(args: dict[str, Any]) -> bytes:
    """A trace that began elsewhere, 16 bytes in hexadecimal; empty where there is none."""
    given = args.get("trace") or ""
    try:
        trace = bytes.fromhex(given)
    except (TypeError, ValueError):
        trace = b"?"
    if trace and (len(trace) != TRACE_BYTES or not any(trace)):
        raise ConfigError(f"'trace' is {TRACE_BYTES} bytes in hexadecimal, not all of them zero")
    return trace
