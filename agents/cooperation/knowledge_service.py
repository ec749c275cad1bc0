"""What a node's knowledge base offers to the mesh, and to whom.

``knowledge.gpt/<domain>``        answers from documents, with citations
``knowledge.gpt/<domain>/cache``  entries that answer a question, for nodes that ask before they
                                  ask an expert

A name is offered while there is something under it that others may see, and what is shown of
it depends on who asks: labels are checked here, where the work is done.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from agents.cooperation import knowledge
from agents.cooperation.knowledge_memory import KnowledgeMemory, cited
from agents.cooperation.knowledge_reader import Reader
from agents.port import Task
from agents.telemetry.observer import Observer
from capabilities.base import Admission, Capability, Occupancy, Request
from capabilities.knowledge.base import KnowledgeBase
from capabilities.knowledge.entry import (
    ANSWER,
    MESH,
    PASSAGE,
    SEEN_CHARS,
    Entry,
    Viewer,
    may_see,
    shared,
)
from capabilities.knowledge.messages import (
    KIND,
    MAX_ENTRIES,
    MAX_QUESTION_CHARS,
    KnownAnswer,
    KnownAnswers,
    Lookup,
    cache_name,
)
from capabilities.knowledge.store import Source
from capabilities.messages import Delta, Done, Evidence, Generate, decode, encode
from mesh.core.access import Operation
from mesh.core.errors import GossamerError, WireError
from mesh.core.identity import Member
from mesh.core.records import ServedName
from mesh.core.wire import Reach
from mesh.net.calls import IncomingCall, Service, Verdict
from mesh.net.node import MeshNode

AT_ONCE = 8
OFFER_EVERY_S = 30.0  # how often what changed is advertised: a profile is gossiped whole
MAX_TITLES = 6
CANDIDATES = 32
NOTHING = "I do not know: none of my documents speaks of that."
DOCUMENTS = "documents"  # stands where a model's name stands, when sentences are quoted as they are


class KnowledgeDesk(Capability):
    """The knowledge base of one agent as a capability that knows who asks.

    ``offer`` makes the agent advertise its names again; ``taken`` are names that its models
    answer under already.
    """

    def __init__(
        self,
        base: KnowledgeBase,
        memory: KnowledgeMemory,
        reader: Reader,
        node: MeshNode,
        *,
        offer: Callable[[], None],
        taken: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.base = base
        self.memory = memory
        self.reader = reader
        self.node = node
        self.counters: Counter[str] = Counter()
        self._offer = offer
        self._taken = taken
        self._sources: list[Source] = []
        self._active = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> Sequence[ServedName]:
        """What others may ask for now, as far as the certificate grants it."""
        found: list[ServedName] = []
        for domain in sorted({source.domain for source in self._sources}):
            mine = [source for source in self._sources if source.domain == domain]
            documents = [s for s in mine if s.kind == PASSAGE and shared([s.access])]
            answers = [s for s in mine if s.kind == ANSWER and shared([s.access])]
            if documents:
                found.append(_served_documents(domain, documents))
            if answers:
                found.append(_served_cache(domain, sum(s.entries for s in answers)))
        taken = self._taken()
        me = self.node.me
        return [one for one in found if one.name not in taken and me.may_publish(one.name)]

    async def start(self) -> None:
        """Open the base, read what was learnt; raises ConfigError."""
        await self.base.start()
        await self.memory.start()
        self._sources = await self.base.sources()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Close the base."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.base.stop()

    async def changed(self) -> None:
        """Advertise what is there now."""
        before = list(self.names)
        self._sources = await self.base.sources()
        if list(self.names) != before:
            self._offer()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(OFFER_EVERY_S)
            try:
                await self.base.use(lambda store, _: store.sweep())
                await self.changed()
            except GossamerError:
                self.counters["failed"] += 1

    def services(self, observer: Observer) -> list[tuple[ServedName, Service]]:
        """Its names, and what answers calls of them."""
        return [(served, _Desk(self, served)) for served in self.names]

    def admit(self, request: Request) -> Admission:
        """Nobody asks it without saying who: calls come through :meth:`services`."""
        return Admission(accepted=False, reason="the knowledge base is asked over the mesh")

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """See :meth:`admit`."""
        raise WireError("the knowledge base is asked over the mesh")

    def occupancy(self) -> Occupancy:
        """How many lookups run."""
        return Occupancy(slots=AT_ONCE, inflight=min(self._active, AT_ONCE))

    def all_counters(self) -> dict[str, int]:
        """What the memory and the desk did."""
        both = self.memory.counters + self.counters
        return {f"knowledge_{key}": value for key, value in both.items()}

    # -- calls ------------------------------------------------------------------------------

    def admit_call(self, call: IncomingCall) -> Verdict:
        """A yes while fewer than AT_ONCE lookups run."""
        if self._active >= AT_ONCE:
            return Verdict(False, f"{AT_ONCE} lookups run already", 0.2)
        return Verdict(True)

    async def answer(self, call: IncomingCall, served: ServedName) -> AsyncIterator[bytes]:
        """The answer to one call; labels are checked for everybody it is made for."""
        self._active += 1
        try:
            if served.kind == KIND:
                yield encode(await self._known(call, served.domain))
            else:
                text, done = await self._from_documents(call, served.domain)
                yield encode(Delta(text=text))
                yield encode(done)
        finally:
            self._active -= 1

    def _viewers(self, call: IncomingCall) -> list[Viewer]:
        """Who asks, and in whose name: an entry must be for both."""
        members = [call.peer]
        if call.header.caller not in {b"", call.peer.node}:
            origin = self.node.core.member(call.header.caller)
            if origin is None:
                return []
            members.append(origin)
        return [self._viewer(member) for member in members]

    def _viewer(self, member: Member) -> Viewer:
        me = member.node == self.node.me.node
        return Viewer(node=member.node.hex(), groups=member.groups, me=me)

    def _visible(self, call: IncomingCall, viewers: list[Viewer], entry: Entry) -> bool:
        if not viewers or not all(may_see(entry.access, viewer) for viewer in viewers):
            return False
        own = call.peer.node == self.node.me.node
        if own or not entry.name:
            return True
        # An answer of an expert is for those who may ask that expert.
        decided = self.node.policy.decide(call.peer, entry.name, Operation.QUERY, own=False)
        return decided.allowed

    async def _known(self, call: IncomingCall, domain: str) -> KnownAnswers:
        asked = decode(call.body, Lookup)
        if not 0 < len(asked.question) <= MAX_QUESTION_CHARS:
            raise WireError(f"a question to look up has 1 to {MAX_QUESTION_CHARS} characters")
        found = await self.base.search(asked.question, limit=CANDIDATES, kind=ANSWER, domain=domain)
        viewers, wall = self._viewers(call), self.base.wall()
        good = [
            one
            for one in found
            if one.cosine >= self.memory.thresholds.lower
            and self._visible(call, viewers, one.entry)
        ]
        self.counters["looked_up"] += 1
        self.counters["shown"] += bool(good)
        limit = min(MAX_ENTRIES, max(1, asked.limit))
        return KnownAnswers(
            entries=tuple(
                KnownAnswer(
                    question=one.entry.question,
                    text=one.entry.text,
                    source=one.entry.source,
                    name=one.entry.name,
                    model=one.entry.model,
                    quality=one.entry.quality,
                    created=one.entry.created,
                    left_s=max(1.0, one.entry.expires - wall) if one.entry.expires else 0.0,
                    saved_s=one.entry.saved_s,
                    citations=one.entry.citations,
                )
                for one in good[:limit]
            )
        )

    async def _from_documents(self, call: IncomingCall, domain: str) -> tuple[str, Done]:
        body = decode(call.body, Generate)
        question = body.messages[-1].content if body.messages else ""
        if not 0 < len(question) <= MAX_QUESTION_CHARS:
            raise WireError(f"a question to documents has 1 to {MAX_QUESTION_CHARS} characters")
        viewers = self._viewers(call)
        found = await self.base.search(question, limit=CANDIDATES, kind=PASSAGE, domain=domain)
        good: list[tuple[Entry, float]] = []
        for one in found:
            if not self._visible(call, viewers, one.entry):
                continue
            seen = knowledge.evaluate(
                question, knowledge.titled(one.entry), one.cosine, knowledge.PASSAGES
            )
            if seen.outcome != knowledge.INCORRECT:
                good.append((one.entry, seen.score))
        self.counters["asked"] += 1
        if not good:
            self.counters["unknown"] += 1
            return NOTHING, Done(text=NOTHING, finish="stop", model=DOCUMENTS)
        good.sort(key=lambda one: -one[1])
        entries = [entry for entry, _ in good[: knowledge.MAX_QUOTES]]
        now = self.node.now()
        task = Task(
            trace=call.header.trace,
            deadline=now.mono + call.timeout_s(now),
            reach=Reach.NODE,  # the documents do not leave with the question
            hops=call.header.hops,
        )
        read = await self.reader.read(question, [(e.source, e.text) for e in entries], task)
        used = entries if read.by_model else entries[:1]
        text = _with_sources(read.text, used)
        sure = good[0][1]
        evidence = Evidence(mean_logprob=math.log(max(1e-3, sure)), min_probability=sure)
        done = Done(text=text, finish="stop", model=read.by_model or DOCUMENTS, evidence=evidence)
        return text, done


class _Desk:
    """One name of a knowledge base as the mesh calls it."""

    def __init__(self, desk: KnowledgeDesk, served: ServedName) -> None:
        self._desk = desk
        self._served = served

    def admit(self, call: IncomingCall) -> Verdict:
        """As the desk says."""
        return self._desk.admit_call(call)

    def serve(self, call: IncomingCall) -> AsyncIterator[bytes]:
        """The desk's answer."""
        return self._desk.answer(call, self._served)


