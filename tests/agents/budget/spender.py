"""A process that escalates: reserves, sends, settles, and may be killed at any point.

Run as ``python -m tests.agents.budget.spender BOOK LIMIT COUNT SEED``; it prints what a provider
would bill: every call that was sent, at its real cost, before the settlement is written.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from agents.budget.limits import Limit, Limits
from agents.budget.store import BudgetStore
from capabilities.cloud.purse import Bill, Claim, OverBudget

WORST = 100
SECONDS = 2.0


def main() -> None:
    book, limit, count, seed = sys.argv[1], *map(int, sys.argv[2:5])
    rng = random.Random(seed)
    store = BudgetStore(Path(book), Limits(node=Limit(day=limit)))
    for _ in range(count):
        try:
            ticket = store.reserve(Claim(nano=WORST, provider="p", model="m", seconds=SECONDS))
        except OverBudget:
            continue
        fate = rng.random()
        if fate < 0.1:
            die()
        if fate < 0.2:
            store.release(ticket)
            continue
        store.sent(ticket)
        cost = rng.randint(1, WORST)
        os.write(1, f"{cost}\n".encode())  # the provider's book: it knows before anybody
        if fate < 0.35:
            die()
        store.settle(ticket, Bill(nano=cost))
    store.close()


def die() -> None:
    """As kill -9 from outside: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
