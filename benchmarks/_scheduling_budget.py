"""Budget under fire: a thousand escalations at once against money for a hundred, with kills.

Real processes share one book and call a stand-in over HTTP; some are killed with SIGKILL while
they reserve, wait and read. What counts is the provider's own bill. Alone:
``python -m benchmarks._scheduling_budget --json``; ``python -m benchmarks.scheduling
--only budget`` runs it too.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agents.budget.limits import Limit, Limits
from agents.budget.store import BudgetStore
from benchmarks import _report
from benchmarks._escalator import BODY, CALL_S, provider
from benchmarks._stand_in import Fault, StandIn, running

ESCALATIONS = 1000
AFFORDABLE = 100
PROCESSES = 8
KILLED = 4
PIECE_S = 0.1  # between two words of the stand-in, so that kills meet answers under way
KILL_WITHIN_S = 8.0
PATIENCE_S = 300.0


def measure(options: _report.Options) -> dict[str, Any]:
    """``over``: money billed above the budget, relative to it; ``returned``: of what was
    reserved and never sent when its process died, the share that came back."""
    rounds = 1 if options.quick else 5
    found = [_round(random.Random(options.seed + n)) for n in range(rounds)]
    unsent = sum(f["unsent"] for f in found)
    back = sum(f["came_back"] for f in found)
    return {
        "over": max(f["over"] for f in found),
        "returned": back / unsent if unsent else None,
        "reservations_unsent_at_kills": unsent,
        "reserved_after": max(f["reserved_after"] for f in found),
        "billed_share": [round(f["billed_share"], 4) for f in found],
        "booked_share": [round(f["booked_share"], 4) for f in found],
        "sent_at_kills_booked_in_full": sum(f["lost"] for f in found),
        "answered": [f["answered"] for f in found],
        "killed": [f["killed"] for f in found],
        "escalations": ESCALATIONS,
        "affordable_at_worst": AFFORDABLE,
        "rounds": rounds,
        "provider": "stand-in over HTTP, fixed answers",
    }


def _round(rng: random.Random) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(StandIn(with_model=False)) as stand_in,
    ):
        stand_in.always = Fault(no_model=True, pause_s=PIECE_S)
        paid = provider(stand_in.url)
        limit = AFFORDABLE * paid.worst_nano(BODY)
        book = Path(folder) / "book"
        BudgetStore(book, Limits(node=Limit(day=limit))).close()
        each = ESCALATIONS // PROCESSES
        command = [sys.executable, "-m", "benchmarks._escalator", str(book), stand_in.url]
        workers = [
            subprocess.Popen(
                [*command, str(limit), str(each)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROCESSES)
        ]
        try:
            killed = _kill_some(workers, rng)
            answered = _finish(workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        return {**_account(book, limit, stand_in, paid), "killed": killed, "answered": answered}


def _kill_some(workers: list[subprocess.Popen[str]], rng: random.Random) -> int:
    """All begin together; the victims die one after another, wherever they then are."""
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    killed = 0
    for victim in rng.sample(workers, KILLED):
        time.sleep(rng.uniform(0, KILL_WITHIN_S / KILLED))
        if victim.poll() is None:
            victim.send_signal(signal.SIGKILL)
            killed += 1
    return killed


def _finish(workers: list[subprocess.Popen[str]]) -> int:
    answered = 0
    for worker in workers:
        out, _ = worker.communicate(timeout=PATIENCE_S)
        last = out.strip().splitlines()[-1:] or ["{}"]
        if last[0].startswith("{"):
            answered += json.loads(last[0]).get("answered", 0)
    return answered


def _account(book: Path, limit: int, stand_in: StandIn, paid: Any) -> dict[str, Any]:
    limits = Limits(node=Limit(day=limit))
    now = time.time()
    # What the dead left, seen before its time is over: straight from the file.
    before = BudgetStore(book, limits, wall=lambda: now)
    unsent = before.read("SELECT id FROM charge WHERE state = 'reserved'")
    before.close()
    later = BudgetStore(book, limits, wall=lambda: now + CALL_S + 60)
    later.now()
    came_back = sum(
        later.read("SELECT state FROM charge WHERE id = ?", row[0])[0][0] == "returned"
        for row in unsent
    )
    [(reserved,)] = later.read("SELECT COUNT(*) FROM charge WHERE state IN ('reserved', 'sent')")
    [(lost,)] = later.read("SELECT COUNT(*) FROM charge WHERE state = 'lost'")
    [(booked,)] = later.read("SELECT SUM(nano) FROM charge")
    later.close()
    billed = sum(paid.cost_nano(prompt, answer) for prompt, answer in stand_in.billed)
    return {
        "over": max(0, billed - limit) / limit,
        "billed_share": billed / limit,
        "booked_share": int(str(booked)) / limit,
        "unsent": len(unsent),
        "came_back": came_back,
        "reserved_after": int(str(reserved)),
        "lost": int(str(lost)),
    }


PARTS = {"budget": measure}

if __name__ == "__main__":
    _report.run(__doc__ or "", lambda options: {"budget": measure(options)})
