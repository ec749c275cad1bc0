"""A JSON object, as programs and files write it, as a value to publish. Pure.

{"pm25_ug_m3": 14.0, "station": "north", "at": 1767225600}    a sample; numbers are readings
{"values": {"pm25_ug_m3": 14.0}, "key": "north"}              the same, spelt out
{"text": "The air is clean."}                                 a summary
{"embedding": [0.1, ...], "dimensionality": 256, "space": {...}, "type": "raw"}
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec

from capabilities.data.messages import Embedding, Summary, Value, check_key, check_value
from capabilities.embedding.space import Space
from capabilities.messages import Sample
from mesh.core.errors import ConfigError, WireError

_ABOUT = {"key", "at", "values", "text", "type", "kind", "source", "domain"}


def domain_and_type(name: str) -> tuple[str, str]:
    """``data.gpt/air/raw`` is raw data of air; a name of one segment is raw."""
    _, domain, *rest = name.split("/")
    return domain, rest[-1] if rest else "raw"


def parse_line(line: str | bytes) -> dict[str, Any]:
    """A line of JSON as an object; raises :class:`WireError`."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not a line of JSON: {error}") from error
    if not isinstance(found, dict):
        raise WireError("a line to publish is a JSON object", hint='such as {"pm25_ug_m3": 14.0}')
    return found


def value_of(
    raw: dict[str, Any], name: str, *, source: str, now: float, key_field: str = "key"
) -> tuple[str, Value]:
    """The key and the value that an object stands for; raises :class:`WireError`.

    ``key_field`` says which field is the key. ``now`` is wall time, for an object that does not
    say when.
    """
    key = raw.get(key_field, raw.get("key", ""))
    if not isinstance(key, str | int):
        raise WireError(f"{key_field!r} is a text that tells the keys of a feed apart")
    at = raw.get("at", now)
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise WireError("'at' is wall time in seconds since 1970")
    domain, kind = domain_and_type(name)
    about: dict[str, Any] = {"domain": domain, "source": source, "at": float(at)}
    if "embedding" in raw or "space" in raw:
        value: Value = _embedding(raw, about)
    elif "text" in raw:
        if not isinstance(raw["text"], str):
            raise WireError("'text' is a text")
        value = Summary(type=kind, text=raw["text"], **about)
    else:
        value = Sample(type=kind, values=_readings(raw, key_field), **about)
    return check_key(str(key)), check_value(value)


def _readings(raw: dict[str, Any], key_field: str) -> dict[str, float]:
    given = raw.get("values", {k: v for k, v in raw.items() if k not in {*_ABOUT, key_field}})
    if not isinstance(given, dict):
        raise WireError("'values' is an object of numbers")
    readings = {
        str(name): float(value)
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not readings:
        raise WireError("there is no number in it", hint='such as {"pm25_ug_m3": 14.0}')
    if "values" in raw and len(readings) != len(given):
        raise WireError("'values' holds something that is no number")
    return readings


def _embedding(raw: dict[str, Any], about: dict[str, Any]) -> Embedding:
    missing = [f for f in ("embedding", "type", "dimensionality", "space") if f not in raw]
    if missing:
        raise WireError(
            f"an embedding without {', '.join(missing)}",
            hint="domain, type, dimensionality and space have to be there",
        )
    if raw.get("domain", about["domain"]) != about["domain"]:
        raise WireError(f"an embedding of {raw['domain']!r} in a feed of {about['domain']}")
    vector = raw["embedding"]
    try:
        data = struct.pack(f"<{len(vector)}f", *vector)
        space = msgspec.convert(raw["space"], Space)
        dimensionality = msgspec.convert(raw["dimensionality"], int)
        return Embedding(
            type=str(raw["type"]),
            dimensionality=dimensionality,
            space=space,
            data=data,
            label=str(raw.get("label") or ""),
            text=str(raw.get("text") or ""),
            **about,
        )
    except (TypeError, ValueError, OverflowError, struct.error, ConfigError) as error:
        raise WireError(f"not an embedding: {error}") from error
