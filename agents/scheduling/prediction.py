"""How long an endpoint would take: to its first token and to its last, learnt as answers come.

What a node says of its own rate is where the estimate starts (law 3: a claim); what its answers
were seen to take moves it from there, and a call that is on its way and visibly slower than
expected counts before it has ended.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from agents.port import Offer
from agents.scheduling.estimate import Estimate
from agents.scheduling.flights import Flights

UNKNOWN_TOKENS_PER_S = 10.0  # of a node that says nothing: a small board
# Prompts are read in batches; on the boards measured ten to thirty times as fast as tokens are
# written. The low end, until it has been seen.
PREFILL_OVER_DECODE = 10.0
FIRST_ANSWER_TOKENS = 128.0  # of an answer, before any has been seen
CLAIM_TRUST = 1.0  # observations that a node's own word is worth
LENGTH_WEIGHT = 0.02  # of the newest answer in the mean length; about the last hundred count
FEWEST_TOKENS = 4  # an answer below says nothing about speed
LOOK_EVERY_S = 1.0  # how often calls under way are looked at
BEHIND = 1.6  # a call this much slower than expected is news before it ends
MAX_PREFIXES = 512  # remembered per endpoint: a hash and a count each
MAX_ENDPOINTS = 1024  # a peer that makes up names must not fill the memory


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one call went, as its caller saw it. Seconds from the call; -1 where there was none.

    ``waited_s`` is what the node was predicted to let it wait; ``tokens`` counts the answer.
    """

    node: bytes
    name: str
    at: float  # monotonic seconds when it ended
    # ok, rejected, failed, impatient (left before its first token), cancelled (by who asked)
    status: str = "ok"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    first_token_s: float = -1.0
    total_s: float = -1.0
    round_trip_s: float = 0.0
    expected_wait_s: float = 0.0
    quality: float = -1.0  # calibrated confidence of the answer, 0 to 1; -1 when unknown
    cost: float = 0.0  # money
    deadline_s: float = math.inf  # that it had
    prefix: tuple[int, ...] = ()
    service_class: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. ``prefix`` are hashes of the prompt's first, second, ... block, each over
    all before it; ``block_tokens`` is a block's length. ``answer_tokens`` 0: not known."""

    prompt_tokens: int = 0
    answer_tokens: float = 0.0
    prefix: tuple[int, ...] = ()
    block_tokens: int = 0


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the call, and what they are made of."""

    wait_s: float
    first_token_s: float
    completion_s: float
    cached_tokens: int = 0
    full: bool = False  # no slot is free, as far as is known


@dataclass(slots=True)
class _Endpoint:
    claimed: float
    token_s: Estimate
    prompt_s: Estimate
    calls: int = 0  # that ended, however they did
    prefixes: OrderedDict[int, None] = field(default_factory=OrderedDict)


class Predictor:
    """The estimates of one node about all endpoints it knows."""

    def __init__(self) -> None:
        self._endpoints: OrderedDict[tuple[bytes, str], _Endpoint] = OrderedDict()
        self.answer_tokens = FIRST_ANSWER_TOKENS
        self.prompt_tokens = 0.0
        self._answers = 0
        self._looked = -math.inf

    def predict(self, offer: Offer, job: Job, unseen: int) -> Prediction:
        """For a call of ``job`` that would leave now. ``unseen`` own calls are at the node that
        its reported load cannot hold yet."""
        endpoint = self._endpoint(offer)
        token_s, prompt_s = endpoint.token_s.value, endpoint.prompt_s.value
        cached = self._cached(endpoint, job)
        slots = max(1, offer.slots)
        taken = offer.load * slots + unseen
        wait_s = 0.0
        full = taken >= slots - 1e-6
        if full:
            answer_s = self.answer_tokens * token_s + self.prompt_tokens * prompt_s
            # Slots free one after another; on average half of the next has already passed.
            wait_s = answer_s * (taken - slots + 0.5) / slots
        first = offer.round_trip_s + wait_s + (job.prompt_tokens - cached) * prompt_s + token_s
        answer = job.answer_tokens or self.answer_tokens
        return Prediction(
            wait_s=wait_s,
            first_token_s=first,
            completion_s=first + max(0.0, answer - 1) * token_s,
            cached_tokens=cached,
            full=full,
        )

    def observe(self, outcome: Outcome) -> None:
        """Learn from a call that ended."""
        endpoint = self._endpoints.get((outcome.node, outcome.name))
        if endpoint is None:
            return
        endpoint.calls += 1
        if outcome.status != "ok":
            return
        self._answers += 1
        weight = max(LENGTH_WEIGHT, 1 / self._answers)
        self.answer_tokens += weight * (max(1, outcome.tokens) - self.answer_tokens)
        read = outcome.prompt_tokens - outcome.cached_tokens
        self.prompt_tokens += weight * (read - self.prompt_tokens)
        if outcome.tokens >= FEWEST_TOKENS and outcome.total_s > outcome.first_token_s >= 0:
            spent = outcome.total_s - outcome.first_token_s
            endpoint.token_s.observe(spent / (outcome.tokens - 1))
        # A wait cannot be told from slow reading, so only calls that met a free slot teach it.
        if read >= FEWEST_TOKENS and outcome.expected_wait_s <= 0 < outcome.first_token_s:
            reading = outcome.first_token_s - outcome.round_trip_s - endpoint.token_s.value
            endpoint.prompt_s.observe(max(reading, 1e-6) / read)
        self._keep_prefix(endpoint, outcome.prefix)

    def due(self, now: float) -> bool:
        """Whether :meth:`look` would look."""
        return now - self._looked >= LOOK_EVERY_S

    def look(self, flights: Flights, now: float) -> None:
        """Look at the calls under way, at most once in ``LOOK_EVERY_S``."""
        if not self.due(now):
            return
        self._looked = now
        for (node, _), endpoint in self._endpoints.items():
            slowest = 0.0
            for flight in flights.at(node):
                if flight.first_at >= 0 and flight.tokens >= FEWEST_TOKENS:
                    slowest = max(slowest, (now - flight.first_at) / flight.tokens)
            if slowest > BEHIND * endpoint.token_s.value:
                endpoint.token_s.observe(slowest)

    def knows(self, offer: Offer) -> bool:
        """Whether it says what its rate is, or has been seen to answer."""
        endpoint = self._endpoints.get((offer.node, offer.served.name))
        return offer.tokens_per_s > 0 or (endpoint is not None and endpoint.token_s.seen > 0)

    def tried(self, offer: Offer) -> bool:
        """Whether a call of it has ended, however it did."""
        endpoint = self._endpoints.get((offer.node, offer.served.name))
        return endpoint is not None and endpoint.calls > 0

    def tokens_per_s(self, offer: Offer) -> float:
        """What one stream is believed to get there."""
        return 1 / self._endpoint(offer).token_s.value

    def _endpoint(self, offer: Offer) -> _Endpoint:
        key = (offer.node, offer.served.name)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            rate = offer.tokens_per_s if offer.tokens_per_s > 0 else UNKNOWN_TOKENS_PER_S
            prompt = offer.prompt_tokens_per_s or rate * PREFILL_OVER_DECODE
            endpoint = self._endpoints[key] = _Endpoint(
                rate, Estimate(1 / rate, CLAIM_TRUST), Estimate(1 / prompt, CLAIM_TRUST)
            )
            if len(self._endpoints) > MAX_ENDPOINTS:
                self._endpoints.popitem(last=False)
        elif endpoint.token_s.seen == 0 and offer.tokens_per_s not in {0, endpoint.claimed}:
            endpoint.claimed = offer.tokens_per_s  # no answer yet, and its own word has changed
            endpoint.token_s = Estimate(1 / offer.tokens_per_s, CLAIM_TRUST)
        return endpoint

    @staticmethod
    def _cached(endpoint: _Endpoint, job: Job) -> int:
        found = 0
        for block in job.prefix:
            if block not in endpoint.prefixes:
                break
            found += 1
        return min(found * job.block_tokens, max(0, job.prompt_tokens - 1))

    @staticmethod
    def _keep_prefix(endpoint: _Endpoint, prefix: Sequence[int]) -> None:
        for block in prefix:
            endpoint.prefixes[block] = None
            endpoint.prefixes.move_to_end(block)
        while len(endpoint.prefixes) > MAX_PREFIXES:
            endpoint.prefixes.popitem(last=False)
