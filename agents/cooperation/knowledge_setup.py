"""The knowledge base of an agent, made of its configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.config import KnowledgeSection
from agents.cooperation.cache import Thresholds
from agents.cooperation.knowledge import MIN_READER_PARAMETERS
from agents.cooperation.knowledge_memory import KnowledgeMemory
from agents.cooperation.knowledge_reader import Reader
from agents.cooperation.knowledge_service import KnowledgeDesk
from agents.port import Offer, Task
from agents.trace import TRACE_BYTES
from capabilities.knowledge.base import KnowledgeBase
from capabilities.knowledge.entry import check_access
from capabilities.knowledge.store import FILE, MB
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.wire import Reach

if TYPE_CHECKING:
    from agents.agent import Agent

RESOLVE_S = 60.0  # of the task that a look at the own offers stands for; nothing waits for it


def make_knowledge(
    agent: Agent, section: KnowledgeSection, state: Path, offer: Callable[[], None]
) -> KnowledgeDesk:
    """What ``[knowledge]`` asks for; raises :class:`~mesh.core.errors.ConfigError`."""
    check_access(section.access)
    if section.context > section.reuse:
        raise ConfigError(
            f"[knowledge] context ({section.context:g}) is above reuse ({section.reuse:g})"
        )
    base = KnowledgeBase(
        state / FILE, max_bytes=int(section.max_mb * MB), wall=lambda: agent.node.now().wall
    )
    reader = Reader(agent.port, lambda: own_readers(agent))
    memory = KnowledgeMemory(
        base,
        agent.port,
        reader,
        thresholds=Thresholds(upper=section.reuse, lower=section.context, quality=section.quality),
        access=section.access,
        keep_s=section.keep_days * 86_400.0,
        ask_peers=section.ask_peers,
    )

    def taken() -> frozenset[str]:
        others = (c for c in agent.ready_capabilities if not isinstance(c, KnowledgeDesk))
        return frozenset(served.name for c in others for served in c.names)

    return KnowledgeDesk(base, memory, reader, agent.node, offer=offer, taken=taken)


def own_readers(agent: Agent) -> Sequence[Offer]:
    """This node's offers of general models that are large enough to read a quotation."""
    large = {
        model.name
        for capability in agent.ready_capabilities
        for model in capability.models
        if model.parameters >= MIN_READER_PARAMETERS
    }
    if not large:
        return ()
    task = Task(
        trace=os.urandom(TRACE_BYTES), deadline=agent.port.now() + RESOLVE_S, reach=Reach.NODE
    )
    try:
        offers = agent.port.resolve(agent.parts.general_name, task)
    except GossamerError:
        return ()
    # A model behind a name is told by its file's name; a node with one model needs no more.
    return [offer for offer in offers if offer.me and (offer.served.model in large or large)]
