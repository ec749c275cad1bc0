"""Two real nodes: each ends with the other's signature on the same call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agents.agent import Agent
from agents.orchestrator.orchestrator import AskOptions
from mesh.core.effects import Send
from mesh.core.identity import Purpose, Signed
from mesh.core.wire import Countersigned
from tests.agents.cloud.house import house
from tests.mesh.net.harness import until

pytestmark = pytest.mark.timeout(120)
NAME = "knowledge.gpt/arithmetic"


async def rows(agent: Agent) -> list[tuple[Any, ...]]:
    await agent.ledger.flush()
    return await agent.ledger.use(
        lambda store: store.read(
            "SELECT mine, peer, state, completion_tokens, receipt, signature, counter,"
            " counter_signature FROM receipt"
        )
    )


def test_a_served_call_is_signed_by_both_and_kept_by_both(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            server = await made.agent(
                "server", model=[{"path": "builtin:arithmetic", "context": 512, "threads": 1}]
            )
            asker = await made.agent("asker", server)
            await until(
                lambda: any(offer.served.name == NAME for offer in asker.port.offers()),
                "it is seen",
            )
            answer = await asker.orchestrator.answer("7 + 5", AskOptions(name=NAME, timeout_s=60.0))
            assert not answer.degraded
            await until(lambda: "receipts_agreed" in server.ledger.counters, "it is countersigned")
            [mine], [theirs] = await rows(server), await rows(asker)
            assert (mine[0], theirs[0]) == (1, 0)
            assert mine[1] == asker.node.me.node
            assert theirs[1] == server.node.me.node
            assert mine[2:] == theirs[2:]  # the same words and the same signatures
            assert mine[2] == "agreed"
            assert mine[3] > 0
            trust = asker.node.trust
            assert trust.verify(server.node.me.key, Purpose.RECEIPT, Signed(mine[4], mine[5]))
            assert trust.verify(asker.node.me.key, Purpose.COUNTERSIGN, Signed(mine[6], mine[7]))

            # A word that nobody asked for changes nothing, and the node lives on.
            asker.node.emit([Send(server.node.me.node, Countersigned(Signed(b"\xc1", b"")))])
            await until(lambda: "receipts_malformed" in server.ledger.counters, "it is refused")
            assert await rows(server) == [mine]

    asyncio.run(main())


def test_a_node_is_not_billed_for_what_it_asks_of_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            alone = await made.agent(
                "alone", model=[{"path": "builtin:arithmetic", "context": 512, "threads": 1}]
            )
            await alone.orchestrator.answer("7 + 5", AskOptions(name=NAME, timeout_s=60.0))
            assert await rows(alone) == []

    asyncio.run(main())
