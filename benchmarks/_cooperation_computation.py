"""Four independent steps on four nodes, and what becomes of them when one node dies.

Each node is a process of its own with a paced engine: a real worker that sleeps a stated time per
token, since four models would measure the cores of this machine. The plan is given, so that only
its execution is measured. Started with a plan as JSON, this module is one of the nodes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

import agents.agent
from agents.agent import Agent
from agents.config import make_config
from agents.configure import PartsConfig, build
from agents.orchestrator.events import Answered, Started
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.orchestrator.plan import Plan, Step
from agents.parts import Limits, Parts
from agents.views import AnswerView
from benchmarks import _report
from capabilities.base import Capability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.identity import Authority
from mesh.core.records import ServedName
from mesh.net.statedir import create_identity

NAME = "knowledge.gpt/paced"
NODES = 4
TOKENS = 60  # of each answer
TOKENS_PER_S = 20.0  # of a board
CONTEXT_TOKENS = 2048
DEADLINE_S = 30.0
KILL_AFTER_S = 1.0  # into its answer, which takes three seconds
UP_S = 120.0


class FixedPlan:
    """Four independent steps, whatever is asked."""

    def plan(self, question: str) -> Plan:
        """See :class:`agents.orchestrator.plan.Planner`."""
        steps = tuple(
            Step(id=n, question=f"part {n} " + "word " * 8, name=NAME) for n in range(1, NODES + 1)
        )
        return Plan(steps=steps, method="given by the benchmark")


def parts(concurrent: int) -> Parts:
    """The parts as shipped, but for the given plan and how many steps run at once."""
    made = build(PartsConfig(limits=Limits(concurrent=concurrent)))
    return msgspec.structs.replace(made, planner=FixedPlan())


def paced(name: str) -> Capability:
    """The model of one node."""
    pace = Paced(
        token_s=1 / TOKENS_PER_S,
        prompt_token_s=0.0,
        stream_cost=0.0,
        context_tokens=CONTEXT_TOKENS,
        answer_tokens=TOKENS,
    )
    host = ModelHost("paced", Settings(slots=1, context_tokens=CONTEXT_TOKENS), paced=pace)
    return SlmCapability(host, [ServedName(NAME, model=f"paced-{name}")], queue=1)


async def serve(plan: dict[str, Any]) -> None:
    """One node, until standard input ends."""
    agents.agent.make_capabilities = lambda config, name: [paced(name)]  # type: ignore
    raw = {"node": {"state": plan["state"], "seeds": plan["seeds"], "discovery": False}}
    agent = Agent(make_config(raw, base=Path(plan["state"])))
    await agent.start()
    await agent.ready.wait()
    sys.stdout.write(json.dumps({"seed": agent.node.seed, "troubles": agent.troubles}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await agent.stop()


def _start(plan: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks._cooperation_computation", json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@asynccontextmanager
async def mesh() -> AsyncIterator[tuple[Agent, dict[str, subprocess.Popen[str]]]]:
    """An agent that asks, in this process, and four that serve, in their own."""
    authority = Authority(os.urandom(32))
    processes: dict[str, subprocess.Popen[str]] = {}
    asking: Agent | None = None
    with tempfile.TemporaryDirectory(prefix="gossamer-bench-") as folder:

        def state(name: str) -> str:
            path = Path(folder) / name
            create_identity(
                path, authority, "bench", name=name, groups=(), publish=("knowledge.gpt/**",)
            )
            return str(path)

        try:
            seeds: list[str] = []
            for number in range(NODES):
                name = f"board-{number}"
                plan = {"state": state(name), "seeds": seeds[:1]}
                processes[name] = _start(plan)
                out = processes[name].stdout
                assert out is not None
                line = await asyncio.wait_for(asyncio.to_thread(out.readline), UP_S)
                seeds.append(json.loads(line)["seed"])
            raw = {"node": {"state": state("desk"), "seeds": seeds, "discovery": False}}
            asking = Agent(make_config(raw, base=Path(folder)))
            await asking.start()
            until = time.monotonic() + UP_S
            while sum(o.served.name == NAME and o.slots > 0 for o in asking.port.offers()) < NODES:
                if time.monotonic() > until:
                    raise RuntimeError("the nodes never found each other")
                await asyncio.sleep(0.1)
            yield asking, processes
        finally:
            if asking is not None:
                await asking.stop()
            for process in processes.values():
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()


async def timed(agent: Agent, concurrent: int, seed: int) -> tuple[float, AnswerView]:
    """Seconds for the four steps, and the answer."""
    asking = Orchestrator(agent.port, parts(concurrent), rng=random.Random(seed))
    began = time.monotonic()
    view = await asking.answer("four parts", AskOptions(timeout_s=DEADLINE_S, max_tokens=TOKENS))
    return time.monotonic() - began, view


async def one_dead(
    agent: Agent, processes: dict[str, subprocess.Popen[str]], seed: int
) -> dict[str, Any]:
    """The same four steps, one node killed while it answers."""
    asking = Orchestrator(agent.port, parts(NODES), rng=random.Random(seed))
    began, killed = time.monotonic(), ""
    answer: AnswerView | None = None
    options = AskOptions(timeout_s=DEADLINE_S, max_tokens=TOKENS)
    async for event in asking.ask("four parts", options):
        if isinstance(event, Started) and not killed:
            killed = event.node
            asyncio.get_running_loop().call_later(KILL_AFTER_S, processes[killed].kill)
        if isinstance(event, Answered):
            answer = event.answer
    assert answer is not None
    elapsed_s = time.monotonic() - began
    answered = sum(step.status == "ok" for step in answer.steps)
    return {
        "elapsed_s": round(elapsed_s, 2),
        "deadline_s": DEADLINE_S,
        "within_deadline": elapsed_s <= DEADLINE_S,
        "answered": answered,
        "of": len(answer.steps),
        "flagged": bool(answer.notes or answer.missing),
        "notes": answer.notes,
        "missing": answer.missing,
        "killed": killed,
        "holds": elapsed_s <= DEADLINE_S and bool(answer.notes or answer.missing) and answered >= 3,
    }


async def run(*, quick: bool, seed: int) -> dict[str, Any]:
    """The figures."""
    async with mesh() as (agent, processes):
        together, alone = [], []
        for number in range(1 if quick else 5):
            seconds, view = await timed(agent, NODES, seed + number)
            together.append(seconds)
            nodes = len({step.node for step in view.steps})
            _report.progress(f"computation: four at once {seconds:.2f} s on {nodes} nodes")
            seconds, view = await timed(agent, 1, seed + number)
            alone.append(seconds)
            _report.progress(f"computation: one after another {seconds:.2f} s")
        dead = await one_dead(agent, processes, seed)
        _report.progress(
            f"computation: one killed, {dead['answered']} answered in {dead['elapsed_s']} s"
        )
    return {
        "wall": round(statistics.median(together) / statistics.median(alone), 3),
        "one_dead": dead,
        "together_s": [round(one, 2) for one in together],
        "sequential_s": [round(one, 2) for one in alone],
        "engine": f"paced: {TOKENS} tokens at {TOKENS_PER_S:g} a second, asleep and not computing",
    }


def measure(*, quick: bool, seed: int) -> dict[str, Any]:
    """`computation` of benchmarks.cooperation."""
    return asyncio.run(run(quick=quick, seed=seed))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("{"):
        asyncio.run(serve(json.loads(sys.argv[1])))
    else:
        _report.run(__doc__ or "", lambda o: measure(quick=o.quick, seed=o.seed))
