"""What a cloud call needs of a budget; the agent implements it (:mod:`agents.budget`)."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mesh.core.errors import Rejected


class OverBudget(Rejected):
    """The budget has no room for the worst case of this call.

    It travels as a REJECT: ``retry_after_s`` is when there is room again as far as is known.
    """


class BookFailed(Rejected):
    """The book cannot be written: nothing is spent that cannot be booked."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The worst case of one call. ``groups`` are the asker's, as its certificate says;
    ``seconds`` is how long the call can take at most."""

    nano: int
    provider: str
    model: str
    seconds: float
    groups: tuple[str, ...] = ()
    trace: str = ""


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What a call took. ``estimated``: the provider did not say, so this is an upper bound."""

    nano: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False


class Purse(Protocol):
    """Money that may be spent. A claim is made before the call and settled after it.

    A ticket that was never marked as sent is given back when its time is over; one that was
    sent and never settled stays spent in full, since the provider may bill it.
    """

    async def reserve(self, claim: Claim) -> str:
        """A ticket; raises :class:`OverBudget`."""

    async def sent(self, ticket: str) -> None:
        """The call is about to leave: from here on it may be billed."""

    async def settle(self, ticket: str, bill: Bill) -> None:
        """The call is over, and cost this."""

    async def release(self, ticket: str) -> None:
        """The call is over, and nothing is billed."""

    def shut_s(self, nano: int, groups: tuple[str, ...]) -> float:
        """Seconds until a claim like this may succeed, as last known; 0 for now. No I/O."""
