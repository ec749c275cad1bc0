"""Parts of a budget lent to other nodes that hold keys. Pure.

    holder ─ask(id, want)▶ lender: books all of it, as if it were spent
    holder ◀grant(sum, seconds)─ and spends from it alone, no call longer than the lease
    holder ─return(id, spent)▶ lender: books what was spent instead
    no return: all of it stays spent, since nobody knows better

So the sum over all nodes never passes the lender's limits, whoever dies or is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

MARGIN_S = 5.0  # a holder stops so long before the lender's end: clocks run at different speeds
RETURN_BELOW = 0.5  # of a lease's time: an idle one is returned from then on


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a lender lends: ``share`` of what is left, at least what is wanted, for ``seconds``;
    at most ``open_each`` leases per holder and groups. A larger share means fewer calls between
    nodes and more that lies idle with one of them."""

    share: float = 0.25
    seconds: float = 300.0
    open_each: int = 2


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """A holder wants at least ``want`` for callers in ``groups``. The holder chooses ``id``, so
    that the same question asked twice is one lease."""

    id: str
    want: int
    seconds: float
    groups: tuple[str, ...] = ()


class Return(msgspec.Struct, frozen=True, kw_only=True, tag="return"):
    """A holder is done with a lease of which it spent so much."""

    id: str
    spent: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The lender's word; ``seconds`` is a duration, since clocks differ."""

    id: str
    nano: int
    seconds: float


def grant_of(ask: Ask, left: int | None, open_now: int, terms: Terms) -> int:
    """How much is lent, 0 for nothing. ``left``: the lender's room, None for no limit."""
    if ask.want <= 0 or ask.seconds + MARGIN_S > terms.seconds or open_now >= terms.open_each:
        return 0
    if left is None:
        return ask.want * 10  # no limit to share: a handful of calls' worth
    return 0 if ask.want > left else min(left, max(ask.want, int(left * terms.share)))


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as its holder sees it: ``used`` is spent and reserved, ``busy`` calls are under
    way, ``until`` is wall seconds of the holder."""

    id: str
    nano: int
    used: int
    busy: int
    begun: float
    until: float
    closing: bool = False


def pick(leases: Sequence[Held], want: int, seconds: float, now: float) -> Held | None:
    """The lease to spend ``want`` from in a call of ``seconds``; None to ask for another. The
    one that ends first is emptied first."""
    fit = [
        lease
        for lease in leases
        if not lease.closing and lease.nano - lease.used >= want and now + seconds <= lease.until
    ]
    return min(fit, key=lambda lease: lease.until) if fit else None


def to_return(leases: Sequence[Held], now: float) -> list[Held]:
    """Leases without calls under way that are idle, about to end or over."""
    return [
        lease
        for lease in leases
        if not lease.busy
        and (lease.closing or now >= lease.begun + (lease.until - lease.begun) * RETURN_BELOW)
    ]
