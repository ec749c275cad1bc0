"""The shared memory of one node: what it looks up, what it keeps, whom it learns to trust.

Every decision is made by :mod:`agents.cooperation.cache` and :mod:`agents.cooperation.knowledge`;
here is what they need of disk and mesh. A knowledge base that fails is one that knows nothing: the
error is counted, told once, and answering goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from agents.cooperation import cache, knowledge
from agents.cooperation.cache import Known, Thresholds, Tuning
from agents.cooperation.cache_facts import facts_of, volatile
from agents.cooperation.knowledge import Trust, trust_key
from agents.cooperation.knowledge_reader import Reader
from agents.memory import CONTEXT, REUSE, Check, Finding, Integrated, Recall
from agents.port import MeshPort, Offer, Task
from capabilities.knowledge.base import KnowledgeBase
from capabilities.knowledge.entry import (
    ANSWER,
    GROUP,
    MAX_SOURCE_CHARS,
    MAX_TEXT_CHARS,
    MEMBER,
    MESH,
    NODE,
    PASSAGE,
    Citation,
    Entry,
    Viewer,
    may_see,
)
from capabilities.knowledge.messages import (
    MAX_ENTRIES,
    MAX_QUESTION_CHARS,
    KnownAnswers,
    Lookup,
    cache_name,
)
from capabilities.knowledge.store import Found
from capabilities.messages import Message, decode, encode
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.wire import Reach

log = logging.getLogger("gossamer.knowledge")

TUNING, TRUST = "tuning", "trust"
LOOKUP_S = 1.0  # a peer's cache is asked no longer: its expert would have answered by then
LOOKUP_SHARE = 0.1  # of the step's time
MAX_PEERS = 2
EXAMPLES = 2
CANDIDATES = 32


class KnowledgeMemory:
    """Implements :class:`agents.memory.Memory`. ``access`` is the label of what is learnt."""

    def __init__(
        self,
        base: KnowledgeBase,
        port: MeshPort,
        reader: Reader,
        *,
        thresholds: Thresholds | None = None,
        access: str = NODE,
        keep_s: float = 30 * 86_400.0,
        ask_peers: bool = True,
    ) -> None:
        self.base = base
        self.thresholds = thresholds or Thresholds()
        self.tuning = Tuning(upper=self.thresholds.upper)
        self.trusts: dict[str, Trust] = {}
        self.counters: Counter[str] = Counter()
        self._port = port
        self._reader = reader
        self._access = access
        self._keep_s = keep_s
        self._ask_peers = ask_peers
        self._told = ""

    async def start(self) -> None:
        """Read what was learnt before; what cannot be read is learnt again."""
        try:
            tuning, trusts = await self.base.use(lambda s, _: (s.meta(TUNING), s.meta(TRUST)))
            if tuning:
                self.tuning = msgspec.json.decode(tuning, type=Tuning)
            if trusts:
                self.trusts = msgspec.json.decode(trusts, type=dict[str, Trust])
        except (GossamerError, msgspec.MsgspecError) as error:
            self._failed(error)

    # -- agents.memory.Memory ---------------------------------------------------------------

    async def recall(self, question: str, name: str, task: Task) -> Recall:
        """See :class:`~agents.memory.Memory`."""
        self.counters["recalls"] += 1
        try:
            found = await self._recalled(question, name, task)
        except GossamerError as error:
            self._failed(error)
            return Recall(why="the knowledge base does not answer")
        self.counters[f"recall_{found.action}"] += 1
        return found

    async def check(self, finding: Finding) -> Check:
        """See :class:`~agents.memory.Memory`."""
        try:
            rows = await self.base.embed([finding.question, finding.text])
        except GossamerError as error:
            self._failed(error)
            return Check(outcome="unchecked", score=0.0, threshold=0.0, why=error.message)
        cosine = float(rows[0] @ rows[1])
        found = knowledge.evaluate(finding.question, finding.text, cosine, knowledge.ANSWERS)
        self.counters[f"relevance_{found.outcome}"] += 1
        return Check(
            outcome=found.outcome, score=found.score, threshold=found.threshold, why=found.why
        )

    async def integrate(self, finding: Finding, task: Task) -> Integrated:
        """See :class:`~agents.memory.Memory`."""
        read = await self._reader.read(
            finding.question, [(finding.node_name, finding.text)], task, whole=True
        )
        self.counters["integrated" if read.by_model else "passed_on"] += 1
        return read

    async def learn(self, finding: Finding, check: Check, task: Task) -> str:
        """See :class:`~agents.memory.Memory`."""
        self._experience(finding.node, finding.name, right=True, weight=finding.quality)
        why = self._unfit(finding, check)
        if why:
            return f"not kept: {why}"
        access = self._label(task)
        entry = Entry(
            kind=ANSWER,
            domain=knowledge.domain_of(finding.name),
            question=finding.question,
            text=finding.text[:MAX_TEXT_CHARS],
            source=finding.node_name,
            maker=finding.node.hex(),
            access=access,
            name=finding.name,
            model=finding.model,
            quality=finding.quality,
            expires=self.wall() + self._keep_s if self._keep_s else 0.0,
            saved_s=finding.took_s,
        )
        try:
            await self.base.keep(entry, facts_of(finding.question).key())
            await self._remember_state()
        except GossamerError as error:
            self._failed(error)
            return f"not kept: {error.sentence()}"
        self.counters["learnt"] += 1
        return f"kept, to be seen by {access}"

    def doubt(self, node: bytes, name: str) -> None:
        """See :class:`~agents.memory.Memory`."""
        if node:
            self._experience(node, name, right=False)

    def ranked(self, name: str, offers: Sequence[Offer]) -> list[Offer]:
        """See :class:`~agents.memory.Memory`."""
        domain = knowledge.domain_of(name)
        return sorted(offers, key=lambda offer: self.trust(offer.node, domain).rank)

    # -- besides ----------------------------------------------------------------------------

    def trust(self, node: bytes, domain: str) -> Trust:
        """What this node has seen of an expert."""
        return self.trusts.get(trust_key(node, domain), Trust())

    def wall(self) -> float:
        """Wall seconds, as the base has them."""
        return self.base.wall()

    async def feedback(self, number: int, *, right: bool) -> dict[str, object]:
        """Somebody says whether a reused answer was right.

        A wrong one is forgotten (a passage of a document stays: what its owner added, its owner
        removes), the threshold rises, and whoever it came from is trusted less in its domain.
        Raises :class:`~mesh.core.errors.ConfigError` when there is no such entry, and
        :class:`~capabilities.knowledge.store.StoreFailed`.
        """
        entry = await self.base.use(lambda store, _: store.entry(number))
        if entry is None:
            raise ConfigError(
                f"there is no entry {number}",
                hint="gossamer knowledge search shows the numbers of entries",
            )
        answer, removed, trust = entry.kind == ANSWER, 0, None
        if answer and right:
            self.tuning = self.tuning.confirmed_hit(self.thresholds.upper)
        elif answer:
            self.tuning = self.tuning.false_hit()
            removed = await self.base.use(lambda store, _: store.remove(ids=[number]))
        if answer and entry.maker:
            maker = bytes.fromhex(entry.maker)
            self._experience(maker, entry.name, right=right, weight=knowledge.PERSON_WEIGHT)
            trust = round(self.trust(maker, knowledge.domain_of(entry.name)).mean, 4)
        await self._remember_state()
        self.counters["confirmed" if right else "false_hits"] += 1
        return {
            "upper": self.tuning.upper,
            "confirmed": self.tuning.confirmed,
            "removed": removed,
            "kind": entry.kind,
            "source": entry.source,
            "domain": entry.domain,
            "trust": trust,
        }

    async def known(self, question: str, viewer: Viewer, domain: str, limit: int) -> list[Found]:
        """Answers of a domain that this viewer may see, nearest first."""
        found = await self.base.search(question, limit=CANDIDATES, kind=ANSWER, domain=domain)
        seen = [one for one in found if may_see(one.entry.access, viewer)]
        return [one for one in seen if one.cosine >= self.thresholds.lower][:limit]

    # -- inside -----------------------------------------------------------------------------

    async def _recalled(self, question: str, name: str, task: Task) -> Recall:
        asked = facts_of(question)
        if volatile(asked):
            return Recall(why="what it asks for changes with the time")
        viewer = self._viewer(task)
        found = await self._candidates(question, asked.key())
        best = self._decided(asked, found, viewer)
        if best.action == REUSE:
            await self.base.use(lambda store, _: store.hit(best.entry))
            return best
        passage = await self._from_documents(question, viewer, task)
        if passage is not None:
            return passage
        return await self._from_peers(question, name, task) or best

    async def _candidates(self, question: str, key: str) -> list[Found]:
        def work(store, embedder):  # type: ignore[no-untyped-def]
            vector = embedder.embed([question])[0]
            same = store.same_facts(key, vector)
            near = store.search(vector, limit=CANDIDATES, kind=ANSWER)
            return [*same, *(one for one in near if all(one.entry.id != s.entry.id for s in same))]

        found: list[Found] = await self.base.use(work)
        return found

    def _decided(self, asked, found: Sequence[Found], viewer: Viewer) -> Recall:  # type: ignore[no-untyped-def]
        best = Recall(threshold=self.tuning.upper)
        examples: list[Message] = []
        for one in found:
            known = Known(
                cosine=one.cosine,
                facts=facts_of(one.entry.question),
                allowed=may_see(one.entry.access, viewer),
                quality=one.entry.quality,
            )
            decision = cache.decide(asked, known, self.tuning.upper, self.thresholds)
            if decision.action == REUSE:
                return recall_of(one.entry, decision)
            if decision.action == CONTEXT and self._reader.reads and len(examples) < 2 * EXAMPLES:
                examples += [
                    Message("user", one.entry.question),
                    Message("assistant", one.entry.text),
                ]
            if decision.score > best.score and known.allowed:
                best = Recall(
                    action=decision.action,
                    score=decision.score,
                    threshold=decision.threshold,
                    why=decision.why,
                    entry=one.entry.id,
                )
        return msgspec.structs.replace(best, examples=tuple(examples))

    async def _from_documents(self, question: str, viewer: Viewer, task: Task) -> Recall | None:
        """An answer out of this node's own documents, where a passage clearly bears on it."""
        found = await self.base.search(question, limit=CANDIDATES, kind=PASSAGE)
        good: list[tuple[Entry, float, float]] = []
        for one in found:
            if not may_see(one.entry.access, viewer):
                continue
            seen = knowledge.evaluate(
                question, knowledge.titled(one.entry), one.cosine, knowledge.PASSAGES
            )
            if seen.outcome == knowledge.CORRECT:
                good.append((one.entry, seen.score, seen.threshold))
        if not good:
            return None
        good.sort(key=lambda one: -one[1])
        entries = [entry for entry, _, _ in good[: knowledge.MAX_QUOTES]]
        read = await self._reader.read(question, [(e.source, e.text) for e in entries], task)
        return Recall(
            action=REUSE,
            score=good[0][1],
            threshold=good[0][2],
            why=f"a document of this node speaks of it; {read.how}",
            text=read.text,
            source=entries[0].source,
            model=read.by_model,
            quality=good[0][1],
            entry=entries[0].id,
            citations=cited(entries if read.by_model else entries[:1]),
        )

    async def _from_peers(self, question: str, name: str, task: Task) -> Recall | None:
        """What other nodes share of this domain; one call each, short."""
        if not self._ask_peers or task.reach < Reach.GROUP or task.caller:
            return None
        if len(question) > MAX_QUESTION_CHARS:
            return None
        left_s = task.deadline - self._port.now()
        try:
            offers = self._port.resolve(cache_name(knowledge.domain_of(name)), task)
        except GossamerError:
            return None
        asked = facts_of(question)
        for offer in [o for o in offers if not o.me and o.healthy][:MAX_PEERS]:
            deadline = self._port.now() + min(LOOKUP_S, left_s * LOOKUP_SHARE)
            answers = await self._looked_up(
                offer, question, msgspec.structs.replace(task, deadline=deadline)
            )
            recall = await self._taken(asked, answers, question, name, offer, task)
            if recall is not None:
                return recall
        return None

    async def _looked_up(self, offer: Offer, question: str, task: Task) -> KnownAnswers:
        self.counters["peers_asked"] += 1
        try:
            async with asyncio.timeout(LOOKUP_S):
                stream = self._port.call(offer, encode(Lookup(question=question)), task)
                async with aclosing(stream):  # type: ignore[type-var]
                    async for body in stream:
                        return decode(body, KnownAnswers)
        except (GossamerError, TimeoutError):
            self.counters["peers_silent"] += 1
        return KnownAnswers()

    async def _taken(  # type: ignore[no-untyped-def]
        self, asked, answers: KnownAnswers, question: str, name: str, offer: Offer, task: Task
    ) -> Recall | None:
        """The first of a peer's entries that would be reused if it were this node's own."""
        entries = answers.entries[:MAX_ENTRIES]
        if not entries:
            return None
        rows = await self.base.embed([question, *(entry.question for entry in entries)])
        for place, one in enumerate(entries, 1):
            known = Known(
                cosine=float(rows[0] @ rows[place]),
                facts=facts_of(one.question),
                # A claim: scaled by what this node has seen of who makes it.
                quality=min(1.0, max(0.0, one.quality))
                * min(1.0, self.trust(offer.node, knowledge.domain_of(name)).mean / 0.75),
            )
            decision = cache.decide(asked, known, self.tuning.upper, self.thresholds)
            if decision.action != REUSE:
                continue
            entry = Entry(
                kind=ANSWER,
                domain=knowledge.domain_of(name),
                question=one.question[:MAX_QUESTION_CHARS],
                text=one.text[:MAX_TEXT_CHARS],
                source=f"{one.source} by way of {offer.node_name}"[:MAX_SOURCE_CHARS],
                maker=offer.node.hex(),  # who vouches for it here
                # It was shown to this node; whom else it may be shown to, its keeper decides.
                access=NODE,
                name=name,
                model=one.model[:100],
                quality=known.quality,
                expires=self.wall() + min(one.left_s or self._keep_s, self._keep_s or one.left_s),
                saved_s=min(3600.0, max(0.0, one.saved_s)),
                citations=one.citations[:8],
            )
            await self.base.keep(entry, facts_of(entry.question).key())
            self.counters["from_peers"] += 1
            return recall_of(entry, decision)
        return None

    def _unfit(self, finding: Finding, check: Check) -> str:
        asked = facts_of(finding.question)
        if check.outcome != knowledge.CORRECT:
            return f"its relevance is {check.outcome}"
        if finding.quality < self.thresholds.quality:
            return f"not sure enough ({finding.quality:.2f})"
        if not asked.whole:
            return "the question is too long to compare"
        if volatile(asked):
            return "the answer changes with the time"
        return ""

    def _label(self, task: Task) -> str:
        """Who may see what is learnt: never more than the task allowed."""
        if task.caller:
            return MEMBER + task.caller.hex()
        if task.reach == Reach.GROUP and self._access == MESH:
            return GROUP + ",".join(task.groups) if task.groups else NODE
        return self._access

    def _viewer(self, task: Task) -> Viewer:
        if task.caller:
            return Viewer(node=task.caller.hex(), groups=task.groups)
        return Viewer(me=True)

    def _experience(self, node: bytes, name: str, *, right: bool, weight: float = 1.0) -> None:
        key = trust_key(node, knowledge.domain_of(name))
        seen = self.trusts.pop(key, Trust()).seen(right=right, weight=max(0.1, weight))
        self.trusts[key] = seen
        self.trusts = knowledge.bounded(self.trusts)

    async def _remember_state(self) -> None:
        tuning = msgspec.json.encode(self.tuning).decode()
        trusts = msgspec.json.encode(self.trusts).decode()

        def work(store, _):  # type: ignore[no-untyped-def]
            store.put_meta(TUNING, tuning)
            store.put_meta(TRUST, trusts)

        await self.base.use(work)

    def _failed(self, error: Exception) -> None:
        self.counters["failed"] += 1
        told = error.sentence() if isinstance(error, GossamerError) else str(error)
        if told != self._told:  # once, not with every question
            self._told = told
            log.warning("%s", told)


def recall_of(entry: Entry, decision: cache.Decision) -> Recall:
    """An entry that answers the question."""
    return Recall(
        action=REUSE,
        score=decision.score,
        threshold=decision.threshold,
        why=f"{decision.why}: {entry.source} answered",
        text=entry.text,
        source=entry.source,
        model=entry.model,
        quality=entry.quality,
        entry=entry.id,
        citations=cited([entry]) if entry.citations else (),
    )


def cited(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The sources of entries as people read them, each once."""
    found = [_shown(citation) for entry in entries for citation in entry.citations]
    return tuple(dict.fromkeys(found))


def _shown(citation: Citation) -> str:
    return f"{citation.source}, {citation.place}" if citation.place else citation.source
