"""Which request gets how many tokens of the next decode step; pure, no llama and no clock.

Every running request is either prefilling (its prompt goes in, in pieces) or generating (one
token per step). Generating requests always get their token, so a long prompt never stalls
them; what is left of the step goes to prompts, the highest priority first and in equal parts
within a priority, so a short prompt is through before a long one.

A request joins when a slot is free and the context holds its whole prompt and its longest
answer. Nothing that has joined can therefore run out of context because of a neighbour. Who is
next: the highest priority, then the owner with the fewest requests running, then the earliest
deadline, then the first to come. Each ``AGING_S`` of waiting counts as one priority more, so
nobody waits for ever behind more important ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from capabilities.slm.errors import ContextFull
from mesh.core.errors import Rejected

NO_SLOT = -1
AGING_S = 10.0  # a waiting request rises by one priority after each such time


@dataclass(slots=True)
class Job:
    """A request as the plan sees it. ``fed`` of ``prompt`` tokens are in the context.

    A forward pass is a prompt without an answer, from ``base`` on in a sequence of its own;
    with ``all_rows`` each of its tokens takes a row of output.
    """

    key: int
    prompt: int
    answer: int  # the most tokens that it may still generate
    priority: int = 0
    deadline: float = math.inf
    owner: str = ""
    arrived: float = 0.0
    order: int = 0
    shared: int = 0  # tokens whose cells belong to the prefix tree and are counted there
    slot: int = NO_SLOT
    base: int = 0
    forward: bool = False
    all_rows: bool = False
    fed: int = 0
    generated: int = 0

    @property
    def cells(self) -> int:
        """Context tokens that it may take in all."""
        return self.prompt + self.answer

    @property
    def generating(self) -> bool:
        """Whether its whole prompt is in the context."""
        return self.fed >= self.prompt

    @property
    def position(self) -> int:
        """The position of its next token."""
        return self.base + self.fed + self.generated


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` tokens of a job in the next step, from ``position`` on.

    ``samples`` says that the last of them yields the next token.
    """

    job: Job
    position: int
    count: int
    samples: bool

    @property
    def outputs(self) -> int:
        """How many of its last tokens take a row of output."""
        return self.count if self.job.all_rows else int(self.samples)


