"""What the asker says of an answer, at the local door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.faces.arguments import trace_of
from agents.faces.control import Handler, unary
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.agent import Agent


class FeedbackVerbs:
    """``feedback``: whether an answer was right; the classifiers and trust learn from it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler."""
        return {"feedback": unary(self._feedback)}

    async def _feedback(self, args: dict[str, Any]) -> dict[str, Any]:
        right = args.get("right")
        if not isinstance(right, bool):
            raise ConfigError("'right' is true or false")
        learning = self._agent.orchestrator.learning
        trace = trace_of(args).hex() or learning.last
        given = learning.told(trace, right=right)
        if not given:
            raise ConfigError(
                "there is no answer to say that of: none was given, its feedback came already, or "
                "it came from memory",
                hint="gossamer knowledge feedback is for answers from memory",
            )
        desk = self._agent.knowledge
        if desk is not None and not right:
            for one in given:
                if one.node != self._agent.node.me.node:
                    desk.memory.doubt(one.node, one.name)
                found = await desk.memory.base.search(one.question, limit=1, kind="answer")
                if found and found[0].entry.question == one.question:
                    await desk.memory.feedback(found[0].entry.id, right=False)
        return {"trace": trace, "right": right, "steps": [[g.name, g.question] for g in given]}
