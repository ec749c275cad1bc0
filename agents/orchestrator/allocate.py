"""Which name a step is for, and which node is asked first: decisions only."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agents.classifier.catalogue import MACHINE
from agents.classifier.matching import Need
from agents.classifier.relevance import Relevance
from agents.parts import Parts
from agents.port import Offer
from agents.scheduling.policies import Context
from mesh.core import names
from mesh.core.errors import AccessDenied, GossamerError, NobodyHealthy, NoSuchName

# "this machine" is the one that was asked: its own offer goes before any peer's.
ABOUT_THIS_NODE = MACHINE.rsplit("/", 1)[0] + "/**"

NAMED_IN_PLAN = "named in the plan"

MAX_NAMES = 4  # that one question is given to, when each before says that it is not its field
# Of ``second``, what a name must have before anybody declined: what is left over of a classifier
# that was all but sure says nothing.
LEAST_SHARE = 0.25


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a step. ``expert`` is false when the general model stands in.

    ``trust`` scales the confidence of its answers: a general model that answers what no name
    fits is as sure as the classifier is that it is no such question. ``others`` are the names
    that may be asked if this one declines.
    """

    name: str
    probability: float
    rule: str
    expert: bool = True
    trust: float = 1.0
    others: tuple[str, ...] = ()


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes to ask, best first, and why the rest is not among them."""

    order: tuple[Offer, ...]
    refused: tuple[str, ...] = ()


def route(relevance: Relevance, parts: Parts) -> Route:
    """The name for a question, given how the classifier sees it."""
    best = relevance.best
    others = _in_turn(relevance, parts.thresholds.second)
    if best.probability >= parts.thresholds.name:
        return Route(
            name=best.name,
            probability=best.probability,
            rule="likeliest name",
            expert=best.name != parts.general_name,
            others=tuple(name for name in others if name != best.name),
        )
    return Route(
        name=parts.general_name,
        probability=best.probability,
        rule="no name fits well enough: the general model",
        expert=False,
        trust=1.0 - relevance.out_of_scope,
        others=tuple(name for name in others if name != parts.general_name),
    )


def _in_turn(relevance: Relevance, least: float) -> tuple[str, ...]:
    """The names to ask one after the other: each as likely as it is once those before it have
    said that the question is not theirs."""
    left, found = 1.0, list[str]()
    for scored in relevance.ranked[:MAX_NAMES]:
        enough = scored.probability >= max(least * left, least * LEAST_SHARE)
        if left <= 0 or not enough:
            break
        found.append(scored.name)
        left -= scored.probability
    return tuple(found)


def allocate(
    name: str, offers: Sequence[Offer], need: Need, parts: Parts, context: Context
) -> Allocation:
    """Order the offers of a name that fit."""
    match = parts.matcher.match(offers, need)
    ordered = parts.policy.order(match.fit, context)
    if names.matches(ABOUT_THIS_NODE, name) and not need.node:
        ordered.sort(key=lambda offer: not offer.me)  # stable: only "me" moves to the front
    return Allocation(
        order=tuple(ordered),
        refused=tuple(f"{misfit.offer.node_name} {misfit.why}" for misfit in match.misfit),
    )


def absence(name: str, error: GossamerError | None, refused: Sequence[str] = ()) -> str:
    """Why nobody can be asked, as one plain sentence."""
    if isinstance(error, NoSuchName):
        return f"Nobody in the mesh offers {name}"
    if isinstance(error, NobodyHealthy):
        return f"Nobody in the mesh offers {name} now: no node that did can be reached"
    if isinstance(error, AccessDenied):
        return f"This node may not use {name}: {error.message}"
    if error is not None:
        return error.sentence()
    if refused:
        return f"No node that offers {name} fits: {'; '.join(refused[:4])}"
    return f"Nobody in the mesh offers {name}"


def attempt_deadline(now: float, deadline: float, *, others: int, first_share: float) -> float:
    """Until when one attempt may run: all of the time, or a share while others could take over."""
    return deadline if others <= 0 else now + (deadline - now) * first_share


def step_deadline(now: float, deadline: float, path: int) -> float:
    """Until when a step may run that has ``path`` steps (itself counted) still before it."""
    return now + (deadline - now) / max(1, path)
