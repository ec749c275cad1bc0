"""One request to one model: by a name, by a model, or by the name that the classifier chooses.

Unlike a question (:mod:`agents.orchestrator`), it is neither planned nor judged: what the caller
asked for (tools, a schema, log-probabilities, stop strings, a conversation) reaches one node, and
that node's words are the answer. Another node is tried only while nothing has been said yet, so
that what was streamed is never taken back.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from agents.classifier.catalogue import WORDLESS_KINDS, KnownName, known_names, remember
from agents.orchestrator.allocate import route
from agents.orchestrator.orchestrator import MAX_NAMES_ON_LOOP
from agents.parts import Parts
from agents.port import MeshPort, Offer, Task
from agents.scheduling.policies import Context
from capabilities.messages import Delta, Done, Generate, decode_event, encode
from mesh.core.errors import (
    CapabilityFailed,
    ConfigError,
    DeadlineExceeded,
    GossamerError,
    NoSuchName,
    PeerLost,
    Rejected,
)
from mesh.core.names import parse_address

MESH = "mesh"  # the target that leaves the choice to the agent
MAX_ATTEMPTS = 4  # nodes asked before the caller is told no; each REJECT costs a round trip
# What another node may do better than the one that was asked.
ELSEWHERE = (Rejected, PeerLost, DeadlineExceeded)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A name, why it was chosen, and the offers of it that may be asked."""

    name: str
    rule: str
    probability: float
    offers: Sequence[Offer]


class Generated(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a generation: what was said, by whom, and what it took."""

    done: Done
    name: str
    node: str
    remote: bool
    rule: str
    attempts: tuple[str, ...]
    elapsed_s: float
    first_token_s: float = -1.0


class Generator:
    """Finds who can answer and streams the answer; one per agent."""

    def __init__(self, port: MeshPort, parts: Parts, rng: random.Random) -> None:
        self._port = port
        self._parts = parts
        self._rng = rng
        self._dispatched: Counter[bytes] = Counter()
        self._remembered: dict[str, KnownName] = {}

    async def choose(self, target: str, request: Generate, task: Task) -> Chosen:
        """Who could answer; raises NoSuchName, NobodyHealthy, AccessDenied or NameInvalid."""
        if target == MESH:
            return await self._by_meaning(request, task)
        if ".gpt/" in target:
            address = parse_address(target)
            offers = self._port.resolve(address.name, task)
            if address.node:
                offers = [offer for offer in offers if offer.node_name == address.node]
            if not offers:
                raise NoSuchName(f"{address.node or 'nobody'} does not offer {address.name}")
            if offers[0].served.kind in WORDLESS_KINDS:
                raise ConfigError(f"{address.name} does not answer in words")
            return Chosen(
                name=address.name, rule="asked for by name", probability=1.0, offers=offers
            )
        return self._by_model(target)

    async def _by_meaning(self, request: Generate, task: Task) -> Chosen:
        asked = [message.content for message in request.messages if message.role == "user"]
        offers = self._port.offers()
        remember(self._remembered, offers)
        known = known_names(offers, self._remembered, self._parts.well_known)
        classifier, question = self._parts.classifier, asked[-1] if asked else ""
        if classifier.blocking or len(known) > MAX_NAMES_ON_LOOP:
            relevance = await asyncio.to_thread(classifier.classify, question, known)
        else:
            relevance = classifier.classify(question, known)
        found = route(relevance, self._parts)
        return Chosen(
            name=found.name,
            rule=found.rule,
            probability=found.probability,
            offers=self._port.resolve(found.name, task),
        )

    def _by_model(self, target: str) -> Chosen:
        model, _, node = target.partition("@")
        offers = [
            offer
            for offer in self._port.offers()
            if offer.served.model == model
            and offer.healthy
            and offer.served.kind not in WORDLESS_KINDS
            and node in {"", offer.node_name}
        ]
        if not offers:
            raise NoSuchName(
                f"no node of the mesh offers the model {target[:80]!r}",
                hint="GET /v1/models, or gossamer names, shows what there is",
            )
        name = offers[0].served.name  # the first name that a model answers under is its own
        return Chosen(
            name=name,
            rule="asked for by model",
            probability=1.0,
            offers=[offer for offer in offers if offer.served.name == name],
        )

    async def run(
        self, chosen: Chosen, request: Generate, task: Task
    ) -> AsyncIterator[Offer | Delta | Generated]:
        """The offer that is asked, its deltas, and last what it came to.

        Each further :class:`Offer` says that the one before said no. Raises what the last node
        asked raised; closing the iterator cancels.
        """
        began = self._port.now()
        body = encode(request)
        context = Context(rng=self._rng, dispatched=self._dispatched, objective="latency")
        order = self._parts.policy.order(chosen.offers, context)[:MAX_ATTEMPTS]
        tried: list[str] = []
        last: GossamerError | None = None
        for offer in order:
            tried.append(offer.node_name)
            yield offer
            first_s = -1.0
            self._dispatched[offer.node] += 1
            answer = self._port.call(offer, body, task)
            try:
                async for message in answer:
                    event = decode_event(message)
                    if first_s < 0:
                        first_s = self._port.now() - began
                    if isinstance(event, Delta):
                        yield event
                        continue
                    yield Generated(
                        done=event,
                        name=chosen.name,
                        node=offer.node_name,
                        remote=not offer.me,
                        rule=chosen.rule,
                        attempts=tuple(tried),
                        elapsed_s=self._port.now() - began,
                        first_token_s=first_s,
                    )
                    return
                raise CapabilityFailed("the stream ended before the answer was whole")
            except ELSEWHERE as error:
                if first_s >= 0 or self._port.now() >= task.deadline:
                    raise
                last = error
            finally:
                self._dispatched[offer.node] -= 1
                if self._dispatched[offer.node] <= 0:
                    del self._dispatched[offer.node]
                close = getattr(answer, "aclose", None)
                if close is not None:
                    await close()
        raise last or NoSuchName(f"nobody offers {chosen.name}")


def as_answer(found: Generated, trace: str) -> dict[str, Any]:
    """What the local door says of a generation, as plain values."""
    done = found.done
    return {
        "text": done.text,
        "finish": done.finish,
        "model": done.model,
        "name": found.name,
        "node": found.node,
        "remote": found.remote,
        "rule": found.rule,
        "attempts": list(found.attempts),
        "elapsed_s": round(found.elapsed_s, 4),
        "first_token_s": round(found.first_token_s, 4),
        "trace": trace,
        "cost": done.paid.cost if done.paid is not None else 0.0,
        "usage": msgspec.to_builtins(done.usage),
        "evidence": msgspec.to_builtins(done.evidence),
        "tool_calls": msgspec.to_builtins(done.tool_calls),
    }
