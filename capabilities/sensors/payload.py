"""From the bytes of a message to readings: plain numbers, JSON, SenML. Pure.

    14.2                                       number
    {"pm25": 14.2, "ts": 1767225600}           json, with a path for each reading or all numbers
    [{"bn":"north/","n":"pm25","v":14.2}]      senml, in JSON or CBOR

Sparkplug B needs what was said before (:mod:`capabilities.sensors.sparkplug`). What comes from a
broker is anybody's: it is decoded with caps, and whatever does not fit raises WireError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from capabilities.sensors.readings import (
    MAX_BATCH,
    RELATIVE_BELOW,
    Measured,
    Path,
    number_of,
    time_of,
)
from capabilities.sensors.senml import decode_senml
from capabilities.sensors.topics import name_part
from mesh.core.errors import ConfigError, WireError

Format = Literal["auto", "number", "json", "senml", "sparkplug"]
MAX_PAYLOAD_BYTES = 256 * 1024  # MQTT allows 256 MB
MAX_EPOCH_CHARS = 64  # a UUID has 36
MAX_READINGS = 64  # of one sample, as of capabilities.data.messages


@dataclass(frozen=True)
class Shape:
    """How the payloads of a mapping are read."""

    format: Format = "auto"
    value: str = "value"
    """What a plain number is called."""
    values: Mapping[str, Path] = field(default_factory=dict)
    """A path per reading; empty: every number at the top of the object."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """What a reading is multiplied with, such as 0.1 for tenths."""
    time: Path | None = None
    sequence: Path | None = None
    epoch: Path | None = None
    device: Path | None = None
    rate_hz: float = 0.0
    """Of a list of numbers: they were measured at this rate, and the last one at the time."""


def decode(body: bytes, shape: Shape) -> list[Measured]:
    """The readings of one message, in order; raises :class:`WireError`."""
    if len(body) > MAX_PAYLOAD_BYTES:
        raise WireError(f"a payload of {len(body)} bytes, at most {MAX_PAYLOAD_BYTES} are read")
    if shape.format == "senml" or (shape.format == "auto" and _is_cbor(body)):
        return _scaled(decode_senml(body), shape)
    if shape.format == "sparkplug":
        raise ConfigError("Sparkplug is decoded with what its birth certificates said")
    if shape.format == "number":
        return _scaled([_plain(_text(body), shape)], shape)
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        if shape.format == "json":
            raise WireError(f"not JSON: {error}") from error
        return _scaled([_plain(_text(body), shape)], shape)
    if shape.format == "auto" and _is_senml(found):
        return _scaled(decode_senml(body), shape)
    return _scaled(_from_json(found, shape), shape)


def _text(body: bytes) -> str:
    try:
        return body.decode().strip()
    except UnicodeDecodeError as error:
        raise WireError("a payload that is neither text nor of a known format") from error


def _is_cbor(body: bytes) -> bool:
    return bool(body) and body[0] >> 5 == 4 and body[:1] not in b"[{"  # an array; no text begins so


def _is_senml(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and isinstance(found[0], dict)
        and ("n" in found[0] or "bn" in found[0])
    )


def _plain(value: Any, shape: Shape) -> Measured:
    number = number_of(value)
    if number is None:
        return Measured(values={}, missing=(shape.value,))
    return Measured(values={shape.value: number})


def _from_json(found: Any, shape: Shape) -> list[Measured]:
    if isinstance(found, list) and not shape.values:
        return _series(found, shape)
    if not isinstance(found, dict | list):
        return [_plain(found, shape)]
    at = _at(found, shape)
    sequence = _sequence(found, shape)
    epoch = _word(found, shape.epoch, "a run of the publisher")[:MAX_EPOCH_CHARS]
    device = _word(found, shape.device, "a device")
    values: dict[str, float] = {}
    missing: list[str] = []
    for name, raw in _chosen(found, shape):
        if isinstance(raw, list) and shape.rate_hz > 0:
            series = _series(raw, shape, name=name, end=at)
            first = msgspec.structs.replace(
                series[0], sequence=sequence, epoch=epoch, device=device
            )
            return [first, *(msgspec.structs.replace(m, device=device) for m in series[1:])]
        number = number_of(raw)
        if number is None:
            missing.append(name)
        else:
            values[name] = number
    if not values and not missing:
        raise WireError("there is no number in it")
    return [
        Measured(
            values=values,
            at=at,
            device=device,
            sequence=sequence,
            epoch=epoch,
            missing=tuple(missing),
        )
    ]


def _chosen(found: Any, shape: Shape) -> list[tuple[str, Any]]:
    if shape.values:
        chosen, absent = [], 0
        for name, path in shape.values.items():
            try:
                chosen.append((name, path.find(found)))
            except KeyError:
                chosen.append((name, None))
                absent += 1
        if absent == len(chosen):
            raise WireError(f"nothing stands at {next(iter(shape.values.values())).text!r}")
        return chosen
    about = {
        p.text for p in (shape.time, shape.sequence, shape.epoch, shape.device) if p is not None
    }
    return [
        (name_part(str(name)), raw)
        for name, raw in found.items()
        if name not in about
        and (raw is None or isinstance(raw, bool | int | float) or _listed(raw, shape))
    ][:MAX_READINGS]


def _listed(raw: Any, shape: Shape) -> bool:
    return shape.rate_hz > 0 and isinstance(raw, list)


def _series(found: list[Any], shape: Shape, *, name: str = "", end: float = 0.0) -> list[Measured]:
    """A list of numbers, one moment each; the last was measured at ``end``."""
    if not 0 < len(found) <= MAX_BATCH:
        raise WireError(f"a list of 1 to {MAX_BATCH} numbers, not {len(found)}")
    name = name or shape.value
    made = []
    for place, raw in enumerate(found):
        number = number_of(raw)
        back_s = (len(found) - 1 - place) / shape.rate_hz if shape.rate_hz > 0 else 0.0
        made.append(
            Measured(
                values={} if number is None else {name: number},
                at=end - back_s,
                missing=(name,) if number is None else (),
            )
        )
    return made


def _at(found: Any, shape: Shape) -> float:
    if shape.time is None:
        return 0.0
    try:
        at = time_of(shape.time.find(found))
    except KeyError:
        return 0.0
    return at if at >= RELATIVE_BELOW else 0.0  # seconds since it was switched on, say


def _sequence(found: Any, shape: Shape) -> int | None:
    if shape.sequence is None:
        return None
    try:
        number = shape.sequence.find(found)
    except KeyError:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise WireError(f"{shape.sequence.text} counts messages: a whole number")
    return number


def _word(found: Any, path: Path | None, what: str) -> str:
    if path is None:
        return ""
    try:
        word = path.find(found)
    except KeyError:
        return ""
    if not isinstance(word, str | int):
        raise WireError(f"{path.text} names {what}: a text")
    return str(word)


def _scaled(found: list[Measured], shape: Shape) -> list[Measured]:
    if not shape.scale:
        return found
    return [
        msgspec.structs.replace(
            one, values={name: v * shape.scale.get(name, 1.0) for name, v in one.values.items()}
        )
        for one in found
    ]
