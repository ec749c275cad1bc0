"""Two real agents: documents with labels are answered for whom they are, and only for them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agents.agent import Agent
from agents.config import make_config
from agents.orchestrator.options import AskOptions
from mesh.core.errors import GossamerError
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

QUESTION = "how is the boiler drained?"
PATIENCE_S = 20.0


def agent(root: Path, authority: Authority, name: str, group: str, seeds: list[str]) -> Agent:
    create_identity(
        root / name, authority, "house", name=name, groups=(group,), publish=("knowledge.gpt/**",)
    )
    node = {"state": str(root / name), "seeds": seeds, "discovery": False}
    return Agent(make_config({"node": node, "knowledge": {"access": "mesh"}}, base=root))


async def until_known(asker: Agent, name: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not any(o.served.name == name for o in asker.port.offers()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("group", "told"), [("family", True), ("guests", False)])
def test_a_document_for_a_group_answers_that_group_alone(
    tmp_path: Path, group: str, told: bool
) -> None:
    (tmp_path / "boiler.md").write_text("# Draining\n\nTo drain the boiler, open the tap.\n")

    async def run() -> None:
        authority = Authority(os.urandom(32))
        keeper = agent(tmp_path, authority, "keeper", "family", [])
        asker: Agent | None = None
        try:
            await keeper.start()
            await keeper.ready.wait()
            asker = agent(tmp_path, authority, "asker", group, [keeper.node.seed])
            await asker.start()
            await asker.ready.wait()
            assert keeper.knowledge is not None
            steps = keeper.knowledge.base.add_documents(
                tmp_path / "boiler.md", domain="heating", access="group:family"
            )
            assert [step.new async for step in steps] == [1]
            await keeper.knowledge.changed()
            await until_known(asker, "knowledge.gpt/heating")
            served = next(
                o.served for o in asker.port.offers() if o.served.name == "knowledge.gpt/heating"
            )
            assert "boiler" not in served.description  # titles are for those who may see them
            options = AskOptions(name="knowledge.gpt/heating", timeout_s=PATIENCE_S)
            answer = await asker.orchestrator.answer(QUESTION, options)
            assert ("open the tap" in answer.text and "boiler.md" in answer.text) == told
            assert answer.degraded != told
        finally:
            for one in (asker, keeper):
                if one is not None:
                    await one.stop()

    asyncio.run(run())


def test_an_agent_without_the_section_says_how_to_get_one(tmp_path: Path) -> None:
    from agents.faces.verbs_knowledge import KnowledgeVerbs

    create_identity(
        tmp_path / "n", Authority(os.urandom(32)), "house", name="n", groups=(), publish=()
    )
    bare = Agent(make_config({"node": {"state": str(tmp_path / "n")}}, base=tmp_path))

    async def ask() -> None:
        handlers = KnowledgeVerbs(bare).handlers()
        with pytest.raises(GossamerError, match="keeps no knowledge base") as caught:
            async for _ in handlers["knowledge_list"]({}):
                pass
        assert "[knowledge]" in caught.value.hint

    asyncio.run(ask())
