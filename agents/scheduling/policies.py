"""Which node first: an order over offers that all fit the task.

A policy only orders; whether a node takes the work is its own answer (ACCEPT or REJECT), since
load figures are hints. Three are the article's (section V): random ignores capacity, weighted
prefers strong nodes, load-aware sends to the least busy. What learns has modules of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from agents.port import Offer
from agents.scheduling.flights import Flights
from agents.scheduling.prediction import Job, Outcome


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy may look at besides the offers.

    ``flights`` are this node's own calls under way: a reported load is seconds old, and without
    them two steps of one question would both go to the same idle node. ``dispatched`` is the
    same as plain counts, for who has no times. ``job`` is what will be asked, as far as it is
    known; ``service_class`` groups jobs that are alike (a name, mostly).
    """

    rng: random.Random
    dispatched: Mapping[bytes, int] = {}
    objective: str = "latency"  # latency, accuracy or resources
    now: float = 0.0
    flights: Flights | None = None
    job: Job = Job()
    time_left_s: float = math.inf
    patience_s: float = math.inf
    accuracy_floor: float = 0.0
    service_class: str = ""

    def unseen(self, offer: Offer) -> int:
        """Own calls at the node that its reported load does not hold yet."""
        if self.flights is not None:
            return self.flights.since(offer.node, offer.seen_at)
        return self.dispatched.get(offer.node, 0)


class Policy(Protocol):
    """A scheduling policy, chosen by name in the configuration."""

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """All the offers, best first; never a different set. Must not do I/O."""


@runtime_checkable
class Learner(Protocol):
    """A policy that learns from how calls went."""

    def observe(self, outcome: Outcome) -> None:
        """A call ended."""


def busy(offer: Offer, context: Context) -> float:
    """Load with this node's own calls under way added: 1 is full, above it work waits."""
    return offer.load + context.unseen(offer) / max(1, offer.slots)


def in_line(order: Sequence[Offer], context: Context, most: int) -> tuple[Offer, ...]:
    """Whom to ask first: the first of ``order`` where it has a free slot, else the first
    ``most``, to stand in line at all of them and to take whichever slot is free first."""
    if order and busy(order[0], context) >= 1.0:
        return tuple(order[: max(1, most)])
    return tuple(order[:1])


class Random:
    """Uniform over the nodes, whatever they can do: the baseline of every comparison."""

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """A shuffled copy."""
        shuffled = list(offers)
        context.rng.shuffle(shuffled)
        return shuffled


class Weighted:
    """By chance in proportion to weight and measured rate, lower priority first (RFC 2782)."""

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """A weighted shuffle: the smallest of exponential draws with rate = strength."""
        # Efraimidis and Spirakis 2006: ordering by log(u)/w samples without replacement.
        drawn = [
            (offer.served.priority, -math.log(1.0 - context.rng.random()) / _strength(offer), n)
            for n, offer in enumerate(offers)
        ]
        return [offers[n] for _, _, n in sorted(drawn)]


class LoadAware:
    """The least busy node, own calls counted; this node itself when the choice is equal.

    A node with a lower (better) priority keeps it until it is full. The objective "accuracy"
    puts the measured accuracy first among nodes that are not full.
    """

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """Sorted by full, priority, (accuracy), busy, not me; the rest by chance."""
        accurate = context.objective == "accuracy"

        def key(pair: tuple[float, Offer]) -> tuple[bool, int, float, float, bool, float]:
            chance, offer = pair
            load = busy(offer, context)
            return (
                load >= 1.0,
                offer.served.priority,
                -offer.served.accuracy if accurate else 0.0,
                round(load, 3),
                not offer.me,
                chance,
            )

        keyed = sorted(((context.rng.random(), offer) for offer in offers), key=key)
        return [offer for _, offer in keyed]


class PowerOfTwo:
    """The less busy of two drawn by chance (Mitzenmacher 2001), then the rest by chance.

    Nearly as even as asking everybody, and it does not send the whole mesh to the node that
    an old report calls idle.
    """

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """The less busy of the first two of a shuffle comes first."""
        shuffled = list(offers)
        context.rng.shuffle(shuffled)
        if len(shuffled) > 1 and busy(shuffled[1], context) < busy(shuffled[0], context):
            shuffled[0], shuffled[1] = shuffled[1], shuffled[0]
        return shuffled


def _strength(offer: Offer) -> float:
    return max(1, offer.served.weight) * max(1.0, offer.tokens_per_s) * max(1, offer.slots)
