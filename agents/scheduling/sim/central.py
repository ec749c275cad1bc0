"""One central first-come queue over all slots: what a mesh without a centre is measured against."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from agents.scheduling.sim.model import Rules, Served
from agents.scheduling.sim.workload import Machine, Request


def central_queue(
    machines: Sequence[Machine], requests: Sequence[Request], rules: Rules
) -> list[Served]:
    """Serve first come, first served, on the fastest free slot; a request whose slot has not
    come after ``rules.limit_s`` goes to the cloud. It knows no staleness and no caches."""
    # Slots that are free, the fastest first, and those that are busy by when they get free.
    free = [(-m.tokens_per_s, n, s) for n, m in enumerate(machines) for s in range(m.slots)]
    heapq.heapify(free)
    busy: list[tuple[float, tuple[float, int, int]]] = []
    waiting: deque[Request] = deque()
    served: list[Served] = []

    def start(request: Request, now: float) -> None:
        slot = heapq.heappop(free)
        machine = machines[slot[1]]
        spent = machine.service_s(request.prompt, request.answer)
        heapq.heappush(busy, (now + spent, slot))
        waited = now - request.at
        first_s = waited + machine.service_s(request.prompt, 1)
        served.append(
            Served(
                at=request.at,
                answer=request.answer,
                node=slot[1],
                first_token_s=first_s,
                total_s=waited + spent,
            )
        )

    def give_up(request: Request) -> None:
        first_s = rules.limit_s + rules.cloud_first_token_s
        served.append(
            Served(
                at=request.at,
                answer=request.answer,
                node=-1,
                first_token_s=first_s,
                total_s=first_s + request.answer / rules.cloud_tokens_per_s,
                cost=rules.prices.cost(request.prompt, request.answer),
            )
        )

    def advance(until: float) -> None:
        while busy and busy[0][0] <= until:
            now, slot = heapq.heappop(busy)
            heapq.heappush(free, slot)
            while waiting and waiting[0].at + rules.limit_s < now:
                give_up(waiting.popleft())
            if waiting:
                start(waiting.popleft(), now)

    for request in requests:
        advance(request.at)
        if free and not waiting:
            start(request, request.at)
        elif rules.limit_s > 0:
            waiting.append(request)
        else:
            give_up(request)
    advance(float("inf"))
    for request in waiting:
        give_up(request)
    return served
