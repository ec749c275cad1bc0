"""One agent with a paced engine, for benchmarks.scheduling; started with its plan as JSON:

python -m benchmarks._scheduling_node '{"state": ..., "name": ..., "seeds": [...], ...}'

It says ``{"up": ..., "seed": ...}``, answers ``names``, and on ``{"begin": T, "load": [...]}``
asks the mesh at those moments (monotonic seconds, one clock for the machine) and tells how each
question went.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import agents.agent
from agents.agent import Agent
from agents.config import make_config
from agents.configure import PartsConfig, build
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.parts import Limits
from agents.scheduling.sim.mesh import NAME
from capabilities.base import Capability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.records import ServedName

CONTEXT_TOKENS = 2048
PATIENCE_S = 120.0  # of a question: nothing waits in this load, the longest answer takes 42 s


def say(**line: Any) -> None:
    """One line of JSON for whoever started this."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def paced(plan: dict[str, Any]) -> Capability:
    """The model of this agent: it sleeps where a board would compute."""
    pace = Paced(
        token_s=1 / plan["tokens_per_s"],
        prompt_token_s=0.0,
        stream_cost=0.0,
        context_tokens=CONTEXT_TOKENS,
    )
    slots = plan["slots"]
    settings = Settings(slots=slots, context_tokens=slots * CONTEXT_TOKENS)
    host = ModelHost("paced", settings, paced=pace)
    return SlmCapability(host, [ServedName(NAME, model=plan["kind"])], queue=plan["queue"])


async def ask(agent: Agent, asking: Orchestrator, due: float, tokens: int) -> dict[str, Any]:
    """One question at its moment; how it went."""
    await asyncio.sleep(max(0.0, due - time.monotonic()))
    began = time.monotonic()
    options = AskOptions(timeout_s=PATIENCE_S, name=NAME, max_tokens=tokens)
    view = await asking.answer("w " * tokens, options)
    step = view.steps[0] if view.steps else None
    ok = step is not None and step.status == "ok"
    return {
        "ok": ok,
        "late_s": began - due,
        "total_s": time.monotonic() - began,
        "tokens": step.tokens if step else 0,
        "node": step.node if step else "",
        "attempts": len(step.attempts) if step else 0,
        "error": "" if ok or step is None else step.error[:120],
    }


async def main(plan: dict[str, Any]) -> None:
    """Run until standard input ends."""
    agents.agent.make_capabilities = lambda config, name: [paced(plan)]  # type: ignore[assignment]
    raw = {"node": {"state": plan["state"], "seeds": plan["seeds"], "discovery": False}}
    agent = Agent(make_config(raw, base=Path(plan["state"])))
    await agent.start()
    await agent.ready.wait()
    parts = build(
        PartsConfig(policy=plan["policy"], planner="whole", limits=Limits(attempts=1, waits=0))
    )
    asking = Orchestrator(agent.port, parts, rng=random.Random(plan["seed"]))
    say(up=plan["name"], seed=agent.node.seed, troubles=agent.troubles)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        if line == "names":
            say(
                nodes=sum(
                    offer.served.name == NAME and offer.slots > 0 for offer in agent.port.offers()
                )
            )
            continue
        order = json.loads(line)
        asked = [ask(agent, asking, order["begin"] + at, tokens) for at, tokens in order["load"]]
        say(results=await asyncio.gather(*asked), counters=asking.counters)
    await agent.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
