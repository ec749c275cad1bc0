"""Which of the nodes offering a name fit this task: a yes, or a no with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from agents.classifier.catalogue import WORDLESS_KINDS
from agents.port import Offer
from mesh.core.wire import Reach


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What the task asks of a node.

    What a node does not say of itself is no reason against it (``accuracy_floor`` holds only
    where an accuracy was measured, ``tokens`` where a context is known), but for the modalities
    and the vocabulary: a model that does not see cannot describe a picture, and ids of another
    vocabulary mean other words, so there silence is a no.
    """

    reach: int = Reach.MESH
    accuracy_floor: float = 0.0
    node: str = ""  # only this node, by name
    tried: frozenset[bytes] = frozenset()
    modalities: frozenset[str] = frozenset({"text"})
    tokens: int = 0  # prompt and answer together; 0 when nobody counted
    language: str = ""  # a BCP 47 tag; "de" is served by "de-AT"
    vocab_hash: str = ""  # token ids are exchanged: only the same vocabulary will do
    max_data_age_s: float = 0.0  # 0: any age
    allowed: frozenset[bytes] | None = None  # nodes that a policy leaves; None leaves all


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
    if need.allowed is not None and not offer.me and offer.node not in need.allowed:
        return "the task may not be given to it"
    if 0.0 < need.max_data_age_s < offer.data_age_s:
        return f"its data is {offer.data_age_s:.0f} s old, at most {need.max_data_age_s:.0f} s fit"
    if need.language and offer.languages and not _speaks(offer.languages, need.language):
        return f"does not answer in {need.language}"
    return _model_misfit(offer, need)


def _model_misfit(offer: Offer, need: Need) -> str:
    model = offer.model
    lacking = need.modalities - set(model.modalities if model else ("text",))
    if lacking:
        return f"does not take {', '.join(sorted(lacking))}"
    if need.vocab_hash and (model is None or model.vocab_hash != need.vocab_hash):
        return "has another vocabulary"
    if model is not None and 0 < model.context < need.tokens:
        return f"holds {model.context} tokens, the task takes {need.tokens}"
    return ""


def _speaks(languages: Iterable[str], wanted: str) -> bool:
    """Whether one of the tags is the wanted one or a variety of it (RFC 4647, basic filtering)."""
    want = wanted.lower()
    return any(one.lower() == want or one.lower().startswith(f"{want}-") for one in languages)
