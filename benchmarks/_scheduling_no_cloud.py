"""A saturated mesh whose cloud is down for a minute: who is answered, refused, or left hanging.

Real nodes in one process, each with a paced engine (it sleeps a stated time per token and
stands for a board) whose slots are kept full; the cloud is a stand-in over HTTP that first
works, then fails in every way that providers do, then works again. Alone:
``python -m benchmarks._scheduling_no_cloud --json``; ``python -m benchmarks.scheduling
--only no_cloud`` runs it too.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agents.agent import Agent
from agents.config import make_config
from agents.orchestrator.orchestrator import AskOptions
from benchmarks import _report
from benchmarks._stand_in import KEY, Fault, StandIn, running
from capabilities.base import Capability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.access import CLOUD
from mesh.core.identity import Authority
from mesh.core.records import ServedName
from mesh.core.wire import Reach
from mesh.net.statedir import create_identity

NAME = "knowledge.gpt/tides"
NODES = 3
SLOTS = 2
QUEUE = 1
ANSWER_TOKENS = 40
TOKEN_S = 0.05
PATIENCE_S = 12.0  # of each question
RECOVERY_S = 120.0
GRACE_S = 5.0  # beyond its patience a question counts as hung
OVERLOAD = 3.0  # questions a second over what the mesh serves
BROKEN = (
    Fault(status=503),
    Fault(status=500),
    Fault(status=429, headers={"retry-after": "5"}),
    Fault(silent=True),
    Fault(cut_after=1, no_model=True),
)


class PacedAgent(Agent):
    """An agent that also serves what it is handed."""

    async def add(self, capability: Capability) -> None:
        """Serve it too."""
        self._capabilities.append(capability)
        await self._start_capability(capability)


def measure(options: _report.Options) -> dict[str, Any]:
    """``hung``, ``answered`` and ``refused`` (with a time to come back) of the questions asked
    while the cloud was down; ``other`` should be none."""
    down_s = 12.0 if options.quick else 60.0
    with tempfile.TemporaryDirectory() as folder, running(StandIn(with_model=False)) as stand_in:
        return asyncio.run(_run(Path(folder), stand_in, down_s, random.Random(options.seed)))


async def _run(
    folder: Path, stand_in: StandIn, down_s: float, rng: random.Random
) -> dict[str, Any]:
    key = folder / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    provider = {
        "name": "stand-in",
        "base_url": stand_in.url,
        "model": "fixed",
        "prompt_price": 1.0,
        "completion_price": 4.0,
        "key_file": str(key),
        "silence_s": 3.0,
    }
    cloud = {"provider": [provider], "budget": {"per_day": 100.0}, "at_once": 64}
    authority = Authority(os.urandom(32))
    agents: list[PacedAgent] = []
    try:
        for number in range(NODES):
            agents.append(await _agent(folder, authority, number, agents, cloud))
        await _settled(agents)
        before = await _phase(agents, stand_in, rng, 4.0, ())
        down = await _phase(agents, stand_in, rng, down_s, BROKEN)
        stand_in.always = Fault(no_model=True)
        recovered_s = await _recovered_s(agents, stand_in, rng)
    finally:
        for agent in agents:
            await agent.stop()
    slowest = max(down["took_s"], default=0.0)
    return {
        **{key: down["became"][key] for key in ("hung", "answered", "refused", "other")},
        "asked": sum(down["became"].values()),
        "by_cloud": down["by_cloud"],
        "slowest_s": round(slowest, 2),
        "patience_s": PATIENCE_S,
        "down_s": down_s,
        "before": {**before["became"], "by_cloud": before["by_cloud"]},
        "recovered_s": recovered_s,
        "engine": f"paced, {TOKEN_S} s a token, {ANSWER_TOKENS} tokens an answer",
        "nodes": NODES,
    }


async def _recovered_s(
    agents: list[PacedAgent], stand_in: StandIn, rng: random.Random
) -> float | None:
    """How long after it works again the cloud first answers: its circuit is probed now and then."""
    began = time.monotonic()
    while time.monotonic() - began < RECOVERY_S:
        if (await _phase(agents, stand_in, rng, 2.0, ()))["by_cloud"]:
            return round(time.monotonic() - began, 1)
    return None


async def _agent(
    folder: Path,
    authority: Authority,
    number: int,
    others: list[PacedAgent],
    cloud: dict[str, Any],
) -> PacedAgent:
    state = folder / f"node{number}"
    create_identity(
        state,
        authority,
        "bench",
        name=f"node{number}",
        groups=("home",),
        publish=("knowledge.gpt/**", "computation.gpt/**"),
    )
    raw: dict[str, Any] = {
        "node": {"state": str(state), "seeds": [other.node.seed for other in others]},
    }
    if number == 0:
        raw["cloud"] = cloud
    agent = PacedAgent(make_config(raw, base=folder))
    await agent.start()
    await agent.ready.wait()
    pace = Paced(token_s=TOKEN_S, prompt_token_s=0.0, stream_cost=0.0, answer_tokens=ANSWER_TOKENS)
    host = ModelHost("", Settings(slots=SLOTS), paced=pace)
    await agent.add(SlmCapability(host, [ServedName(name=NAME)], queue=QUEUE))
    return agent


async def _settled(agents: list[PacedAgent]) -> None:
    """Until every node sees every offer."""
    deadline = time.monotonic() + 60
    for agent in agents:
        while sum(o.served.name == NAME for o in agent.port.offers()) < NODES or not any(
            o.served.name == CLOUD for o in agent.port.offers()
        ):
            if time.monotonic() > deadline:
                raise RuntimeError("the nodes did not find each other")
            await asyncio.sleep(0.05)


async def _phase(
    agents: list[PacedAgent],
    stand_in: StandIn,
    rng: random.Random,
    length_s: float,
    faults: tuple[Fault, ...],
) -> dict[str, Any]:
    """Questions at random times for so long; what became of each."""
    served_per_s = NODES * SLOTS / (ANSWER_TOKENS * TOKEN_S)
    per_s = served_per_s + OVERLOAD
    became: Counter[str] = Counter()
    took: list[float] = []
    by_cloud = 0
    running_now: list[asyncio.Task[None]] = []

    async def one(agent: PacedAgent) -> None:
        nonlocal by_cloud
        began = time.monotonic()
        options = AskOptions(reach=Reach.CLOUD, timeout_s=PATIENCE_S, name=NAME, max_tokens=64)
        try:
            async with asyncio.timeout(PATIENCE_S + GRACE_S):
                found = await agent.orchestrator.answer("How high is the tide?", options)
        except TimeoutError:
            became["hung"] += 1
            return
        took.append(time.monotonic() - began)
        if found.steps and found.steps[0].status == "ok":
            became["answered"] += 1
            by_cloud += found.steps[0].cloud is not None
        elif found.retry_after_s > 0:
            became["refused"] += 1
        else:
            became["other"] += 1
            _report.progress(f"neither answered nor refused: {found.missing}")

    end = time.monotonic() + length_s
    while time.monotonic() < end:
        if faults:
            stand_in.always = rng.choice(faults)
        running_now.append(asyncio.create_task(one(rng.choice(agents))))
        await asyncio.sleep(rng.expovariate(per_s))
    await asyncio.gather(*running_now)
    return {"became": became, "took_s": took, "by_cloud": by_cloud}


PARTS = {"no_cloud": measure}

if __name__ == "__main__":
    _report.run(__doc__ or "", lambda options: {"no_cloud": measure(options)})
