"""How a simulated mesh is run, what befalls it, and what became of each request."""

from __future__ import annotations

import math

import msgspec

from agents.scheduling.sim.workload import Prices

BLOCK_TOKENS = 512  # of a prompt's prefix, as Mooncake's trace cuts it


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How the mesh is run. ``limit_s`` is how long a request waits for its first token before it
    goes to the cloud; ``queue`` the places at each node; ``redirects`` how many other nodes are
    asked after a REJECT; ``age_s`` how old gossiped load gets; ``lengths_known`` whether the
    policy is told how long an answer will be; ``ties`` at how many nodes one request may stand in
    line at once, the first free slot taking it and the other places given up (tied requests:
    Dean and Barroso 2013); ``ask_fresh`` whether candidates are asked for their load when a
    choice is close."""

    limit_s: float = 0.0
    queue: int = 0
    redirects: int = 0
    ties: int = 1
    ask_fresh: bool = False
    ingress: int = 1
    age_s: float = 0.0
    round_trip_s: float = 0.0
    lengths_known: bool = False
    deadline_s: float = math.inf
    prices: Prices = Prices()
    cloud_first_token_s: float = 0.5
    cloud_tokens_per_s: float = 50.0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """At ``at`` seconds node ``node`` becomes ``factor`` times as fast, or joins (factor 0)."""

    at: float
    node: int
    factor: float


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request; ``node`` -1 is the cloud."""

    at: float
    answer: int
    node: int
    first_token_s: float
    total_s: float
    cost: float = 0.0
    chosen: int = -1  # the first node that was asked
    decided: int = 0  # which decision of the mesh this was
