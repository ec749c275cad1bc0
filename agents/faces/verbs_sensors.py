"""Verbs of the local door about sensors: ``sensors`` tells of the bridge and the insights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.control import Handler, unary
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.agent import Agent


class SensorVerbs:
    """The verbs of one agent about its sensors."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {"sensors": unary(self._sensors)}

    async def _sensors(self, args: dict[str, Any]) -> dict[str, Any]:
        agent = self._agent
        if agent.bridge is None and agent.insights is None:
            raise ConfigError(
                "this agent has no sensors",
                hint="add [mqtt] or [[insight]] to its configuration; see docs/sensors.md",
            )
        insights = agent.insights
        return {
            "bridge": None if agent.bridge is None else agent.bridge.view(),
            "insights": []
            if insights is None
            else [
                {"name": name, "key": key, **msgspec.to_builtins(insight)}
                for (name, key), insight in sorted(insights.last.items())
            ],
            "counters": {} if insights is None else dict(insights.counters),
        }
