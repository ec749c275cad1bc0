"""What turns texts into vectors on this node: the sentence embedder, or a model that runs here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from capabilities.embedding.backends import Embedder, Static
from capabilities.embedding.capability import EmbeddingCapability
from capabilities.embedding.static import NAME
from capabilities.slm.capability import SlmCapability
from mesh.core.errors import NoSuchName

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_TEXTS = 256  # as many as a worker takes at once
MAX_TEXT_CHARS = 16 * 1024


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of shape (texts, width), each of length one; ``tokens`` is 0 where nobody counted."""

    model: str
    rows: Any  # of numpy, float32
    tokens: int = 0


class Embedders:
    """The embedders of one agent. An empty model, or ``mesh``, takes the sentence embedder: the
    one that the configuration offers, else the shipped one."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._shipped = Static()

    def names(self) -> list[str]:
        """The models that can be asked for, the preferred one first."""
        sentence = self._offered()
        first = sentence.space.model if sentence else NAME
        return [first, *(host.model_names[0] for host in self._hosts())]

    async def embed(self, texts: list[str], model: str, timeout_s: float) -> Embedded:
        """Vectors of the texts; raises NoSuchName, or what the model's worker raises."""
        sentence = self._offered()
        if model in {"", "mesh", sentence.space.model if sentence else NAME}:
            embedder = sentence or await self._load_shipped()
            made = await embedder.embed(texts, timeout_s=timeout_s)
            return Embedded(model=embedder.space.model, rows=made)
        for host in self._hosts():
            if model in host.model_names:
                block = await host.capability.host.embed(texts, timeout_s=timeout_s)
                rows = await asyncio.to_thread(_rows, block.data, block.rows, block.width)
                return Embedded(model=host.model_names[0], rows=rows)
        raise NoSuchName(
            f"nothing on this node embeds texts as {model[:80]!r}",
            hint=f"there are: {', '.join(self.names())}",
        )

    def _offered(self) -> Embedder | None:
        for capability in self._agent.ready_capabilities:
            if isinstance(capability, EmbeddingCapability) and capability.models:
                return capability.embedder
        return None

    async def _load_shipped(self) -> Embedder:
        await self._shipped.start()
        return self._shipped

    def _hosts(self) -> list[_Host]:
        found = []
        for capability in self._agent.ready_capabilities:
            if isinstance(capability, SlmCapability) and capability.models:
                names = [served.model for served in capability.names if served.model]
                names += [model.name for model in capability.models]
                found.append(_Host(tuple(dict.fromkeys(names)), capability))
        return found


class _Host(msgspec.Struct, frozen=True):
    model_names: tuple[str, ...]
    capability: SlmCapability


def _rows(data: bytes, rows: int, width: int) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, dtype="<f4").reshape(rows, width)
