"""An agent for A2A's test kit: ``python -m tests.conformance.a2a_server [--hold SECONDS]``.

The kit takes every task to be at work for a while after ``SendMessage`` returned, and sends none of
the wishes (``returnImmediately``) that would make it so. With ``--hold`` each answer begins after
so many seconds and ``SendMessage`` does not wait for it; without, the server is ours as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import uvicorn
from starlette.routing import Route

from agents.faces.a2a import endpoint
from agents.faces.http import a2a
from agents.faces.http.__main__ import listen
from agents.faces.http.app import ROUTES, make_app
from agents.faces.http.settings import Settings
from agents.library import Agent
from tests.e2e.serving import serving


class Slow(Agent):
    """An agent whose answers begin late."""

    hold_s = 0.0

    async def stream(self, question: str, **options: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(self.hold_s)
        async with aclosing(super().stream(question, **options)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event


class Hasty(endpoint.Handler):
    """Returns from ``SendMessage`` while the task is at work."""

    async def on_message_send(self, params: Any, context: Any) -> Any:
        params.configuration.return_immediately = True
        return await super().on_message_send(params, context)


async def serve(state: Path, port: int, hold_s: float) -> None:
    """Serve until Ctrl-C."""
    settings = Settings(state=str(state), port=port)
    door = listen(settings)
    async with Slow(state) as agent:
        agent.hold_s = hold_s
        print(f"http://127.0.0.1:{door.getsockname()[1]}", flush=True)
        # The kit sends some of its requests to where it was pointed, whatever the card says.
        ROUTES.append(Route("/", a2a.rpc, methods=["POST"]))
        app = make_app(settings, agent)
        await uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning")).serve([door])


def main() -> None:
    """Start a real agent and the server in front of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hold", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--port", type=int, default=9999)
    asked = parser.parse_args()
    if asked.hold:
        endpoint.Handler = Hasty  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as served:
        asyncio.run(serve(served.state, asked.port, asked.hold))


if __name__ == "__main__":
    main()
