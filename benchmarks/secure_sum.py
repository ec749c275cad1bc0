"""A secure sum of 16 nodes, 1,000 values and 5 dropouts: exact, how long, how many bytes.

python -m benchmarks.secure_sum --json
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks._report import Options, progress, run
from mesh.core.clock import Now
from mesh.core.identity import Authority, LocalIdentity, Member, Trust, make_passport, new_keys
from mesh.core.secure_sum import SumLimits, SumMember
from mesh.core.sum_coordinator import SumCoordinator
from mesh.core.sum_messages import (
    CELL_BYTES,
    ROUND_BYTES,
    Mask,
    SumFailed,
    SumPlan,
    decode_answer,
    decode_question,
    encode,
    threshold_for,
)
from mesh.core.sum_statistics import encode as encode_rows

NODES, VALUES, DROPOUTS = 16, 1000, 5
NOW = Now(mono=0.0, wall=1_700_000_000.0)
STEPS = ("open", "share", "mask", "confirm", "reveal")


class Nodes:
    """Certified members of one mesh in this process."""

    def __init__(self, count: int) -> None:
        authority = Authority(os.urandom(32))
        self.trust = Trust(authority.key)
        self._certified: dict[bytes, Member] = {}
        self.members: dict[bytes, SumMember] = {}
        for number in range(count):
            keys = new_keys(os.urandom)
            certificate = authority.certify(
                key=keys.key,
                name=f"node-{number}",
                groups=(),
                publish=("data.gpt/**",),
                not_before=NOW.wall,
                not_after=NOW.wall + 1e6,
                serial=b"1",
            )
            passport = make_passport(keys, certificate, self.trust.mesh)
            identity = LocalIdentity(keys, passport, self.trust)
            self._certified[identity.node] = identity.member
            self.members[identity.node] = SumMember(
                identity, self.find, os.urandom, SumLimits(rest_s=0.0)
            )

    def find(self, node: bytes) -> Member | None:
        """The member of an id."""
        return self._certified.get(node)


def one_round(nodes: Nodes, dropouts: int, seed: int) -> dict[str, Any]:
    """One round, ``dropouts`` nodes silent from the masked input on: the worst case, since each
    pairwise pad of theirs must be taken out again.

    Returns whether the sum is exact (against whole-number arithmetic on the rounded inputs),
    milliseconds per node and step, and bytes both ways over the bytes of the bare values.
    """
    roster = tuple(sorted(nodes.members))
    plan = SumPlan(
        round=os.urandom(ROUND_BYTES),
        name="data.gpt/bench/secure_sum",
        coordinator=roster[0],
        nodes=roster,
        threshold=threshold_for(len(roster)),
        issued=NOW.wall,
        columns=VALUES,
    )
    rng = np.random.default_rng(seed)
    rows = {node: rng.normal(0, 1000, VALUES) for node in roster}
    gone = set(roster[:dropouts])
    spent_ms: dict[str, list[float]] = defaultdict(list)
    cpu_ms: dict[str, list[float]] = defaultdict(list)
    up_bytes = down_bytes = 0
    coordinator = SumCoordinator(plan, nodes.trust, nodes.find)
    for step in STEPS:
        for node, question in coordinator.questions().items():
            if node in gone and step not in {"open", "share"}:
                continue
            body = encode(question)
            began, began_cpu = time.perf_counter(), time.thread_time()
            asked = decode_question(body)
            cells = encode_rows(plan, rows[node]) if isinstance(asked, Mask) else None
            answer = encode(nodes.members[node].answer(asked, "benchmark", NOW, cells))
            spent_ms[step].append((time.perf_counter() - began) * 1000)
            cpu_ms[step].append((time.thread_time() - began_cpu) * 1000)
            up_bytes += len(answer)
            down_bytes += len(body)
            coordinator.take(node, decode_answer(answer))
        coordinator.advance()
    began = time.perf_counter()
    result = coordinator.result()
    unmask_ms = (time.perf_counter() - began) * 1000
    scale = 2**plan.fraction_bits
    inside = [np.rint(rows[n] * scale).astype(np.int64) for n in roster if n not in gone]
    plain_bytes = len(inside) * VALUES * CELL_BYTES
    return {
        "exact": bool(np.array_equal(np.array(result.sums), sum(inside) / scale)),
        "steps_ms": {step: statistics.median(times) for step, times in spent_ms.items()},
        "cpu_ms": {step: statistics.median(times) for step, times in cpu_ms.items()},
        "unmask_ms": unmask_ms,
        "bytes_ratio": (up_bytes + down_bytes) / plain_bytes,
        "bytes_ratio_up": up_bytes / plain_bytes,
    }


def nothing_below_the_minimum() -> bool:
    """Whether one dropout too many leaves no result at all."""
    nodes = Nodes(NODES)
    try:
        one_round(nodes, NODES // 3 + 1, seed=0)
    except SumFailed:
        return True
    return False


def measure(options: Options) -> dict[str, Any]:
    """The figures ``secure_sum.*`` of ``benchmarks.security``: ``exact``, ``mask_ms`` (median
    over nodes of the question that masks), ``bytes_ratio`` (both ways, what dropouts said
    included, over the bare values of those who stayed), and the other steps beside them. Times
    are of the wall; ``cpu_ms`` is what remains of them on a machine that is otherwise idle."""
    nodes = Nodes(NODES)
    one_round(nodes, 0, seed=0)  # imports and first use are not a node's work
    rounds = [
        one_round(nodes, DROPOUTS, options.seed + n) for n in range(5 if options.quick else 20)
    ]
    progress(f"{len(rounds)} rounds of {NODES} nodes")

    def middle(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "secure_sum": {
            "exact": all(r["exact"] for r in rounds) and nothing_below_the_minimum(),
            "mask_ms": middle([r["steps_ms"]["mask"] for r in rounds]),
            "bytes_ratio": middle([r["bytes_ratio"] for r in rounds]),
            "bytes_ratio_up": middle([r["bytes_ratio_up"] for r in rounds]),
            "steps_ms": {s: middle([r["steps_ms"][s] for r in rounds]) for s in STEPS},
            "cpu_ms": {s: middle([r["cpu_ms"][s] for r in rounds]) for s in STEPS},
            "unmask_ms": middle([r["unmask_ms"] for r in rounds]),
            "nodes": NODES,
            "values": VALUES,
            "dropouts": DROPOUTS,
        }
    }


if __name__ == "__main__":
    run("A secure sum: exact, how long, how many bytes.", measure)
