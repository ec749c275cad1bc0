"""One request to one name for the orchestrator's own sake: a plan, a joined text, a reader's job.

Such a request is not planned, judged or escalated; it goes to the nodes that the policy puts
first, is asked again elsewhere where a node fails, and what comes back is the text.
"""

from __future__ import annotations

import asyncio

import msgspec

from agents.classifier.catalogue import WORDLESS_KINDS
from agents.orchestrator import allocate as allocation
from agents.orchestrator.calling import GRACE_S
from agents.orchestrator.dispatch import Dispatcher, closing
from agents.orchestrator.line import Line
from agents.orchestrator.needs import need_of
from agents.orchestrator.options import AskOptions
from agents.orchestrator.verify import Assembly
from agents.parts import Parts
from agents.port import MeshPort, Offer, Task
from capabilities.messages import Evidence, Generate, Usage, decode_event, encode
from mesh.core.errors import CapabilityFailed, DeadlineExceeded, GossamerError, NoSuchName


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a node said, and who it was; ``attempts`` are the nodes asked, in order."""

    text: str
    node: str
    model: str = ""
    finish: str = "stop"
    usage: Usage = Usage()
    evidence: Evidence = Evidence()
    attempts: tuple[str, ...] = ()
    elapsed_s: float = 0.0


class Asker:
    """Asks by name over a port; one per user of it, the dispatcher is the executor's own, so
    that a policy sees these calls too."""

    def __init__(self, port: MeshPort, parts: Parts, dispatch: Dispatcher) -> None:
        self._port = port
        self._parts = parts
        self._dispatch = dispatch
        self._only: frozenset[bytes] = frozenset()

    def at(self, *nodes: bytes) -> Asker:
        """One that asks these nodes and no others."""
        narrow = Asker(self._port, self._parts, self._dispatch)
        narrow._only = frozenset(nodes)
        return narrow

    def now(self) -> float:
        """Monotonic seconds."""
        return self._port.now()

    def order(
        self, name: str, task: Task, options: AskOptions, tried: frozenset[bytes]
    ) -> tuple[Offer, ...]:
        """Who may be asked, best first; raises as :meth:`MeshPort.resolve` does."""
        offers = self._port.resolve(name, task, tried)
        if self._only:
            offers = [offer for offer in offers if offer.node in self._only]
        question = options.system
        context = self._dispatch.context(
            options, self._dispatch.job(options, question), name, self._port.now(), task.deadline
        )
        parts = self._dispatch.parts_for(options.policy)
        if any(offer.served.kind in WORDLESS_KINDS for offer in offers):
            # Asked for by name: a reader answers tasks, though no question goes to it.
            healthy = [offer for offer in offers if offer.healthy]
            return tuple(parts.policy.order(healthy, context))
        need = need_of(options, task.reach, offers, tried=tried)
        return allocation.allocate(name, offers, need, parts, context).order

    async def ask(
        self,
        name: str,
        request: Generate,
        task: Task,
        options: AskOptions | None = None,
        *,
        attempts: int = 2,
    ) -> Said:
        """The answer of the first node that gives a whole one; raises the last one's error.

        With several attempts, the first may use a share of the time, so that a node that hangs
        leaves some for another.
        """
        options = options or AskOptions()
        tried: set[bytes] = set()
        names: list[str] = []
        last: GossamerError | None = None
        begun = self._port.now()
        while len(tried) < attempts:
            try:
                order = self.order(name, task, options, frozenset(tried))
            except GossamerError as error:
                raise last or error from error
            if not order:
                break
            offer = order[0]
            tried.add(offer.node)
            names.append(offer.node_name)
            others = min(len(order) - 1, attempts - len(tried))
            try:
                assembly = await self._call(offer, request, task, options, others)
            except GossamerError as error:
                last = error
                continue
            whole = assembly.whole()
            return Said(
                text=whole.text,
                node=offer.node_name,
                model=whole.done.model or offer.served.model,
                finish=whole.done.finish,
                usage=whole.done.usage,
                evidence=whole.done.evidence,
                attempts=tuple(names),
                elapsed_s=self._port.now() - begun,
            )
        raise last or NoSuchName(f"nobody offers {name}")

    async def _call(
        self, offer: Offer, request: Generate, task: Task, options: AskOptions, others: int
    ) -> Assembly:
        now = self._port.now()
        deadline = allocation.attempt_deadline(
            now, task.deadline, others=others, first_share=self._parts.limits.first_share
        )
        if deadline <= now:
            raise DeadlineExceeded("no time is left to ask", hint="give it a longer timeout")
        task = msgspec.structs.replace(task, deadline=deadline)
        job = self._dispatch.job(options, request.messages[-1].content)
        assembly, line = Assembly(), Line(self._port, (offer,))
        try:
            with self._dispatch.calling(line, job, task, assembly, self._port.now) as flight:
                async with (
                    asyncio.timeout(deadline - now + GRACE_S),
                    closing(line.call(encode(request), task)) as stream,
                ):
                    async for data in stream:
                        event = decode_event(data)
                        assembly.take(event)
                        self._dispatch.heard(flight, 1, self._port.now())
        except TimeoutError as error:
            raise DeadlineExceeded("the node did not finish in time") from error
        except GossamerError:
            if assembly.done is None:  # after the last message nothing is lost with the link
                raise
        if assembly.done is None:
            raise CapabilityFailed("the stream ended before the answer was whole")
        return assembly
