"""``data.gpt/<domain>/secure_sum``: this node's numbers in an aggregate that hides them.

:class:`SecureSumCapability` answers the questions of a coordinator; :func:`secure_sum` is the
coordinator, over a port that asks one node one question. The rules of the round are in
:mod:`mesh.core.secure_sum`, and so is what it hides and what not.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from mesh.core.clock import Now
from mesh.core.errors import GossamerError, WireError
from mesh.core.identity import Member, RandomBytes, Trust
from mesh.core.names import check_name
from mesh.core.records import ServedName
from mesh.core.sum_messages import (
    ROUND_BYTES,
    Answer,
    Mask,
    Open,
    Question,
    SumPlan,
    SumRefused,
    check_plan,
    decode_answer,
    decode_question,
    encode,
    threshold_for,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mesh.core.secure_sum import SumMember
    from mesh.core.sum_coordinator import SumCoordinator
    from mesh.core.sum_masking import Cells
    from mesh.core.sum_statistics import SumResult

KIND = "secure_sum"
SLOTS = 8  # questions answered at once; each costs milliseconds, none waits for another node
STEP_TIMEOUT_S = 5.0  # a node that has not answered a question by then counts as dropped

Source = Callable[[SumPlan], Awaitable["ArrayLike"]]


def sum_name(domain: str) -> str:
    """The name that a domain's secure sums are offered under."""
    return check_name(f"data.gpt/{domain}/secure_sum")


class SecureSumCapability(Capability):
    """Contributes to secure sums of one domain.

    ``source`` gives this node's rows for a plan, shape (rows, plan.columns); it is asked only
    when the round has enough members, and its numbers leave masked. Whoever may query the name
    may ask (deny is the default for ``data.gpt``).
    """

    def __init__(
        self,
        domain: str,
        member: SumMember,
        source: Source,
        *,
        description: str = "",
        clock: Callable[[], Now] | None = None,
    ) -> None:
        self._name = sum_name(domain)
        self._domain = domain
        self._member = member
        self._source = source
        self._description = description or f"{domain}: totals over nodes that hide each node's part"
        self._clock = clock or _now
        self._active = 0
        # One question at a time: two answers at once could be the two halves of a secret. A
        # thread goes on when its call is cancelled, so the lock is the thread's.
        self._turn = threading.Lock()

    @property
    def names(self) -> Sequence[ServedName]:
        """The one name, as it is advertised."""
        return (
            ServedName(
                name=self._name, domain=self._domain, description=self._description, kind=KIND
            ),
        )

    def admit(self, request: Request) -> Admission:
        """Yes, unless the name is another or every slot is taken."""
        if request.name != self._name:
            return Admission(accepted=False, reason=f"{request.name} is not served here")
        if self._active >= SLOTS:
            return Admission(accepted=False, reason="too many sums at once", retry_after_s=1.0)
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        """One answer to one question; raises SumRefused, WireError or the source's own error."""
        self._active += 1
        try:
            yield encode(await self._answer(request))
        finally:
            self._active -= 1

    async def _answer(self, request: Request) -> Answer:
        question = decode_question(request.body)
        if isinstance(question, Open) and question.plan.name != self._name:
            raise SumRefused(f"the plan is for {question.plan.name}, this is {self._name}")
        cells = await self._cells(question)
        return await asyncio.to_thread(self._take_turn, question, request.isolation, cells)

    def _take_turn(self, question: Question, asker: str, cells: Cells | None) -> Answer:
        with self._turn:
            return self._member.answer(question, asker, self._clock(), cells)

    async def _cells(self, question: Question) -> Cells | None:
        plan = self._member.plan_of(question.round) if isinstance(question, Mask) else None
        if plan is None:
            return None
        from mesh.core.sum_statistics import encode as encode_rows

        rows = await self._source(plan)
        return await asyncio.to_thread(encode_rows, plan, rows)

    def occupancy(self) -> Occupancy:
        """How many questions are being answered."""
        return Occupancy(slots=SLOTS, inflight=self._active)


def _now() -> Now:
    return Now(time.monotonic(), time.time())


class SumPort(Protocol):
    """How a coordinator reaches the members; an agent implements it over calls."""

    async def ask(self, node: bytes, name: str, body: bytes, timeout_s: float) -> bytes:
        """The one answer of ``node`` to one question; raises a
        :class:`~mesh.core.errors.GossamerError` when there is none within the time."""


class SumReport:
    """What a sum went through: ``problems`` by node, one line each, and bytes both ways."""

    def __init__(self) -> None:
        self.problems: dict[bytes, str] = {}
        self.counters: Counter[str] = Counter()
        self.sent_bytes = 0
        self.received_bytes = 0


def make_plan(
    domain: str,
    nodes: Iterable[bytes],
    coordinator: bytes,
    *,
    kind: str = "sum",
    columns: int = 1,
    edges: Sequence[float] = (),
    label: str = "",
    bound: float = 1e6,
    fraction_bits: int = 20,
    noise_std: float = 0.0,
    threshold: int = 0,
    issued: float | None = None,
    random: RandomBytes = os.urandom,
) -> SumPlan:
    """A plan for a new round; ``threshold`` 0 takes the least that is safe for the roster.

    The fields are those of :class:`~mesh.core.sum_messages.SumPlan`. Raises
    :class:`~mesh.core.sum_messages.SumRefused` for a plan that cannot be summed.
    """
    roster = tuple(sorted(set(nodes)))
    return check_plan(
        SumPlan(
            round=random(ROUND_BYTES),
            name=sum_name(domain),
            coordinator=coordinator,
            nodes=roster,
            threshold=threshold or threshold_for(len(roster)),
            issued=time.time() if issued is None else issued,
            kind=kind,
            columns=columns,
            edges=tuple(edges),
            label=label,
            bound=bound,
            fraction_bits=fraction_bits,
            noise_std=noise_std,
        )
    )


async def secure_sum(
    plan: SumPlan,
    port: SumPort,
    trust: Trust,
    members: Callable[[bytes], Member | None],
    *,
    step_timeout_s: float = STEP_TIMEOUT_S,
    report: SumReport | None = None,
) -> SumResult:
    """Run one round of ``plan`` and return what came out.

    Every node is asked five questions, all nodes at once; one that fails or takes longer than
    ``step_timeout_s`` is dropped, and ``report`` says why. Takes five times ``step_timeout_s``
    at most. Raises :class:`~mesh.core.sum_messages.SumFailed` when fewer than the plan's
    threshold remain: then nothing comes out.
    """
    from mesh.core.sum_coordinator import SumCoordinator

    report = report or SumReport()
    coordinator = SumCoordinator(plan, trust, members)
    while not coordinator.done:
        asked = coordinator.questions()
        await asyncio.gather(
            *(
                _ask(coordinator, port, node, question, step_timeout_s, report)
                for node, question in asked.items()
            )
        )
        coordinator.advance()
    result = await asyncio.to_thread(coordinator.result)
    report.counters.update(coordinator.counters)
    return result


async def _ask(
    coordinator: SumCoordinator,
    port: SumPort,
    node: bytes,
    question: Question,
    timeout_s: float,
    report: SumReport,
) -> None:
    body = encode(question)
    report.sent_bytes += len(body)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await port.ask(node, coordinator.plan.name, body, timeout_s)
        report.received_bytes += len(answer)
        coordinator.take(node, decode_answer(answer))
    except TimeoutError:
        report.problems[node] = f"no answer within {timeout_s:g} s"
    except WireError as error:
        coordinator.counters["malformed"] += 1
        report.problems[node] = error.sentence()
    except GossamerError as error:
        report.problems[node] = error.sentence()
