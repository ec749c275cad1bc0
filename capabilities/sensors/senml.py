"""SenML: sensor measurement lists in JSON and in CBOR. Pure.

Source: RFC 8428, sections 4 (resolution of base fields), 5 (JSON), 6 (CBOR labels).
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from capabilities.sensors.readings import MAX_BATCH, Measured
from mesh.core.errors import WireError

VERSION = 10  # section 4.4
_LABELS = {  # section 6, table 6
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
_NUMBERS = ("bt", "bv", "bs", "t", "v", "s")


def decode_senml(body: bytes) -> list[Measured]:
    """The numbers of a pack, one moment per time and device; raises :class:`WireError`.

    A name such as ``north/pm25`` is the reading ``pm25`` of the device ``north``. Texts and data
    are passed over; a sum is the reading with ``_sum`` behind its name.
    """
    records = _records(body)
    base: dict[str, Any] = {}
    moments: dict[tuple[str, float], Measured] = {}
    for record in records:
        version = record.get("bver", VERSION)
        if not isinstance(version, int) or version > VERSION:
            raise WireError(f"SenML of version {version}, {VERSION} is read")
        unknown = [field for field in record if field.endswith("_")]
        if unknown:  # section 4.4: must be understood
            raise WireError(f"SenML with {unknown[0][:40]!r}, which has to be understood")
        base.update({f: record[f] for f in ("bn", "bt", "bu", "bv", "bs") if f in record})
        _resolve(record, base, moments)
    if not moments:
        raise WireError("there is no number in it")
    return [moments[key] for key in sorted(moments, key=lambda key: key[1])]


def _resolve(
    record: dict[str, Any], base: dict[str, Any], moments: dict[tuple[str, float], Measured]
) -> None:
    name = f"{base.get('bn', '')}{record.get('n', '')}"
    found: dict[str, float] = {}
    device, reading = split_name(name)
    if "v" in record:
        found[reading] = float(record["v"] + base.get("bv", 0.0))
    elif isinstance(record.get("vb"), bool):
        found[reading] = float(record["vb"])
    if "s" in record:
        found[f"{reading}_sum"] = float(record["s"] + base.get("bs", 0.0))
    if not found:
        return
    at = float(record.get("t", 0.0) + base.get("bt", 0.0))
    if not name or not math.isfinite(at) or not all(map(math.isfinite, found.values())):
        raise WireError("a SenML record without a name, or with what is no number")
    unit = record.get("u", base.get("bu", ""))
    known = moments.setdefault((device, at), Measured(values={}, at=at, device=device, units={}))
    known.values.update(found)
    if isinstance(unit, str) and unit:
        known.units[reading] = unit


def split_name(name: str) -> tuple[str, str]:
    """Device and reading of a name: what stands behind the last ``/`` or ``:``."""
    for sign in "/:":
        device, found, reading = name.rpartition(sign)
        if found and reading:
            return device, reading
    return "", name


def _records(body: bytes) -> list[dict[str, Any]]:
    try:
        found = _cbor(body) if body[:1] not in {b"[", b" ", b"\n"} else msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"not SenML: {error}") from error
    if not isinstance(found, list) or not 0 < len(found) <= MAX_BATCH:
        raise WireError(f"a SenML pack is a list of 1 to {MAX_BATCH} records")
    records = []
    for raw in found:
        if not isinstance(raw, dict):
            raise WireError("a SenML record is a map")
        record: dict[str, Any] = {
            str(_LABELS.get(key, key) if isinstance(key, int) else key): raw[key] for key in raw
        }
        for field in _NUMBERS:
            number = record.get(field, 0.0)
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise WireError(f"the SenML field {field} is a number")
            if abs(number) > 1e300:
                raise WireError(f"the SenML field {field} is out of bounds")
        for field in ("bn", "n"):
            if not isinstance(record.get(field, ""), str):
                raise WireError(f"the SenML field {field} is a text")
        records.append(record)
    return records


def _cbor(body: bytes) -> Any:
    import cbor2

    try:
        return cbor2.loads(body)
    except (cbor2.CBORDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise WireError(f"not CBOR: {error}") from error
