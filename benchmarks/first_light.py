"""The demonstration mesh as a user meets it: start, memory, and what a kill costs.

python -m benchmarks.first_light --json
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from agents.faces.client import ControlClient
from agents.faces.demo import Demo, roster, start
from benchmarks._report import Options, progress, run

PATIENCE_S = 30.0


async def _until(client: ControlClient, name: str, **want: Any) -> float:
    """Seconds until the first agent sees ``name`` as wanted, the patience if never."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        peers = await client.fetch("peers", {})
        peer = next((p for p in peers if p["name"] == name), None)
        if peer and all(peer[key] == value for key, value in want.items()):
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    return PATIENCE_S


async def _measure_mesh(demo: Demo, began: float) -> dict[str, Any]:
    async with await start(demo) as client:
        ready_s = time.monotonic() - began
        answer = await client.fetch("ask", {"question": "What is 48 * 27?"})
        first_s = time.monotonic() - began
        progress(f"{first_s:.1f} s to the first answer: {answer['text']}")
        asked = []
        for number in range(20):
            question = f"What is {41 + number} * 27?"
            asked.append((await client.fetch("ask", {"question": question}))["elapsed_s"])
        pair = await client.fetch("ask", {"question": "What is 48 * 27 and what is 312 + 45?"})
        one, two = pair["steps"]
        overlap_s = min(one["started_s"] + one["elapsed_s"], two["started_s"] + two["elapsed_s"])
        overlap_s -= max(one["started_s"], two["started_s"])
        agents = {n: psutil.Process(p.pid) for n, p in demo.processes.items()}
        workers = {n: a.children(recursive=True) for n, a in agents.items()}
        agent_mb = {n: round(a.memory_info().rss / 2**20, 1) for n, a in agents.items()}
        worker_mb = {n: round(w[0].memory_info().rss / 2**20, 1) for n, w in workers.items() if w}
        workers["abacus"][0].kill()
        await _until(client, "abacus", healthy=False)
        back_s = await _until(client, "abacus", healthy=True)
        progress(f"a killed worker was back after {back_s:.2f} s")
        agents["abacus"].send_signal(signal.SIGKILL)
        dead_s = await _until(client, "abacus", state="dead")
        progress(f"a killed agent was seen dead after {dead_s:.2f} s")
        after = await client.fetch("ask", {"question": "What is 48 * 27?"})
        return {
            "demo_ready_s": round(ready_s, 2),
            "demo_to_answer_s": round(first_s, 2),
            "answer_s_p50": round(statistics.median(asked), 4),
            "text": answer["text"],
            "two_steps": {
                "nodes": sorted({one["node"], two["node"]}),
                "overlap_s": round(overlap_s, 4),
                "text": pair["text"],
            },
            "agent_mb": agent_mb,
            "worker_mb": worker_mb,
            "worker_back_s": round(back_s, 2),
            "dead_seen_s": round(dead_s, 2),
            "after_the_kill": {"node": after["steps"][0]["node"], "text": after["text"]},
        }


def measure(options: Options) -> dict[str, Any]:
    """Start the mesh once and take every figure from it."""
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        began = time.monotonic()
        with Demo(roster(4), Path(folder) / "demo") as demo:
            return asyncio.run(_measure_mesh(demo, began))


if __name__ == "__main__":
    run("The demonstration mesh: start, memory, and what a kill costs.", measure)
