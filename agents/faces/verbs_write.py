"""Long answers by outline, at the local door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.arguments import number_of, text_of
from agents.faces.client import Result
from agents.faces.control import Handler
from agents.orchestrator.options import AskOptions
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.agent import Agent


class WriteVerbs:
    """``write``: an instruction, and what of it is private."""

    def __init__(self, agent: Agent, options: Callable[[dict[str, Any]], AskOptions]) -> None:
        self._agent = agent
        self._options = options

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler."""
        return {"write": self._write}

    async def _write(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        from agents.cooperation.skeletons import SkeletonOptions, Written
        from agents.cooperation.skeletons_protocol import MOST_LENGTH

        instruction, private = text_of(args, "instruction"), args.get("private", "")
        if not isinstance(private, str):
            raise ConfigError("'private' is a text")
        options = self._options(args)
        choices = SkeletonOptions(
            private=private,
            strong=str(args.get("strong") or ""),
            length=int(number_of(args, "length", 0, low=0, high=MOST_LENGTH)),
        )
        observer = self._agent.observer
        with observer.request("write", instruction, options.trace.hex()) as watch:
            events = self._agent.skeletons.write(instruction, options, choices)
            async with aclosing(events):
                async for event in events:
                    plain = msgspec.to_builtins(event)
                    if isinstance(event, Written):
                        watch.answered(plain["answer"])
                        plain.pop("type")
                        yield Result(plain)
                    else:
                        watch.event(plain)
                        yield plain
