"""A lower bound on the cloud's cost: nobody who knew every arrival and length could pay less.

Choosing which requests to serve where and when, so that their cost is saved, is an integer
program over starts; its Lagrangian relaxation prices each slot of each kind of machine by time.
For any prices the dual value bounds the saving from above (weak duality), so the bound holds
however far the search for good prices has come. All machines of one speed are one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agents.scheduling.sim.model import BLOCK_TOKENS, Rules
from agents.scheduling.sim.workload import Machine, Request

Array = npt.NDArray[np.float64]

GRID_S = 0.25  # prices are constant within; finer gains little and costs time
ROUNDS = 250  # of the search for prices
STARTS = 11  # moments within the limit on waiting at which the search looks for a start
STEP = 0.3  # first step of the search, as a share of what a slot's second is worth
SHRINK = 10.0  # the last step is so many times smaller
MEAN, SQUARE, LEAST_SIZE = 0.9, 0.99, 1e-6  # Adam's moments, and what is added to a size


class Problem(NamedTuple):
    """Requests by arrival: when they come, what the cloud takes for them, and how long each kind
    of machine holds a slot for them; the slots of each kind, and how long each may wait."""

    at: Array
    values: Array
    holds: list[Array]
    slots: Array
    limit_s: float
    cells: int  # of the grid


def cloud_bound(
    machines: Sequence[Machine],
    requests: Sequence[Request],
    rules: Rules,
    *,
    rounds: int = ROUNDS,
) -> float:
    """Dollars that any schedule pays the cloud at the least, under the same limit on waiting."""
    problem = make_problem(machines, requests, rules)
    return bound_at(problem, search(problem, rounds))


def make_problem(machines: Sequence[Machine], requests: Sequence[Request], rules: Rules) -> Problem:
    """The arrays that the search works on."""
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
    return Problem(at, values, holds, slots, rules.limit_s, int(np.ceil(end / GRID_S)) + 1)


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


def search(problem: Problem, rounds: int = ROUNDS) -> Array:
    """Prices by kind and cell, by steps towards where slots are overfull."""
    at, values, holds, slots, limit_s, cells = problem
    starts = np.linspace(0.0, limit_s, STARTS) if limit_s > 0 else np.zeros(1)
    prices = np.zeros((len(slots), cells))
    best, best_prices = np.inf, prices
    # What a slot's second is worth on each kind of machine: prices are of that size.
    scale = np.array([values.sum() / hold.sum() for hold in holds])[:, None]
    mean, square = np.zeros_like(prices), np.zeros_like(prices)
    for number in range(rounds):
        value, used = _relaxed(prices, at, values, holds, slots, starts)
        if value < best:
            best, best_prices = value, prices.copy()
        over = used - slots[:, None]
        # Adam (Kingma and Ba 2015): quiet minutes and surges need steps of different sizes.
        mean = MEAN * mean + (1 - MEAN) * over
        square = SQUARE * square + (1 - SQUARE) * over**2
        by = mean / (1 - MEAN ** (number + 1))
        size = np.sqrt(square / (1 - SQUARE ** (number + 1))) + LEAST_SIZE
        step = STEP * scale / (1 + SHRINK * number / rounds)
        prices = np.maximum(0.0, prices + step * by / size)
    return best_prices


def bound_at(problem: Problem, prices: Array) -> float:
    """The bound that these prices give; any prices give a valid one."""
    gains = [problem.values - paid for _, paid in cheapest(problem, prices)]
    gain = np.maximum(0.0, np.max(gains, axis=0))
    saved = gain.sum() + (prices.sum(axis=1) * GRID_S * problem.slots).sum()
    return max(0.0, float(problem.values.sum() - saved))


def cheapest(problem: Problem, prices: Array) -> list[tuple[Array, Array]]:
    """For each kind of machine the start of each request at which its slot costs least, and what
    it costs there. The price of an interval is piecewise linear in its start, so its least value
    lies where an end meets the grid or the window."""
    at, limit_s = problem.at, problem.limit_s
    steps = np.arange(int(np.ceil(limit_s / GRID_S)) + 1)
    found = []
    for number, hold in enumerate(problem.holds):
        by_start = (np.ceil(at / GRID_S)[:, None] + steps) * GRID_S
        by_end = (np.ceil((at + hold) / GRID_S)[:, None] + steps) * GRID_S - hold[:, None]
        edges = np.stack([at, at + limit_s], axis=1)
        every = np.concatenate([by_start, by_end, edges], axis=1)
        every = np.clip(every, at[:, None], (at + limit_s)[:, None])
        paid = _paid(prices[number], every, every + hold[:, None])
        where = paid.argmin(axis=1)
        row = np.arange(len(at))
        found.append((every[row, where], paid[row, where]))
    return found


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
