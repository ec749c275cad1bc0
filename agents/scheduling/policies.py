"""Which node first: an order over offers that all fit the task.

A policy only orders; whether a node takes the work is its own answer (ACCEPT or REJECT), since
load figures are hints. The three here are the article's (section V): random ignores capacity,
weighted prefers strong nodes, load-aware sends to the least busy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from agents.port import Offer


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy may look at besides the offers.

    ``dispatched`` counts this node's own calls under way per node: a gossiped load is seconds
    old, and without it two steps of one question would both go to the same idle node.
    """

    rng: random.Random
    dispatched: Mapping[bytes, int] = {}
    objective: str = "latency"  # latency, accuracy or resources


class Policy(Protocol):
    """A scheduling policy, chosen by name in the configuration."""

    def order(self, offers: Sequence[Offer], context: Context) -> list[Offer]:
        """All the offers, best first; never a different set. Must not do I/O."""


def busy(offer: Offer, context: Context) -> float:
    """Load with this node's own calls under way added: 1 is full, above it work waits."""
    return offer.load + context.dispatched.get(offer.node, 0) / max(1, offer.slots)


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


def _strength(offer: Offer) -> float:
    return max(1, offer.served.weight) * max(1.0, offer.tokens_per_s) * max(1, offer.slots)