@dataclass(slots=True)
class Batcher:
    """The waiting line, the slots and the plan of each step.

    ``cells``: context tokens shared by all slots. ``sequence``: the most that one request may
    take. ``batch``: the most tokens of a step. ``chunk``: the most prompt tokens of a step in
    which somebody generates. ``rows``: rows of output that forward passes may take of a step.
    """

    slots: int
    cells: int
    sequence: int
    batch: int
    chunk: int
    max_waiting: int
    rows: int = 0
    _forwards: dict[int, Job] = field(init=False, default_factory=dict)
    _free: list[int] = field(init=False)
    _waiting: dict[int, Job] = field(init=False, default_factory=dict)
    _running: dict[int, Job] = field(init=False, default_factory=dict)
    _used: int = field(init=False, default=0)
    _orders: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.slots < 1 or self.batch < self.slots or self.chunk < 1:
            raise ValueError("a batch must hold one token of every slot")
        self._free = list(range(self.slots - 1, -1, -1))

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def jobs(self) -> Iterator[Job]:
        """The jobs that hold a slot."""
        return iter(list(self._running.values()))

    def submit(
        self,
        key: int,
        prompt: int,
        answer: int,
        *,
        priority: int = 0,
        deadline: float = math.inf,
        owner: str = "",
        now: float = 0.0,
    ) -> Job:
        """Put a request in line; an answer that would leave the context is shortened.

        ``prompt`` and ``answer`` in tokens, ``deadline`` and ``now`` on one clock; ``owner``
        tells callers apart, none of whom gets all slots while others wait.
        Raises :class:`ContextFull` when the prompt leaves no room for one token of answer, and
        :class:`~mesh.core.errors.Rejected` when the line is full.
        """
        room = min(self.sequence, self.cells)
        if prompt + 1 > room:
            raise ContextFull(
                f"the prompt has {prompt} tokens and the context holds {room}",
                hint="shorten the prompt or raise context_tokens",
            )
        if len(self._waiting) >= self.max_waiting:
            raise Rejected(f"{len(self._waiting)} requests already wait for this model")
        self._orders += 1
        job = Job(
            key=key,
            prompt=prompt,
            answer=max(1, min(answer, room - prompt)),
            priority=priority,
            deadline=deadline,
            owner=owner,
            arrived=now,
            order=self._orders,
        )
        self._waiting[key] = job
        return job

    def expired(self, now: float) -> list[int]:
        """The keys of requests, waiting or running, whose deadline is over."""
        every = (*self._waiting.values(), *self._running.values(), *self._forwards.values())
        return [job.key for job in every if now >= job.deadline]

    def forward(
        self,
        key: int,
        count: int,
        *,
        base: int,
        slot: int,
        all_rows: bool,
        priority: int = 0,
        deadline: float = math.inf,
    ) -> Job:
        """Run ``count`` tokens from position ``base`` on in sequence ``slot``, from the next step.

        The caller has seen to it that there are cells, and ends it with :meth:`leave`.
        """
        self._orders += 1
        job = Job(
            key=key,
            prompt=count,
            answer=0,
            priority=priority,
            deadline=deadline,
            order=self._orders,
            slot=slot,
            base=base,
            forward=True,
            all_rows=all_rows,
        )
        self._forwards[key] = job
        return job

    @property
    def used(self) -> int:
        """Cells that running requests take or may still take, without what they share."""
        return self._used

    def next(self, now: float = 0.0) -> Job | None:
        """The request that would join next, if a slot is free.

        A small request does not overtake a large one that waits for context, so nobody starves.
        """
        if not self._free or not self._waiting:
            return None
        running: dict[str, int] = {}
        for job in self._running.values():
            running[job.owner] = running.get(job.owner, 0) + 1

        def rank(job: Job) -> tuple[float, int, float, int]:
            level = job.priority + max(0.0, now - job.arrived) // AGING_S
            return (-level, running.get(job.owner, 0), job.deadline, job.order)

        return min(self._waiting.values(), key=rank)

    def seat(self, job: Job) -> None:
        """Give the job that :meth:`next` named a slot."""
        del self._waiting[job.key]
        job.slot = self._free.pop()
        self._running[job.key] = job
        self._used += job.cells

    def share(self, job: Job, tokens: int) -> None:
        """``tokens`` more cells of a running job are counted elsewhere from now on."""
        job.shared += tokens
        self._used -= tokens

    def join(self, now: float = 0.0) -> list[Job]:
        """Move requests from the line into free slots and return them."""
        joined: list[Job] = []
        while (job := self.next(now)) is not None and self._used + job.cells <= self.cells:
            self.seat(job)
            joined.append(job)
        return joined

    def plan(self) -> list[Share]:
        """The next step: at most ``batch`` tokens, at most one share per request."""
        generating = [job for job in self._running.values() if job.generating]
        shares = [Share(job, job.position, 1, samples=True) for job in generating]
        room = self.batch - len(shares)
        if generating:
            room = min(room, self.chunk)
        rows = self.rows
        prompts = (job for job in self._running.values() if not job.generating)
        filling = sorted((*prompts, *self._forwards.values()), key=_rank)
        while filling and room > 0:
            level = [job for job in filling if job.priority == filling[0].priority]
            filling = filling[len(level) :]
            # The shortest first: what it leaves of its part goes to the others.
            level.sort(key=lambda job: (job.prompt - job.fed, job.order))
            for index, job in enumerate(level):
                left = job.prompt - job.fed
                count = min(left, math.ceil(room / (len(level) - index)))
                if job.all_rows:
                    count = min(count, math.ceil(rows / (len(level) - index)))
                elif job.forward and count == left and not rows:
                    count -= 1  # the row that it ends with comes in the next step
                if count == 0:
                    continue
                room -= count
                share = Share(job, job.position, count, samples=count == left)
                rows -= share.outputs if job.forward else 0
                shares.append(share)
        return shares

    def done(self, share: Share) -> None:
        """The tokens of a share are in the context."""
        if share.job.generating:
            share.job.generated += share.count
        else:
            share.job.fed += share.count

    def leave(self, key: int) -> int:
        """A request ends, however it ends; returns the slot it held or ``NO_SLOT``."""
        if self._waiting.pop(key, None) is not None or self._forwards.pop(key, None) is not None:
            return NO_SLOT
        job = self._running.pop(key, None)
        if job is None:
            return NO_SLOT
        self._used -= job.cells - job.shared
        self._free.append(job.slot)
        return job.slot


def _rank(job: Job) -> tuple[int, int]:
    return (-job.priority, job.order)
