"""What turns texts into vectors: a node that offers an embedder, or else a model that runs here."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from agents.port import Offer, Task
from capabilities.embedding.messages import EMBED, KIND, Embed, Vectors
from capabilities.messages import decode, encode
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from mesh.core.errors import CapabilityFailed, NoSuchName, Rejected
from mesh.core.names import parse_address

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_TEXTS = 256  # as many as an embedder takes at once
MAX_TEXT_CHARS = 16 * 1024
ANY = frozenset({"", "mesh", EMBED})  # what asks for whichever embedder there is


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """One vector of length one per text, and who made them."""

    model: str
    node: str
    vectors: list[list[float]]


class Embedders:
    """The embedders that one agent can use. Vectors of one answer are all of one model."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def names(self) -> dict[str, list[str]]:
        """The models that can be asked for, the preferred ones first, and their nodes."""
        found: dict[str, list[str]] = {}
        for offer in self._offers():
            nodes = found.setdefault(offer.served.model or EMBED, [])
            nodes.append(offer.node_name)
        for host in self._hosts():
            found.setdefault(host.names[0], []).append(self._agent.node.me.name)
        return found

    async def embed(self, texts: list[str], model: str, task: Task) -> Embedded:
        """Vectors of the texts; raises NoSuchName, or what the embedder raises."""
        wanted, node = model, ""
        if ".gpt/" in model:
            wanted, node = parse_address(model)
        last: Rejected | None = None
        for offer in self._offers():
            fits = wanted in ANY or wanted == offer.served.model
            if not fits or node not in {"", offer.node_name}:
                continue
            try:
                return await self._call(offer, texts, task)
            except Rejected as error:  # full: another node may have room
                last = error
        if last is not None:
            raise last
        for host in self._hosts():
            if not node and (wanted in ANY or wanted in host.names):
                left_s = task.deadline - self._agent.port.now()
                block = await host.model.embed(texts, timeout_s=left_s)
                made = await asyncio.to_thread(_rows, block.data, block.rows, block.width)
                return Embedded(model=host.names[0], node=self._agent.node.me.name, vectors=made)
        raise NoSuchName(
            f"nothing embeds texts as {model[:80]!r}" if model else "nothing embeds texts",
            hint=f"there are: {', '.join(self.names()) or 'none; set embedder or load a model'}",
        )

    async def _call(self, offer: Offer, texts: list[str], task: Task) -> Embedded:
        rows: list[list[float]] = []
        spaces = set()
        answer = self._agent.port.call(offer, encode(Embed(texts=texts)), task)
        async with aclosing(answer):  # type: ignore[type-var]
            async for body in answer:
                part = decode(body, Vectors)
                spaces.add(part.space.describe())
                rows += await asyncio.to_thread(lambda part=part: part.matrix().tolist())  # type: ignore[misc]
        if len(rows) != len(texts) or len(spaces) != 1:
            raise CapabilityFailed(f"{offer.node_name} did not embed all texts in one space")
        return Embedded(model=offer.served.model or EMBED, node=offer.node_name, vectors=rows)

    def _offers(self) -> list[Offer]:
        """This node's own embedder first: the texts need not travel."""
        offers = [o for o in self._agent.port.offers() if o.served.kind == KIND and o.healthy]
        return sorted(offers, key=lambda offer: (not offer.me, offer.load))

    def _hosts(self) -> list[_Host]:
        found = []
        for capability in self._agent.ready_capabilities:
            model = capability.host if isinstance(capability, SlmCapability) else None
            if isinstance(model, ModelHost) and capability.models:
                names = [served.model for served in capability.names if served.model]
                names += [model.name for model in capability.models]
                found.append(_Host(tuple(dict.fromkeys(names)), model))
        return found


class _Host(msgspec.Struct, frozen=True):
    names: tuple[str, ...]
    model: ModelHost


def _rows(data: bytes, rows: int, width: int) -> list[list[float]]:
    import numpy as np

    made: list[list[float]] = np.frombuffer(data, dtype="<f4").reshape(rows, width).tolist()
    return made
