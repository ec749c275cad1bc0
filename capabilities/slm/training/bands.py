"""Finding the band of a number digit by digit, as a model writes it in its scratchpad.

After each digit stands what is known: a small letter is the band (`a` the lowest) as soon as it is
certain; a capital says that only the upper edge of that band is still to be decided; `~` that
several are. With the edges 90, 354, 554, 1254, 2254 the number 417 is `0~4c1c7c` and 355 is
`0~3B5B5c`. A mark follows from the few digits so far, so a tiny model can look it up.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

BANDS = "abcdefgh"


def walk(number: int, edges: Sequence[int], width: int) -> str:
    """`number` in `width` digits, a mark after each; `edges` are the bands' upper edges."""
    digits, marked = f"{number:0{width}}", ""
    if len(digits) > width:
        raise ValueError(f"{number} has more than {width} digits")
    for place in range(1, width + 1):
        marked += digits[place - 1] + _mark(int(digits[:place]), edges, 10 ** (width - place))
    return marked


def _mark(prefix: int, edges: Sequence[int], rest: int) -> str:
    low, high = (bisect_left(edges, n) for n in (prefix * rest, prefix * rest + rest - 1))
    if low == high:
        return BANDS[low]
    return BANDS[low].upper() if high == low + 1 else "~"


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
    """Both numbers digit by digit from the top, up to the first difference: `0=03<4`."""
    text = ""
    for x, y in zip(f"{earlier:0{width}}", f"{now:0{width}}", strict=True):
        text += f"{x}{'=' if x == y else '<' if x < y else '>'}{y}"
        if x != y:
            break
    return text
