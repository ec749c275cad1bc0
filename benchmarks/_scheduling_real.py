"""The same load in the simulator and on a real mesh of eight agent processes, paced engines."""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean
from typing import Any

from agents.configure import POLICIES
from agents.scheduling.sim.mesh import Simulation
from agents.scheduling.sim.model import Rules
from agents.scheduling.sim.workload import Machine, Request, article_hour, jetsons
from benchmarks._report import Options, progress
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

POLICY = "predictive"
REDIRECTS = 3  # as the executor has it: four attempts with one that is not a redirect
GOSSIP_AGE_S = 2.0  # how old a relayed load is at most, about
# The last 80 s of a period: twenty quiet seconds, then the surge. The long form has two periods.
QUICK_FROM_S, PERIODS = 220.0, 2
PERIOD_S = 300.0
PATIENCE_S = 180.0  # for an agent on a busy machine to come up
LEAD_S = 3.0  # between telling the agents and the first question


class _Agent:
    """One process, and the lines that it says."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._scheduling_node", json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        return self._lines.get(timeout=patience_s)


def _start(folder: Path, machines: list[Machine], seed: int) -> list[_Agent]:
    authority = Authority(os.urandom(32))
    running: list[_Agent] = []
    seeds: list[str] = []
    try:
        for number, machine in enumerate(machines):
            state = folder / machine.name
            create_identity(
                state,
                authority,
                "bench",
                name=machine.name,
                groups=(),
                publish=("computation.gpt/**",),
            )
            running.append(
                _Agent(
                    {
                        "state": str(state),
                        "name": machine.name,
                        "kind": machine.name.rstrip("0123456789"),
                        "seeds": seeds[:2],
                        "tokens_per_s": machine.tokens_per_s,
                        "slots": machine.slots,
                        "queue": 0,
                        "policy": POLICY,
                        "seed": seed + number,
                    }
                )
            )
            up = running[-1].answer()
            seeds.append(up["seed"])
            progress(f"  {machine.name} is up")
        for agent in running:
            _wait_for_all(agent, len(machines))
    except BaseException:
        _stop(running)
        raise
    return running


def _wait_for_all(agent: _Agent, count: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        agent.tell("names")
        if agent.answer()["nodes"] >= count:
            return
        time.sleep(0.5)
    raise RuntimeError("the agents never knew each other")


def _stop(running: list[_Agent]) -> None:
    for agent in running:
        if agent.process.stdin is not None:
            agent.process.stdin.close()  # its end; the agent leaves and ends its worker
    for agent in running:
        try:
            agent.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            agent.process.kill()
            agent.process.wait()


def _load(options: Options) -> list[Request]:
    rng = random.Random(options.seed)
    if not options.quick:
        return article_hour(rng, seconds=PERIODS * PERIOD_S)
    return [
        Request(at=r.at - QUICK_FROM_S, prompt=r.prompt, answer=r.answer, caller=r.caller)
        for r in article_hour(rng, seconds=PERIOD_S)
        if r.at >= QUICK_FROM_S
    ]


def sim_vs_real(options: Options) -> dict[str, Any]:
    """Rejected share and mean latency of what was served; the simulator's over the real mesh's."""
    machines, load = jetsons(), _load(options)
    rules = Rules(
        redirects=REDIRECTS,
        ingress=len(machines),
        age_s=GOSSIP_AGE_S,
        ask_fresh=True,
        lengths_known=True,
    )
    simulated = [
        Simulation(
            machines, load, lambda: POLICIES.create(POLICY), rules, random.Random(seed)
        ).run()
        for seed in range(options.seed, options.seed + 5)
    ]
    sim_rejected = mean(sum(one.node < 0 for one in run) / len(run) for run in simulated)
    sim_latency = mean(mean(one.total_s for one in run if one.node >= 0) for run in simulated)
    progress(f"  simulated: {sim_rejected:.3f} rejected, {sim_latency:.2f} s")
    with tempfile.TemporaryDirectory(prefix="gossamer-bench-") as folder:
        running = _start(Path(folder), machines, options.seed)
        try:
            begin = time.monotonic() + LEAD_S
            for number, agent in enumerate(running):
                mine = [(r.at, r.answer) for r in load if r.caller % len(running) == number]
                agent.tell(json.dumps({"begin": begin, "load": mine}))
            progress(f"  {len(load)} questions in {load[-1].at:.0f} s ...")
            said = [agent.answer(load[-1].at + PATIENCE_S) for agent in running]
        finally:
            _stop(running)
    results = [result for line in said for result in line["results"]]
    served = [result for result in results if result["ok"]]
    rejected = 1 - len(served) / len(results)
    latency = mean(result["total_s"] for result in served)
    if options.out:
        (options.out / "sim_vs_real.json").write_text(json.dumps(results))
    errors = sorted({result["error"] for result in results if result["error"]})
    return {
        "rejected": round(sim_rejected / rejected, 4) if rejected else None,
        "latency": round(sim_latency / latency, 4),
        "simulated": {"rejected": round(sim_rejected, 4), "latency_s": round(sim_latency, 3)},
        "real": {
            "rejected": round(rejected, 4),
            "latency_s": round(latency, 3),
            "requests": len(results),
            "attempts": round(mean(result["attempts"] for result in results), 3),
            "asked_late_s_max": round(max(result["late_s"] for result in results), 3),
            "errors": errors[:5],
        },
        "engines": "paced: real workers that sleep as long as a board would compute",
        "policy": POLICY,
    }


PARTS = {"sim_vs_real": sim_vs_real}
