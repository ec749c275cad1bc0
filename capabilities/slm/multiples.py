"""Multiples of a step within limits as GBNF rules, digit by digit with the remainder; pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from capabilities.slm.errors import BadRequest, Unsupported

MAX_STEP = 120  # each digit takes a rule for each remainder
DIGITS = 7  # of the whole part; more would make the grammar too large
MAX_PLACES = 6  # decimals

Tail = Callable[[int], str | None]  # what may follow digits with this remainder, None: nothing


class Multiples:
    """Rules for multiples of ``step``; ``add`` gives a body its name in the grammar."""

    def __init__(self, step: object, add: Callable[[str], str], *, whole: bool) -> None:
        try:
            exact = Decimal(str(step)).normalize()
        except InvalidOperation:
            exact = Decimal(0)
        if isinstance(step, bool) or not exact.is_finite() or exact <= 0:
            raise BadRequest("multipleOf of a JSON schema is a number above 0")
        places = max(0, -int(exact.as_tuple().exponent))
        scaled = int(exact.scaleb(places)) if places <= MAX_PLACES else MAX_STEP + 1
        if whole:  # n is a multiple of step / 10^places when n x 10^places is one of step
            scaled, places = scaled // math.gcd(scaled, 10**places), 0
        self._zeros = 0
        while places == 0 and scaled % 10 == 0:
            scaled, self._zeros = scaled // 10, self._zeros + 1
        if scaled > MAX_STEP:
            raise Unsupported(
                f"a JSON schema with multipleOf {step!s:.20}; a grammar counts in steps up to "
                f"{MAX_STEP}, times powers of ten",
                hint="use an enum, or check the answer",
            )
        self._step, self._places, self._add = scaled, places, add
        self._known: dict[tuple[int, int, Tail], str | None] = {}

    def expression(self, low: float, above: bool, high: float, below: bool) -> str:
        """Those from ``low`` to ``high``; ``above`` and ``below`` leave the limit out."""
        unit = 10**self._zeros
        longest = 10 ** (DIGITS + self._zeros) - 1
        floor, ceiling = max(low, -longest), min(high, longest)
        first, last = math.ceil(floor), math.floor(ceiling)
        first += above and first == low
        last -= below and last == high
        parts: list[str] = []
        if first <= 0 <= last:
            parts.append('"0"')
        ends = f' "{"0" * self._zeros}"' if self._zeros else ""
        for sign, begin, end in (("", max(1, first), last), ('"-" ', max(1, -last), -first)):
            least, most = -(-begin // unit), end // unit
            if least <= most and (found := self._between(least, most, self._whole)):
                parts.append(f"{sign}{found}{ends}")
        if self._places:
            # n.f lies in (n, n+1), so n+1 must not pass the limit.
            for sign, begin, end in (
                ("", max(0, math.ceil(floor)), math.floor(ceiling) - 1),
                ('"-" ', max(0, -math.floor(ceiling)), -math.ceil(floor) - 1),
            ):
                if begin <= end and (found := self._between(begin, end, self._decimals)):
                    parts.append(f"{sign}{found}")
        if not parts:
            raise BadRequest("the JSON schema allows no multiple between its limits")
        return " | ".join(parts)

    def _whole(self, remainder: int) -> str | None:
        return "" if remainder * 10**self._places % self._step == 0 else None

    def _decimals(self, remainder: int) -> str | None:
        fraction = self._free(self._places, remainder, self._end)
        return f'"." {fraction}' if fraction else None

    def _end(self, remainder: int) -> str | None:
        return "" if remainder == 0 else None

    def _between(self, first: int, last: int, tail: Tail) -> str | None:
        """The digits of ``first`` to ``last`` that ``tail`` accepts, without leading zeros."""
        parts = []
        for size in range(len(str(first)), len(str(last)) + 1):
            least = max(first, 10 ** (size - 1) if size > 1 else 0)
            most = min(last, 10**size - 1)
            if found := self._same_size(str(least), str(most), 0, tail):
                parts.append(found)
        return self._choice(parts)

    def _same_size(self, first: str, last: str, remainder: int, tail: Tail) -> str | None:
        if not first:
            return tail(remainder)
        rest = len(first) - 1
        if first == "0" * (rest + 1) and last == "9" * (rest + 1):
            return self._free(rest + 1, remainder, tail)
        parts = []
        for digit in range(int(first[0]), int(last[0]) + 1):
            low = first[1:] if digit == int(first[0]) else "0" * rest
            high = last[1:] if digit == int(last[0]) else "9" * rest
            after = self._same_size(low, high, (remainder * 10 + digit) % self._step, tail)
            if after is not None:
                parts.append(f'"{digit}" {after}'.strip())
        return self._choice(parts)

    def _free(self, count: int, remainder: int, tail: Tail) -> str | None:
        """Any ``count`` digits after ``remainder`` that ``tail`` accepts."""
        if count == 0:
            return tail(remainder)
        key = (count, remainder, tail)
        if key not in self._known:
            self._known[key] = self._choice(
                [
                    f'"{digit}" {after}'.strip()
                    for digit in range(10)
                    if (after := self._free(count - 1, (remainder * 10 + digit) % self._step, tail))
                    is not None
                ]
            )
        return self._known[key]

    def _choice(self, parts: list[str]) -> str | None:
        return self._add(" | ".join(parts)) if parts else None
