"""The mesh as the deciding parts see it, on a real node."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from agents.cloud.leaving import Leaving
from agents.port import Offer, Task
from agents.telemetry.observer import Observer, WatchedCall, begun
from agents.telemetry.spans import root_span
from mesh.core.access import CLOUD, Operation
from mesh.core.errors import AccessDenied, DeadlineExceeded, NobodyHealthy, NoSuchName
from mesh.core.events import PeerState
from mesh.core.records import LIVE, ModelInfo, ServedName, Status
from mesh.core.wire import CallHeader, Load, Op, Reach
from mesh.net.node import MeshNode

USABLE = {PeerState.ALIVE, PeerState.UNKNOWN}


class NodePort:
    """Implements :class:`agents.port.MeshPort` over a :class:`~mesh.net.node.MeshNode`."""

    def __init__(self, node: MeshNode, observer: Observer | None = None) -> None:
        self._node = node
        self._observer = observer or Observer()
        self.counters: Counter[str] = Counter()
        self.leaving: Leaving | None = None

    @property
    def node_name(self) -> str:
        """The name of this node."""
        return self._node.me.name

    def now(self) -> float:
        """Monotonic seconds."""
        return self._node.now().mono

    def offers(self) -> list[Offer]:
        """Every offer that this node may use; the callee checks again."""
        me = self._node.me.node
        own = [(me, served) for served, _ in self._node.serving.own.values()]
        return [
            self._offer(node, served)
            for node, served in [*self._node.core.store.query(), *own]
            if self._allowed(served.name)
        ]

    def resolve(
        self, name: str, task: Task, exclude: frozenset[bytes] = frozenset()
    ) -> list[Offer]:
        """Offers of a name, best first; raises as :meth:`NodeCore.resolve` does."""
        own = self._own(name, exclude)
        try:
            found = self._node.core.resolve(name, lambda name, _: self._allowed(name), exclude)
        except (NoSuchName, NobodyHealthy):
            if not own:
                raise
            found = []
        offers = own + [self._offer(choice.node, choice.served) for choice in found]
        if task.reach == Reach.NODE:
            offers = [offer for offer in offers if offer.me]
        elif task.reach == Reach.GROUP:
            offers = [offer for offer in offers if offer.me or self._shares_group(offer, task)]
        return offers

    async def fresh_loads(self, nodes: Sequence[bytes], timeout_s: float) -> dict[bytes, Load]:
        """Ask a handful of nodes for their load now, and go by it for some seconds."""
        self.counters["loads_asked"] += len(nodes)
        return await self._node.fresh_loads(nodes, timeout_s)

    async def call(
        self, offer: Offer, body: bytes, task: Task, op: Op = Op.QUERY
    ) -> AsyncIterator[bytes]:
        """Stream the answer of one endpoint; closing the iterator cancels.

        What goes to the cloud is masked on its way out, and the answer unmasked.
        """
        answer: AsyncIterator[bytes] = self._call(offer, body, task, op)
        if offer.served.name == CLOUD:
            if self.leaving is None:
                raise AccessDenied("nothing leaves this node for the cloud: nothing masks it")
            answer = self.leaving.call(
                offer, body, task, lambda masked: self._call(offer, masked, task, op)
            )
        async with aclosing(answer):  # type: ignore[type-var]
            async for message in answer:
                yield message

    async def _call(
        self, offer: Offer, body: bytes, task: Task, op: Op
    ) -> AsyncGenerator[bytes, None]:
        left_ms = int((task.deadline - self.now()) * 1000)
        if left_ms <= 0:
            raise DeadlineExceeded("no time is left for this call", hint="give it a longer timeout")
        header = CallHeader(
            trace=task.trace,
            span=os.urandom(8),
            timeout_ms=left_ms,
            caller=task.caller or self._node.me.node,
            reach=task.reach,
            priority=task.priority,
            hops=task.hops + 1,
            groups=task.groups,
            warrant=task.warrant,
            patience_ms=int(task.patience_s * 1000),
            lines=task.lines,
        )
        ledger = None if offer.me else self._observer.ledger
        asked = ledger.asking(offer.node, offer.served.name, header, len(body)) if ledger else None
        answer = WatchedCall(
            self._node.call(offer.node, offer.served.name, body, header, op),
            begun(
                trace=task.trace.hex(),
                span=header.span.hex(),
                parent=root_span(task.trace),
                name=offer.served.name,
                kind="client",
                node=offer.node_name,
                model=offer.served.model,
            ),
            self._observer.span,
        )
        try:
            async for message in answer:
                if asked is not None:
                    asked.hear(message)
                yield message
        finally:
            if ledger is not None and asked is not None:
                ledger.asked(asked)
            # A cancelled caller must not leave the stream open at the other side.
            await asyncio.shield(answer.aclose())

    def _own(self, name: str, exclude: frozenset[bytes]) -> list[Offer]:
        """What this node offers to itself alone, where a rule of its own does not hide it."""
        me = self._node.me.node
        if name not in self._node.serving.own or me in exclude or not self._allowed(name):
            return []
        return [self._offer(me, self._node.serving.own[name][0])]

    def _takes(self, node: bytes, me: bool, status: Status | None) -> bool:
        """Whether a node takes anything new, as far as is known."""
        if me:
            return not self._node.serving.draining
        drained = status is not None and status.draining
        return not drained and self._node.core.membership.state(node) in USABLE

    def _allowed(self, name: str) -> bool:
        # The callee decides who may ask; a rule here hides a name from what this node uses.
        needed = (Operation.RESOLVE, Operation.ESCALATE) if name == CLOUD else (Operation.RESOLVE,)
        rules = [self._node.policy.first(self._node.me, name, operation) for operation in needed]
        return all(rule is None or rule.allow for rule in rules)

    def _shares_group(self, offer: Offer, task: Task) -> bool:
        member = self._node.core.member(offer.node)
        return member is not None and not set(task.groups).isdisjoint(member.groups)

    def _offer(self, node: bytes, served: ServedName) -> Offer:
        mesh = self._node
        me = node == mesh.me.node
        load, status, profile = mesh.load(node), mesh.core.status(node), mesh.core.profile(node)
        model = _model(profile.models if profile is not None else (), served)
        return Offer(
            node=node,
            node_name=mesh.name_of(node),
            served=served,
            me=me,
            healthy=self._takes(node, me, status),
            load=(load.inflight + load.queued) / max(1, load.slots),
            slots=load.slots,
            seen_at=mesh.load_seen_at(node),
            tokens_per_s=load.tokens_per_s,
            round_trip_s=0.0 if me else mesh.core.round_trip(node) or 0.0,
            prompt_tokens_per_s=max(0.0, model.prompt_tokens_per_s) if model else 0.0,
            battery=status.battery if status is not None else -1.0,
            temperature_c=status.temperature_c if status is not None else 0.0,
            joules_per_token=max(0.0, status.joules_per_token) if status is not None else 0.0,
            model=model,
            languages=served.languages,
            data_age_s=_age_s(served.newest, mesh.now().wall),
        )


def _model(models: Sequence[ModelInfo], served: ServedName) -> ModelInfo | None:
    """The model behind a name, which calls it by its file or by what its header says. Where a
    node's only model does not tell its file (paced ones have none), it is that."""
    if not served.model:
        return None
    called = [model for model in models if served.model in {model.file, model.name}]
    if not called and len(models) == 1 and not models[0].file:
        return models[0]
    return called[0] if called else None


def _age_s(newest: float, wall: float) -> float:
    """Of the newest data behind a name, -1 when it has none or does not say. A node whose clock
    runs ahead has no data from the future."""
    if newest == LIVE:
        return 0.0
    return max(0.0, wall - newest) if newest > 0 else -1.0
