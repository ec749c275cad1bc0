"""One request to one model: by a name, by a model, or by the name that the classifier chooses.

Unlike a question (:mod:`agents.orchestrator`), it is neither planned nor judged: what the caller
asked for (tools, a schema, log-probabilities, stop strings, a conversation) reaches one node, and
that node's words are the answer. Who is asked is decided as for a question: by the same policy,
fed by the same dispatcher. Another node is tried only while nothing has been said yet, so that
what was streamed is never taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from typing import Any

import msgspec

from agents.classifier.catalogue import WORDLESS_KINDS, KnownName, known_names, remember
from agents.orchestrator import freshness
from agents.orchestrator.allocate import route
from agents.orchestrator.calling import GRACE_S
from agents.orchestrator.dispatch import Dispatcher, closing
from agents.orchestrator.line import Line
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import MAX_NAMES_ON_LOOP
from agents.orchestrator.verify import Assembly
from agents.parts import Parts
from agents.port import MeshPort, Offer, Task
from agents.scheduling.policies import busy
from agents.scheduling.prediction import Job
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
# Who has waited in vain asks nodes that look free, and takes a slot at once or not at all.
AT_ONCE_S = 0.001


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
    """Finds who can answer and streams the answer; one per agent. ``dispatch`` is the one of the
    agent's questions, so that both see each other's calls and learn from them."""

    def __init__(self, port: MeshPort, parts: Parts, dispatch: Dispatcher) -> None:
        self._port = port
        self._parts = parts
        self._dispatch = dispatch
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
        self, chosen: Chosen, request: Generate, task: Task, options: AskOptions | None = None
    ) -> AsyncIterator[Offer | Delta | Generated]:
        """The offer that is asked, its deltas, and last what it came to.

        Each further :class:`Offer` says that it is the one now: the one before said no, or was
        not the first of a line to have a slot. ``options`` brings patience, policy and objective.
        Raises what the last node asked raised; closing the iterator cancels.
        """
        options = options or AskOptions()
        began = self._port.now()
        job = self._dispatch.job_of(request)
        tried: dict[bytes, str] = {}
        last: GossamerError | None = None
        for _ in range(MAX_ATTEMPTS):
            waited_s = self._port.now() - began
            late = 0 < options.patience_s <= waited_s
            order, line = await self._order(chosen, job, task, options, tried, late=late)
            if not order:
                break
            tried |= {offer.node: offer.node_name for offer in line}
            patience_s = max(AT_ONCE_S, options.patience_s - waited_s) if options.patience_s else 0
            mine = msgspec.structs.replace(task, patience_s=patience_s, lines=len(line))
            # A node that looked free and took the call is at work on it: no word is needed soon.
            within_s = patience_s if patience_s > AT_ONCE_S else 0.0
            assembly, asked = Assembly(), Line(self._port, line)
            yield asked.offer
            try:
                with self._dispatch.calling(asked, job, mine, assembly, self._port.now) as flight:
                    async with closing(asked.call(encode(request), mine)) as answer:
                        message = await _first(answer, within_s)
                        first_s = self._port.now() - began
                        if asked.offer is not line[0]:
                            yield asked.offer
                        while message is not None:
                            event = decode_event(message)
                            assembly.take(event)
                            if isinstance(event, Done):
                                break
                            self._dispatch.heard(flight, event.tokens, self._port.now())
                            yield event
                            message = await anext(answer, None)
            except ELSEWHERE as error:
                if assembly.heard or self._port.now() >= task.deadline:
                    raise
                last = error
                continue
            if assembly.done is None:
                raise CapabilityFailed("the stream ended before the answer was whole")
            yield Generated(
                done=assembly.done,
                name=chosen.name,
                node=asked.offer.node_name,
                remote=not asked.offer.me,
                rule=chosen.rule,
                attempts=tuple(tried.values()),
                elapsed_s=self._port.now() - began,
                first_token_s=first_s,
            )
            return
        raise last or NoSuchName(f"nobody offers {chosen.name}")

    async def _order(
        self,
        chosen: Chosen,
        job: Job,
        task: Task,
        options: AskOptions,
        tried: Container[bytes],
        *,
        late: bool,
    ) -> tuple[list[Offer], tuple[Offer, ...]]:
        """Who may be asked, best first, on fresh figures where the choice is close; and at whom
        to stand in line: one node, or several where the first is full."""
        policy = self._dispatch.parts_for(options.policy).policy
        offers: Sequence[Offer] = [offer for offer in chosen.offers if offer.node not in tried]
        context = self._dispatch.context(options, job, chosen.name, self._port.now(), task.deadline)
        if late:
            offers = [offer for offer in offers if busy(offer, context) < 1.0]
        order = policy.order(offers, context)
        if asked := freshness.worth_asking(order, policy, context):
            at = self._port.now()
            if loads := await self._port.fresh_loads(asked, freshness.WAIT_S):
                order = policy.order(freshness.refreshed(offers, loads, at), context)
        return order, (*order[:1], *self._dispatch.line(order, context))


async def _first(answer: AsyncIterator[bytes], within_s: float) -> bytes | None:
    """The first message, or None where there is none; raises DeadlineExceeded after ``within_s``
    (0: the call's own deadline ends the wait)."""
    if not within_s:
        return await anext(answer, None)
    try:
        return await asyncio.wait_for(anext(answer, None), within_s + GRACE_S)
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"no word came within {within_s:g} s", hint="give it more patience, or ask later"
        ) from error


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
        **({"halves": msgspec.to_builtins(done.halves)} if done.halves is not None else {}),
    }
