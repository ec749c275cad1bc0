"""Finding the band of a number digit by digit, as a model writes it in its scratchpad.

The number in a fixed width, a colon, then one mark for each digit, always as far behind it: `1` to
`6` is the band (`1` the lowest) as soon as it is certain; a letter says that only the upper edge of
that band is still to be decided (`A` of the lowest); `~` that several are. With the edges 90, 354,
554, 1254, 2254 the number 417 is `0417:~333` and 355 is `0355:~BB3`. A mark follows from the mark
before it and the digits so far, so a tiny model can look it up.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

BANDS = "12345678"
EDGES = "ABCDEFGH"


def walk(number: int, edges: Sequence[int], width: int) -> str:
    """`number` in `width` digits and their marks; `edges` are the bands' upper edges.

    Raises ValueError for a number with more digits.
    """
    digits = f"{number:0{width}}"
    if len(digits) > width:
        raise ValueError(f"{number} has more than {width} digits")
    prefixes = [(int(digits[:place]), 10 ** (width - place)) for place in range(1, width + 1)]
    return f"{digits}:{''.join(_mark(prefix, edges, rest) for prefix, rest in prefixes)}"


def _mark(prefix: int, edges: Sequence[int], rest: int) -> str:
    low, high = (bisect_left(edges, n) for n in (prefix * rest, prefix * rest + rest - 1))
    if low == high:
        return BANDS[low]
    return EDGES[low] if high == low + 1 else "~"


def near_edges(rng: random.Random, edges: Sequence[int], highest: int, lowest: int = 0) -> int:
    """A number: half evenly over the bands, a third at an edge or beside it, the rest anywhere."""
    draw = rng.random()
    if draw < 0.35:
        number = rng.choice(edges) + rng.choice((0, 0, 1, 1, -1, 2, 10))
        return min(max(number, lowest), highest)
    if draw < 0.85:
        band = rng.randrange(len(edges) + 1)
        low = edges[band - 1] + 1 if band else lowest
        return rng.randint(low, edges[band] if band < len(edges) else highest)
    return rng.randint(lowest, highest)


def compare(earlier: int, now: int, width: int) -> str:
    """`earlier` in `width` digits, then digit by digit against `now`, up to the first difference.

    From 302 to 417 that is `0302:0=03<4`.
    """
    text = f"{earlier:0{width}}:"
    for x, y in zip(f"{earlier:0{width}}", f"{now:0{width}}", strict=True):
        text += f"{x}{'=' if x == y else '<' if x < y else '>'}{y}"
        if x != y:
            break
    return text
