"""Real nodes with a cloud: one process, real sockets, the stand-in for a provider."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents.agent import Agent
from agents.config import make_config
from benchmarks._stand_in import KEY, StandIn
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity


def provider(stand_in: StandIn, folder: Path, **more: object) -> dict[str, Any]:
    """A [[cloud.provider]] whose key lies in a file of mode 600."""
    file = folder / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    return {
        "name": "acme",
        "base_url": stand_in.url,
        "model": "large",
        "prompt_price": 2.0,
        "completion_price": 8.0,
        "key_file": str(file),
        "max_tokens": 64,
        **more,
    }


class House:
    """Makes agents of one mesh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(os.urandom(32))
        self.agents: list[Agent] = []

    async def agent(
        self,
        name: str,
        *seeds: Agent,
        groups: tuple[str, ...] = ("home",),
        publish: tuple[str, ...] = ("knowledge.gpt/**", "computation.gpt/**"),
        **config: Any,
    ) -> Agent:
        """An agent that has started, with all its capabilities ready."""
        path = self.folder / name
        if not (path / "identity.json").exists():
            create_identity(path, self.authority, "test", name=name, groups=groups, publish=publish)
        node = {"state": str(path), "seeds": [agent.node.seed for agent in seeds]}
        raw = {"node": node, "cloud": {}, **config}
        agent = Agent(make_config(raw, base=self.folder))
        await agent.start()
        self.agents.append(agent)
        await agent.ready.wait()
        return agent

    async def stop(self, agent: Agent) -> None:
        self.agents.remove(agent)
        await agent.stop()


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """A mesh that is stopped, whatever happens."""
    made = House(folder)
    try:
        yield made
    finally:
        for agent in list(made.agents):
            await made.stop(agent)
