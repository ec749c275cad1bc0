"""Arrays whose items differ, from a few possible values, as GBNF rules; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from capabilities.slm.errors import BadRequest, Unsupported

ANY_ORDER = 7  # values: their order is free up to here, since each set of used ones is a rule
MAX_RULES = 2_000


def array(values: Sequence[str], least: int, most: int, add: Callable[[str], str]) -> str:
    """An array of ``least`` to ``most`` of the literals ``values``, none of them twice.

    More than :data:`ANY_ORDER` values come in the order in which they are given.
    """
    if least > len(values):
        raise BadRequest(
            f"the JSON schema wants {least} different items and allows {len(values)} values"
        )
    most = min(most, len(values))
    if len(values) <= ANY_ORDER:
        return _any_order(values, least, most, add)
    if len(values) * most > MAX_RULES:
        raise Unsupported(
            f"a JSON schema with uniqueItems of {len(values)} values and up to {most} items",
            hint="lower maxItems, or allow fewer values",
        )
    return _in_order(values, least, most, add)


def _any_order(values: Sequence[str], least: int, most: int, add: Callable[[str], str]) -> str:
    known: dict[frozenset[int], str] = {}

    def after(left: frozenset[int]) -> str:
        """What follows when only those in ``left`` may still come."""
        if left not in known:
            count = len(values) - len(left)
            lead = "comma " if count else ""
            choices = []
            if count < most:
                choices = [f"{lead}{values[one]} {after(left - {one})}" for one in sorted(left)]
            if count >= least:
                choices.append('""')
            known[left] = add(" | ".join(choices))
        return known[left]

    return f'"[" {after(frozenset(range(len(values))))} "]"'


def _in_order(values: Sequence[str], least: int, most: int, add: Callable[[str], str]) -> str:
    known: dict[tuple[int, int], str] = {}

    def pick(begin: int, count: int) -> str:
        """One of the values from ``begin`` on, the ``count``-th item, and what follows."""
        key = (begin, count)
        if key not in known:
            choices = []
            rest = len(values) - begin - 1
            if count + rest >= least:
                choices.append(f"{values[begin]} {after(begin + 1, count)}".strip())
            if rest and count + rest - 1 >= least:
                choices.append(pick(begin + 1, count))
            known[key] = add(" | ".join(choices))
        return known[key]

    def after(begin: int, count: int) -> str:
        if count == most or begin == len(values):
            return ""
        more = f"comma {pick(begin, count + 1)}"
        return more if count < least else f"({more})?"

    first = pick(0, 1)
    return f'"[" {first} "]"' if least else f'"[" ({first})? "]"'
