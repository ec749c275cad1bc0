"""A lower bound on the cloud's cost: nobody who knew every arrival and length could pay less.

Choosing which requests to serve where and when, so that their cost is saved, is an integer
program over starts; its Lagrangian relaxation prices each slot of each kind of machine by time.
For any prices the dual value bounds the saving from above (weak duality), so the bound holds
however far the search for good prices has come. All machines of one speed are one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from agents.scheduling.sim.model import BLOCK_TOKENS, Rules
from agents.scheduling.sim.workload import Machine, Request

Array = npt.NDArray[np.float64]

GRID_S = 0.25  # prices are constant within; finer gains little and costs time
ROUNDS = 250  # of the search for prices
STARTS = 11  # moments within the limit on waiting at which the search looks for a start
STEP = 0.7  # first step of the search, as a share of the mean value of a slot's second


def cloud_bound(
    machines: Sequence[Machine],
    requests: Sequence[Request],
    rules: Rules,
    *,
    rounds: int = ROUNDS,
) -> float:
    """Dollars that any schedule pays the cloud at the least, under the same limit on waiting."""
    kinds = [
        (first, sum(m.slots for m in members))
        for first, members in (
            (group[0], group)
            for _, found in groupby(sorted(machines, key=_speed), key=_speed)
            for group in [list(found)]
        )
    ]
    at = np.array([request.at for request in requests])
    values = np.array([rules.prices.cost(r.prompt, r.answer) for r in requests])
    reads = _unread(requests) if any(m.cache_blocks for m in machines) else None
    holds = [
        np.array(
            [
                machine.service_s(int(reads[n]) if reads is not None else r.prompt, r.answer)
                for n, r in enumerate(requests)
            ]
        )
        for machine, _ in kinds
    ]
    slots = np.array([float(count) for _, count in kinds])
    end = float(at[-1] + rules.limit_s + max(hold.max() for hold in holds)) + GRID_S
    cells = int(np.ceil(end / GRID_S)) + 1
    starts = np.linspace(0.0, rules.limit_s, STARTS) if rules.limit_s > 0 else np.zeros(1)
    saved = _dual(at, values, holds, slots, starts, cells, rules.limit_s, rounds)
    return max(0.0, float(values.sum()) - saved)


def _speed(machine: Machine) -> tuple[float, float]:
    return (machine.tokens_per_s, machine.prompt_tokens_per_s)


def _unread(requests: Sequence[Request]) -> list[int]:
    """Prompt tokens that no earlier request can have left in a cache anywhere."""
    seen: set[int] = set()
    unread = []
    for request in requests:
        known = 0
        for block in request.prefix:
            if block not in seen:
                break
            known += 1
        seen.update(request.prefix)
        unread.append(max(1, request.prompt - known * BLOCK_TOKENS))
    return unread


def _dual(
    at: Array,
    values: Array,
    holds: list[Array],
    slots: Array,
    starts: Array,
    cells: int,
    limit_s: float,
    rounds: int,
) -> float:
    """The smallest dual value found: an upper bound on what can be saved."""
    prices = np.zeros((len(slots), cells))
    best = np.inf
    best_prices = prices
    scale = values.sum() / sum(hold.sum() for hold in holds) * len(holds)
    velocity = np.zeros_like(prices)
    for number in range(rounds):
        value, used = _relaxed(prices, at, values, holds, slots, starts)
        if value < best:
            best, best_prices = value, prices.copy()
        slack = (used - slots[:, None]) / slots[:, None]
        velocity = 0.8 * velocity + 0.2 * slack
        step = STEP * scale / (1 + number / 15)
        prices = np.maximum(0.0, prices + step * velocity)
    # Starts between the moments that were looked at could save more: bound what they could.
    return _exact(best_prices, at, values, holds, slots, limit_s)


def _relaxed(
    prices: Array, at: Array, values: Array, holds: list[Array], slots: Array, starts: Array
) -> tuple[float, Array]:
    """The dual value at the starts looked at, and how many slots are used when."""
    cells = prices.shape[1]
    gain = np.zeros(len(at))
    kind = np.full(len(at), -1)
    begun = np.zeros(len(at))
    moments = at[:, None] + starts[None, :]
    for number, hold in enumerate(holds):
        paid = _paid(prices[number], moments, moments + hold[:, None])
        where = paid.argmin(axis=1)
        net = values - paid[np.arange(len(at)), where]
        better = net > gain
        gain = np.where(better, net, gain)
        kind = np.where(better, number, kind)
        begun = np.where(better, moments[np.arange(len(at)), where], begun)
    used = np.zeros_like(prices)
    for number, hold in enumerate(holds):
        mine = kind == number
        used[number] = _occupied(begun[mine], begun[mine] + hold[mine], cells)
    value = float(gain.sum() + (prices.sum(axis=1) * GRID_S * slots).sum())
    return value, used


def _exact(
    prices: Array, at: Array, values: Array, holds: list[Array], slots: Array, limit_s: float
) -> float:
    """The dual value over every start within the limit: the price of an interval is piecewise
    linear in its start, so its least value lies where an end meets the grid or the window."""
    gain = np.zeros(len(at))
    steps = np.arange(int(np.ceil(limit_s / GRID_S)) + 1)
    for number, hold in enumerate(holds):
        by_start = (np.ceil(at / GRID_S)[:, None] + steps) * GRID_S
        by_end = (np.ceil((at + hold) / GRID_S)[:, None] + steps) * GRID_S - hold[:, None]
        edges = np.stack([at, at + limit_s], axis=1)
        every = np.concatenate([by_start, by_end, edges], axis=1)
        every = np.clip(every, at[:, None], (at + limit_s)[:, None])
        paid = _paid(prices[number], every, every + hold[:, None]).min(axis=1)
        gain = np.maximum(gain, values - paid)
    return float(gain.sum() + (prices.sum(axis=1) * GRID_S * slots).sum())


def _paid(prices: Array, begin: Array, end: Array) -> Array:
    """The price of holding a slot from ``begin`` to ``end``."""
    total = np.concatenate([[0.0], np.cumsum(prices)]) * GRID_S
    paid: Array = _at(total, end) - _at(total, begin)
    return paid


def _at(total: Array, moments: Array) -> Array:
    place = moments / GRID_S
    cell = np.minimum(place.astype(np.int64), len(total) - 2)
    found: Array = total[cell] + (total[cell + 1] - total[cell]) * np.minimum(place - cell, 1.0)
    return found


def _occupied(begin: Array, end: Array, cells: int) -> Array:
    """How many of the intervals cover each cell of the grid, parts of it counted as parts."""
    edges: Array = np.zeros(cells + 2)
    for moments, sign in ((begin, 1.0), (end, -1.0)):
        place = moments / GRID_S
        cell = np.minimum(place.astype(np.int64), cells - 1)
        part = place - cell
        np.add.at(edges, cell, sign * (1 - part))
        np.add.at(edges, cell + 1, sign * part)
    covered: Array = np.cumsum(edges)[:cells]
    return covered