def _with_sources(text: str, entries: Sequence[Entry]) -> str:
    quotes = [f'"{entry.text[:SEEN_CHARS].strip()}"' for entry in entries]
    sources = cited(entries) or tuple(entry.source for entry in entries)
    if len(entries) == 1 and text.strip() in entries[0].text:
        return f'"{text.strip()}" ({sources[0]})'  # the answer is the quotation
    marks = [f"[{n}] {q} ({s})" for n, (q, s) in enumerate(zip(quotes, sources, strict=False), 1)]
    return "\n".join([text.strip(), *marks])


def _served_documents(domain: str, sources: Sequence[Source]) -> ServedName:
    """Titles are told only of documents that every member may see."""
    titles = [source.source for source in sources if source.access == MESH]
    about = f": {', '.join(titles[:MAX_TITLES])}" if titles else ""
    return ServedName(
        name=f"knowledge.gpt/{domain}",
        domain=domain,
        description=f"{domain.replace('_', ' ')}, from documents{about}"[:200],
        model=DOCUMENTS,
        newest=max(source.created for source in sources),
    )


def _served_cache(domain: str, count: int) -> ServedName:
    return ServedName(
        name=cache_name(domain),
        domain=domain,
        description=f"{_about(count)} answers that are known of {domain.replace('_', ' ')}",
        kind=KIND,
    )


def _about(count: int) -> str:
    """A count that does not change the profile with every answer."""
    return f"about {2 ** round(math.log2(count))}" if count > 4 else "some"
