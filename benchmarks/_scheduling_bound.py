"""The lower bound on the cloud's cost where nobody waits, by linear programming.

Without waiting a request begins when it comes or goes to the cloud, so the program that picks
requests for kinds of machines is small enough to be solved whole: one variable for a request on a
kind, and each kind's slots held at every arrival, the only moments at which more can be taken. Its
linear relaxation is a valid bound, and nearly exact: on pieces of ten minutes the integer program
costs 0 to 0.2 % more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from agents.scheduling.sim.bound import bound_at, make_problem, search
from agents.scheduling.sim.model import Rules
from agents.scheduling.sim.workload import Machine, Request


def tight_bound(machines: Sequence[Machine], requests: Sequence[Request], rules: Rules) -> float:
    """Dollars that any schedule pays the cloud at the least, under the same limit on waiting;
    where requests may wait, the bound that :mod:`agents.scheduling.sim.bound` searches."""
    problem = make_problem(machines, requests, rules)
    if rules.limit_s > 0:
        return bound_at(problem, search(problem))
    at, values, count = problem.at, problem.values, len(problem.at)
    rows, columns, room = [], [], []
    number = 0
    for kind, hold in enumerate(problem.holds):
        for moment in at:
            held = np.nonzero((at <= moment) & (at + hold > moment))[0]
            if len(held) > problem.slots[kind]:  # else they fit, whoever they are
                rows.append(np.full(len(held), number))
                columns.append(kind * count + held)
                room.append(problem.slots[kind])
                number += 1
    for kind in range(len(problem.holds)):  # nobody is served twice
        rows.append(number + np.arange(count))
        columns.append(kind * count + np.arange(count))
    row, column = np.concatenate(rows), np.concatenate(columns)
    found = linprog(
        -np.tile(values, len(problem.holds)),
        A_ub=coo_array((np.ones(len(row)), (row, column))).tocsr(),
        b_ub=np.concatenate([room, np.ones(count)]),
        bounds=(0, 1),
        method="highs",
    )
    if not found.success:
        raise RuntimeError(f"the linear program was not solved: {found.message}")
    return max(0.0, float(values.sum() + found.fun))
