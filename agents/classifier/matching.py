"""Which of the nodes offering a name fit this task: a yes, or a no with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from agents.classifier.catalogue import WORDLESS_KINDS
from agents.port import Offer
from mesh.core.wire import Reach


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What the task asks of a node. ``accuracy_floor`` holds only where one was measured."""

    reach: int = Reach.MESH
    accuracy_floor: float = 0.0
    node: str = ""  # only this node, by name
    tried: frozenset[bytes] = frozenset()


class Misfit(NamedTuple):
    """An offer that does not fit, and why."""

    offer: Offer
    why: str


class Match(NamedTuple):
    """Every offer, on one side or the other."""

    fit: list[Offer]
    misfit: list[Misfit]


class Matcher(Protocol):
    """A matcher, chosen by name in the configuration."""

    def match(self, offers: Iterable[Offer], need: Need) -> Match:
        """Part the offers. Must not do I/O."""


class RuleMatcher:
    """Parts offers by rules; the order of the offers is kept."""

    def match(self, offers: Iterable[Offer], need: Need) -> Match:
        """See :class:`Matcher`."""
        parted = Match([], [])
        for offer in offers:
            why = _misfit(offer, need)
            if why:
                parted.misfit.append(Misfit(offer, why))
            else:
                parted.fit.append(offer)
        return parted


def _misfit(offer: Offer, need: Need) -> str:
    if offer.node in need.tried:
        return "was tried already"
    if need.node and offer.node_name != need.node:
        return f"another node was asked for ({need.node})"
    if not offer.healthy:
        return "is not reachable"
    if need.reach <= Reach.NODE and not offer.me:
        return "the task may not leave this node"
    if offer.served.kind in WORDLESS_KINDS:
        return f"does not answer in words ({offer.served.kind})"
    if 0.0 <= offer.served.accuracy < need.accuracy_floor:
        return f"measured accuracy {offer.served.accuracy:.2f} is below {need.accuracy_floor:.2f}"
    return ""
