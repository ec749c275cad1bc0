"""Numbers within limits as GBNF expressions; pure."""

from __future__ import annotations

import math

from capabilities.slm.errors import BadRequest

DIGITS = 15  # beyond it a number is no longer exact as a double
LARGEST = 10**DIGITS - 1
DECIMALS = "digit{1,6}"


def integers(low: float, above: bool, high: float, below: bool) -> str:
    """Whole numbers from ``low`` to ``high``; ``above`` and ``below`` leave the limit out."""
    first, last = _whole(low, above, high, below)
    if first > last:
        raise BadRequest("the JSON schema allows no whole number between its limits")
    return _signed(first, last)


def numbers(low: float, above: bool, high: float, below: bool) -> str:
    """Numbers from ``low`` to ``high``, with up to six decimals.

    A fraction may follow where all that it can add stays within the limits.
    """
    first, last = _whole(low, above, high, below)
    parts = [_signed(first, last)] if first <= last else []
    # n.f lies in [n, n+1): n from the first whole number, n+1 no more than the limit.
    positive = (max(first, 0), math.floor(high) - 1 if high < LARGEST else LARGEST)
    if positive[0] <= positive[1]:
        parts.append(f'({_between(*positive)}) "." {DECIMALS}')
    # -n.f lies in (-n-1, -n], and -0.f below 0.
    negative = (max(-last, 0), -math.ceil(low) - 1 if low > -LARGEST else LARGEST)
    if negative[0] <= negative[1]:
        parts.append(f'"-" ({_between(*negative)}) "." {DECIMALS}')
    if not parts:
        raise BadRequest(
            "the limits of a number in the JSON schema lie too close together",
            hint="use an enum, or whole numbers",
        )
    return " | ".join(parts)


def _whole(low: float, above: bool, high: float, below: bool) -> tuple[int, int]:
    low, high = max(low, -LARGEST), min(high, LARGEST)
    first, last = math.ceil(low), math.floor(high)
    return first + (above and first == low), last - (below and last == high)


def _signed(first: int, last: int) -> str:
    parts = []
    if first < 0:
        parts.append(f'"-" ({_between(max(1, -last), -first)})')
    if last >= 0:
        parts.append(_between(max(0, first), last))
    return " | ".join(parts)


def _between(first: int, last: int) -> str:
    """The digits of ``first`` to ``last``, both at least 0, without leading zeros."""
    parts = []
    for size in range(len(str(first)), len(str(last)) + 1):
        least = max(first, 10 ** (size - 1) if size > 1 else 0)
        parts.append(_same_size(str(least), str(min(last, 10**size - 1))))
    return " | ".join(parts)


def _same_size(first: str, last: str) -> str:
    if not first:
        return ""
    rest = len(first) - 1
    if first == "0" * (rest + 1) and last == "9" * (rest + 1):
        return f"digit{{{rest + 1}}}"
    if first[0] == last[0]:
        return f'"{first[0]}" {_grouped(first[1:], last[1:])}'.strip()
    low, high, parts = int(first[0]), int(last[0]), []
    if first[1:] != "0" * rest:
        parts.append(f'"{low}" {_grouped(first[1:], "9" * rest)}'.strip())
        low += 1
    tail: list[str] = []
    if last[1:] != "9" * rest:
        tail.append(f'"{high}" {_grouped("0" * rest, last[1:])}'.strip())
        high -= 1
    if low <= high:
        parts.append(f"[{low}-{high}]" + (f" digit{{{rest}}}" if rest else ""))
    return " | ".join(parts + tail)


def _grouped(first: str, last: str) -> str:
    inner = _same_size(first, last)
    return f"({inner})" if " | " in inner else inner
