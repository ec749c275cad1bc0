"""From the configuration to what stands between a broker and the feeds of an agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agents.sensors.bridge import MqttBridge

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.cooperation.data import DataDesk
    from agents.sensors.config import MqttSection


def make_bridge(agent: Agent, section: MqttSection, folder: Path) -> MqttBridge:
    """The bridge of an agent; raises :class:`~mesh.core.errors.ConfigError`."""

    def desk() -> DataDesk:
        assert agent.data is not None
        return agent.data

    return MqttBridge(section, folder, desk, agent.node.me.name)
