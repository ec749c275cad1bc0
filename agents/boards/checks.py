"""One finding of doctor, and how findings are graded."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

OK, WARN, FAIL = "ok", "warn", "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. ``advice`` is what to do, empty where nothing is to be done."""

    name: str
    status: str
    value: str
    advice: str = ""


def healthy(checks: Iterable[Check]) -> bool:
    """Whether nothing failed; warnings pass."""
    return all(check.status != FAIL for check in checks)


def graded(name: str, amount: float, bounds: tuple[float, float], unit: str, advice: str) -> Check:
    """A quantity against what is needed and what is comfortable, in the same ``unit``."""
    least, good = bounds
    status = FAIL if amount < least else WARN if amount < good else OK
    value = f"{amount:,.0f} {unit}".replace(",", " ")
    return Check(name=name, status=status, value=value, advice="" if status == OK else advice)
