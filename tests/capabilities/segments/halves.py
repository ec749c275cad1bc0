"""A shipped model on two machines' worth of workers, with a way between them that can fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from capabilities.base import Request
from capabilities.segments import messages
from capabilities.segments.capability import SegmentCapability
from capabilities.segments.edge import Edge
from capabilities.segments.files import Segment
from capabilities.segments.streams import Limits
from capabilities.segments.switching import Rules, Switch
from capabilities.slm.embedded import embedded_models
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Settings
from mesh.core.errors import PeerLost

gguf = pytest.importorskip("gguf", reason="segments are written with the gguf library")
# Which half speaks must not hang on how busy the machine is, unless a test is about that.
PATIENT = Rules(budget_s=3600.0)
WHOLE = embedded_models()["arithmetic"].path
SETTINGS = Settings(slots=1, context_tokens=512, threads=1, prefix_tokens=0)


def write_exits(path: Path, *layers: int) -> Path:
    """Exit heads that were never trained: the model's own norm and embedding.

    They are of the right shape, and wrong often enough that every way is taken.
    """
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(WHOLE).tensors}
    writer = gguf.GGUFWriter(path, "llama")
    for layer in layers:
        for name, source in (("norm", "output_norm.weight"), ("output", "token_embd.weight")):
            stored = tensors[source]
            writer.add_tensor(
                f"exit.{layer}.{name}.weight", stored.data, raw_dtype=stored.tensor_type
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Way:
    """Stands for the mesh between the halves: bodies as they travel, and faults on demand."""

    def __init__(self, far: SegmentCapability, asker: str = "edge") -> None:
        self.far, self.asker = far, asker
        self.cut = False
        self.asked: list[messages.Question] = []
        self.lose: Callable[[messages.Question], bool] = lambda question: False

    async def ask(self, question: messages.Question, timeout_s: float) -> messages.Answer:
        if self.cut:
            raise PeerLost("the link is cut")
        self.asked.append(question)
        request = Request(
            name=self.far.names[0].name,
            body=messages.encode(question),
            timeout_s=timeout_s,
            isolation=self.asker,
        )
        assert self.far.admit(request).accepted
        async for body in self.far.serve(request):
            if self.lose(question):
                raise PeerLost("the answer was lost")
            return messages.decode_answer(body)
        raise PeerLost("no answer")


class Halves(msgspec.Struct):
    """Both sides of one model, and the whole of it."""

    edge: Edge
    far: SegmentCapability
    way: Way
    whole: ModelHost
    hosts: list[ModelHost]


@contextlib.asynccontextmanager
async def halves(
    pieces: dict[str, Segment], *, limits: Limits | None = None, rules: Rules | None = None
) -> AsyncIterator[Halves]:
    """Start workers for both sides, and stop them again."""
    rows = msgspec.structs.replace(SETTINGS, capture=True)
    first = ModelHost(pieces["1-2"].path, rows)
    second = ModelHost(pieces["3-3"].path, SETTINGS)
    far = SegmentCapability(ModelHost(pieces["far"].path, SETTINGS), pieces["far"], limits=limits)
    whole = ModelHost(WHOLE, SETTINGS)
    try:
        await asyncio.gather(first.start(), second.start(), far.start(), whole.start())
        way = Way(far)
        edge = Edge(
            first,
            second,
            way,
            layers=2,
            width=first.info.embedding_dim,
            model_sha256=pieces["far"].model_sha256,
            switch=Switch(rules or PATIENT),
        )
        yield Halves(edge, far, way, whole, [first, second])
    finally:
        await asyncio.gather(first.stop(), second.stop(), far.stop(), whole.stop())
