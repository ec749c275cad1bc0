"""What ``gossamer escalation fit`` wrote decides between the mesh and the cloud in a live mesh."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.agent import Agent
from agents.config import AgentConfig
from agents.faces.cli.app import app
from agents.orchestrator.options import AskOptions
from agents.views import AnswerView
from benchmarks._stand_in import StandIn
from capabilities.base import Capability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from mesh.core.records import ServedName
from mesh.core.wire import Reach
from tests.agents.cloud.house import House, house, provider

pytestmark = pytest.mark.timeout(120)
NAME = "knowledge.gpt/tides"
QUESTION = "high low"


def fitted(folder: Path, budget: float) -> Path:
    """A cascade from a log in which the mesh was always wrong, whatever its score."""
    log = folder / "graded.jsonl"
    cloud = {"correct": 1, "cost": 0.002}
    rows = [{"stages": [{"score": n / 60, "correct": 0, "cost": 0}, cloud]} for n in range(60)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = folder / "cascade.json"
    words = ["escalation", "fit", str(log), "--budget", str(budget), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return out


def echo(config: AgentConfig, name: str) -> list[Capability]:
    """A paced engine: it answers with the words of the question."""
    host = ModelHost(
        "paced",
        Settings(slots=1, context_tokens=512),
        paced=Paced(token_s=0.001, prompt_token_s=0.0),
    )
    return [SlmCapability(host, [ServedName(NAME, model="paced")])]


@pytest.mark.parametrize(
    ("budget", "gains", "cloud", "why"),
    [
        (0.01, None, True, "the answer is unsure"),  # the money is there, and it pays
        (0.01, [0.0] * 20, False, "hopeless"),  # the cloud never bettered such an answer
        (0.0, None, False, ""),  # no money: every answer of the mesh is believed
    ],
)
def test_the_fitted_cascade_decides_on_a_live_answer(
    tmp_path: Path,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    budget: float,
    gains: list[float] | None,
    cloud: bool,
    why: str,
) -> None:
    monkeypatch.setattr("agents.agent.make_capabilities", echo)
    cascade = fitted(tmp_path, budget)
    if gains is not None:
        cascade.write_text(json.dumps({**json.loads(cascade.read_text()), "gains": gains}))
    section = {
        "provider": [provider(stand_in, tmp_path)],
        "budget": {"per_day": 1.0},
        "cascade": str(cascade),
    }
    before = len(stand_in.seen)

    async def ask(agent: Agent) -> AnswerView:
        options = AskOptions(name=NAME, reach=Reach.CLOUD, timeout_s=30.0)
        return await agent.orchestrator.answer(QUESTION, options)

    async def body(made: House) -> None:
        found = await ask(await made.agent("holder", cloud=section))
        assert (len(stand_in.seen) > before) is cloud
        assert (found.cost > 0) is cloud
        rungs = [line for line in found.decisions if line["rule"] == "escalation.cloud"]
        told = [str(line["action"]) for line in rungs]
        assert any(why in line for line in told) if why else not told

    async def main() -> None:
        async with house(tmp_path) as made:
            await body(made)

    asyncio.run(main())
