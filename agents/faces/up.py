"""Run one agent in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from agents.agent import Agent
from agents.boards.watchdog import Notifier, watched
from agents.config import AgentConfig, load_config
from agents.faces.ending import ENDING
from agents.telemetry.logs import set_up
from mesh.core.errors import GossamerError


def run(config: Path, *, state: Path | None = None, as_json: bool = False) -> int:
    """Start the agent of a configuration file; returns the exit status.

    ``state`` replaces the configuration's state directory. Raises :class:`GossamerError` when
    the agent cannot start. Ctrl-C, SIGTERM and a closed terminal end it cleanly.
    """
    loaded = load_config(config)
    if state is not None:
        node = loaded.node.model_copy(update={"state": state.resolve()})
        loaded = loaded.model_copy(update={"node": node})
    return asyncio.run(serve(loaded, as_json=as_json))


async def serve(config: AgentConfig, *, as_json: bool = False) -> int:
    """Run the agent in this event loop until a signal or the ``stop`` verb ends it.

    What happens is told on standard error, or as one JSON object a line on standard output.
    """
    set_up(config.log_level, config.log_format)
    agent = Agent(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, *ENDING):
        if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
            continue  # under nohup it outlives its terminal; a job in the background heeds Ctrl-C
        loop.add_signal_handler(number, agent.stop_requested.set)
    say = _say_json if as_json else _say
    async with watched(Notifier()) as systemd:
        await agent.start()
        return await _run(agent, say, systemd)


async def _run(agent: Agent, say: Callable[..., None], systemd: Notifier) -> int:
    try:
        node = agent.node
        say("joined", node=node.me.name, mesh=node.identity.mesh_name, seed=node.seed)
        systemd.tell("READY=1", f"STATUS={node.me.name} of mesh {node.identity.mesh_name}")
        page = asyncio.create_task(_tell_page(agent, say))
        ready = asyncio.create_task(agent.ready.wait())
        stop = asyncio.create_task(agent.stop_requested.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            for trouble in agent.troubles:
                say("trouble", what=trouble)
            profile = node.core.profile(node.me.node)
            names = [served.name for served in profile.names] if profile else []
            say("ready", offers=", ".join(names) or "nothing")
            if node.serving.draining:
                say("drained", what=f"{node.serving.draining}; gossamer resume takes work again")
            told = (
                node.serving.draining
                or "; ".join(agent.troubles)
                or f"offers {', '.join(names) or 'nothing'}"
            )
            systemd.tell(f"STATUS={told[:200]}")
        await stop
        ready.cancel()
        page.cancel()
        say("leaving", node=node.me.name)
    finally:
        await agent.stop()
    return 0


async def _tell_page(agent: Agent, say: Callable[..., None]) -> None:
    """Where the web page is and, where others can reach it, by what they know it."""
    http = agent.http
    if http is None:
        return
    await http.listening.wait()
    shown = {"fingerprint": http.fingerprint} if http.fingerprint else {}
    say("http", at=http.url, **shown)


def _say(event: str, **facts: str) -> None:
    told = "  ".join(f"{key}: {value}" for key, value in facts.items())
    print(f"{event:8} {told}", file=sys.stderr, flush=True)


def _say_json(event: str, **facts: str) -> None:
    print(msgspec.json.encode({"event": event, **facts}).decode(), flush=True)


def main(arguments: list[str]) -> int:
    """``python -m agents.faces.up FILE``: an agent without the weight of the command line."""
    try:
        return run(Path(arguments[0]))
    except IndexError:
        print("usage: python -m agents.faces.up FILE", file=sys.stderr)
        return 2
    except GossamerError as error:
        print(error.sentence(), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
