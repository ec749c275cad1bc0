"""From the configuration to what stands between sensors and the feeds of an agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agents.sensors.insights import InsightDesk

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.cooperation.data import DataDesk
    from capabilities.base import Capability


def make_sensors(agent: Agent, folder: Path) -> list[Capability]:
    """The bridge and the insights of an agent, where it has them; raises
    :class:`~mesh.core.errors.ConfigError`."""
    made: list[Capability] = []

    def desk() -> DataDesk:
        assert agent.data is not None
        return agent.data

    if (section := agent.config.mqtt) is not None:
        from agents.sensors.bridge import MqttBridge

        agent.bridge = MqttBridge(section, folder, desk, agent.node.me.name)
        if section.home_assistant is not None:
            from agents.sensors.home_assistant import HomeAssistant

            agent.bridge.helpers.append(HomeAssistant(agent, agent.bridge, section.home_assistant))
        made.append(agent.bridge)
    if agent.config.insight:
        agent.insights = InsightDesk(agent, agent.config.insight)
        made.append(agent.insights)
    return made
