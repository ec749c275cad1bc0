"""Run one agent in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from agents.agent import Agent
from agents.config import AgentConfig, load_config
from mesh.core.errors import GossamerError


def run(config: Path, *, quiet: bool = False) -> int:
    """Start the agent of a configuration file; returns the exit status.

    Raises :class:`GossamerError` when it cannot start. Ctrl-C and SIGTERM end it cleanly.
    """
    return asyncio.run(serve(load_config(config), quiet=quiet))


async def serve(config: AgentConfig, *, quiet: bool = False) -> int:
    """Run the agent in this event loop until a signal or the ``stop`` verb ends it."""
    logging.basicConfig(
        level=config.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    agent = Agent(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, agent.stop_requested.set)
    await agent.start()
    try:
        if not quiet:
            _say(f"{agent.node.me.name} is in mesh {agent.node.identity.mesh_name}")
            _say(f"seed for others: {agent.node.seed}")
        ready = asyncio.create_task(agent.ready.wait())
        stop = asyncio.create_task(agent.stop_requested.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not quiet:
            for trouble in agent.troubles:
                _say(f"trouble: {trouble}")
            profile = agent.node.core.profile(agent.node.me.node)
            names = [served.name for served in profile.names] if profile else []
            _say(f"offers {', '.join(names) or 'nothing'}; Ctrl-C ends it")
        await stop
        ready.cancel()
    finally:
        await agent.stop()
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


__all__ = ["GossamerError", "run", "serve"]
