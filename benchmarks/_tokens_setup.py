"""What the figures of token-level cooperation share: two agents, a slow link, engines at a pace.

The embedded models decode faster than any link answers. So times are taken with engines that take
as long as the paper's machines would (20 ms a token for the edge's layers, 37 ms for all layers of
the cloud, in proportion to layers); the numbers they compute are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agents.agent import Agent
from agents.config import make_config
from agents.segments import MeshFar
from benchmarks._link import Link, Shape
from capabilities.base import Capability
from capabilities.messages import Generate, Message
from capabilities.segments.calibration import RAW
from capabilities.segments.capability import SegmentCapability
from capabilities.segments.edge import Edge
from capabilities.segments.files import Range, Segment, layers_of, split
from capabilities.segments.passes import Passes
from capabilities.segments.switching import Rules, Switch
from capabilities.slm import header, protocol, synth
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Block, Forwarded, SequenceState, Settings
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

EDGE_TOKEN_S = 0.020  # of all layers at the edge (the paper: an A100 for both, 7B)
CLOUD_TOKEN_S = 0.037  # of all layers of the whole model
# A further row of one pass, as a share of the first: weights are read once for all of them.
FURTHER_ROW = 0.02
# The paper's link as its byte counts and times imply it, and the width of its rows.
LINK_BITS_PER_S = 30e6
PAPER_WIDTH = 4096
PATIENT = Rules(budget_s=3600.0, failures=1 << 30)  # never leaves by time, cost or failures
EDGE_HOST, FAR_HOST, EDGE_SEEN, FAR_SEEN = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"


@dataclass(frozen=True)
class Case:
    """A question of a model's own held-out test, and whether an answer to it is right, if that is
    known."""

    messages: tuple[Message, ...]
    right: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Model:
    """The whole file, and its segments."""

    whole: Path
    first: Segment
    second: Segment | None
    far: Segment
    trained_exits: bool

    @property
    def layers(self) -> int:
        return self.far.layers


def cut(whole: Path, exits: Path, at: Sequence[int], into: Path) -> tuple[Segment, ...]:
    """The edge's segments and the far one, which begins after the first exit."""
    layers = layers_of(whole)
    pieces = [Range(1, at[0]), *([Range(at[0] + 1, at[1])] if len(at) > 1 else [])]
    return tuple(split(whole, [*pieces, Range(at[0] + 1, layers)], into, exits=exits))


class Pace:
    """Passes that take as long as ``layer_s`` per layer says; one at a time, as on one device."""

    def __init__(self, passes: Passes, layers: int, layer_s: float) -> None:
        self._passes = passes
        self._pass_s = layers * layer_s
        self._device = asyncio.Lock()
        self.spent_s = 0.0
        self.rows = 0

    async def forward(
        self,
        sequence: str,
        position: int,
        given: Sequence[int] | Block,
        *,
        timeout_s: float,
        logprobs: int = 0,
        want_rows: bool = False,
        layer: int = -1,
        dtype: str = "f32",
        all_rows: bool = False,
        fork: str = "",
    ) -> Forwarded:
        """The same pass, and not before its time is over."""
        count = given.rows if isinstance(given, Block) else len(given)
        cost = self._pass_s * (1 + (count - 1) * FURTHER_ROW)
        async with self._device:
            loop = asyncio.get_running_loop()
            began = loop.time()
            found = await self._passes.forward(
                sequence,
                position,
                given,
                timeout_s=timeout_s,
                logprobs=logprobs,
                want_rows=want_rows,
                layer=layer,
                dtype=dtype,
                all_rows=all_rows,
                fork=fork,
            )
            await asyncio.sleep(max(0.0, began + cost - loop.time()))
            self.spent_s += loop.time() - began
            self.rows += count
            return found

    async def drop_sequence(self, sequence: str, *, timeout_s: float) -> None:
        """As it is."""
        await self._passes.drop_sequence(sequence, timeout_s=timeout_s)

    async def save_sequence(self, sequence: str, *, timeout_s: float) -> SequenceState:
        """As it is."""
        return await self._passes.save_sequence(sequence, timeout_s=timeout_s)

    async def restore_sequence(
        self, sequence: str, state: SequenceState, *, timeout_s: float
    ) -> None:
        """As it is."""
        await self._passes.restore_sequence(sequence, state, timeout_s=timeout_s)


@dataclass
class Bench:
    """Both sides, running: the edge is driven directly, the far side through the mesh."""

    model: Model
    edge: Edge
    far: SegmentCapability
    far_passes: Passes
    whole: ModelHost
    agents: tuple[Agent, Agent]
    links: tuple[Link, ...]

    def fresh_switch(self, *, alone: bool = False, rules: Rules | None = None) -> None:
        """Forget what was learnt of the way."""
        self.edge.switch = Switch(rules or PATIENT, allowed=not alone)

    async def render(self, case: Case) -> list[int]:
        """A question as the model's template writes it."""
        return await rendered(self.whole, case)

    async def text(self, tokens: list[int]) -> str:
        """What a reader sees of an answer: the scratchpad is left out."""
        if not tokens:
            return ""
        reply = await self.whole.ask(lambda i: protocol.Spell(id=i, tokens=tokens), 30)
        assert isinstance(reply, protocol.Spelled)
        shown, thinking = b"", False
        for piece, kind in zip(reply.pieces, reply.kinds, strict=True):
            if kind in ("think", "answer"):
                thinking = kind == "think"
            elif kind == "text" and not thinking:
                shown += piece
        return shown.decode("utf-8", "replace").strip()

    async def ends(self) -> set[int]:
        """Tokens that end an answer."""
        return await ends_of(self.whole, self.model.whole)


async def rendered(host: ModelHost, case: Case) -> list[int]:
    """A question as a model's template writes it."""
    request = Generate(messages=list(case.messages))
    reply = await host.ask(lambda i: protocol.Render(id=i, request=request), 30)
    assert isinstance(reply, protocol.Tokens)
    return reply.tokens


async def ends_of(host: ModelHost, path: Path) -> set[int]:
    """Tokens of a model that end an answer."""
    size = header.read(path).vocabulary
    reply = await host.ask(lambda i: protocol.Spell(id=i, tokens=list(range(size))), 30)
    assert isinstance(reply, protocol.Spelled)
    return {token for token, kind in enumerate(reply.kinds) if kind == "end"}


@contextlib.asynccontextmanager
async def running(
    model: Model, *, paced: bool, link: Shape | None, streams: int = 4
) -> AsyncIterator[Bench]:
    """Two agents in one mesh with the link between them; workers are processes of their own."""
    settings = Settings(
        slots=1,
        context_tokens=1024 * max(2, streams // 4),
        threads=1,
        prefix_tokens=0,
        sequences=max(4, streams),
    )
    capture = msgspec.structs.replace(settings, capture=True)
    first = ModelHost(model.first.path, capture)
    second = ModelHost(model.second.path, settings) if model.second else None
    far_host, whole = ModelHost(model.far.path, settings), ModelHost(model.whole, settings)
    edge_layers = model.second.range.last if model.second else model.first.range.last
    edge_s, cloud_s = EDGE_TOKEN_S / edge_layers, CLOUD_TOKEN_S / model.layers

    def pace(host: ModelHost, layers: int, layer_s: float) -> Passes:
        return Pace(host, layers, layer_s) if paced else host

    far_layers = model.far.range.last - model.far.range.first + 1
    far_passes = pace(far_host, far_layers, cloud_s)
    capability = SegmentCapability(far_host, model.far, passes=far_passes)
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack:
            far, edge_agent, links = await mesh_of_two(stack, Path(folder), capability, link)
            await asyncio.gather(*(h.start() for h in (first, second, whole) if h is not None))
            for host in (first, second, whole):
                if host is not None:
                    stack.push_async_callback(host.stop)
            edge = Edge(
                pace(first, model.first.range.last, edge_s),
                pace(second, model.second.range.last - model.first.range.last, edge_s)
                if second is not None and model.second is not None
                else None,
                MeshFar(edge_agent.port, model.first),
                layers=model.first.range.last,
                width=first.info.embedding_dim,
                model_sha256=model.first.model_sha256,
                calibrations=(
                    model.first.calibration,
                    model.second.calibration if model.second else RAW,
                ),
            )
            bench = Bench(model, edge, capability, far_passes, whole, (edge_agent, far), links)
            bench.fresh_switch()
            yield bench


async def mesh_of_two(
    stack: contextlib.AsyncExitStack,
    folder: Path,
    capability: Capability,
    link: Shape | None,
) -> tuple[Agent, Agent, tuple[Link, ...]]:
    """The far agent with the segment, and an edge agent that is allowed to send it rows."""
    authority = Authority(os.urandom(32))
    for name in ("far", "edge"):
        create_identity(
            folder / name,
            authority,
            "bench",
            name=name,
            groups=("x",),
            publish=("computation.gpt/**",),
        )
    ports = {name: [_port() for _ in range(3)] for name in ("far", "edge")}

    def node(name: str, host: str, seen: str) -> dict[str, object]:
        control, bulk, admission = ports[name]
        return {
            "state": str(folder / name),
            "host": host,
            "advertise": seen if link else host,
            "control_port": control,
            "bulk_port": bulk,
            "admission_port": admission,
            "discovery": False,
        }

    links: tuple[Link, ...] = ()
    if link is not None:
        links = (
            Link(FAR_SEEN, FAR_HOST, ports["far"], link),
            Link(EDGE_SEEN, EDGE_HOST, ports["edge"], link),
        )
        for one in links:
            await stack.enter_async_context(one)
    far = Agent(make_config({"node": node("far", FAR_HOST, FAR_SEEN)}, base=folder))
    await far.start()
    stack.push_async_callback(far.stop)
    await far.add(capability)
    seed = far.node.seed
    rules = [{"allow": True, "names": "computation.gpt/segment/**", "ops": ["states", "query"]}]
    raw = {"node": {**node("edge", EDGE_HOST, EDGE_SEEN), "seeds": [seed]}, "access": rules}
    edge = Agent(make_config(raw, base=folder))
    await edge.start()
    stack.push_async_callback(edge.stop)
    name = capability.names[0].name
    async with asyncio.timeout(30):
        while not any(  # noqa: ASYNC110 - the store tells nobody
            o.served.name == name and o.healthy for o in edge.port.offers()
        ):
            await asyncio.sleep(0.02)
    return far, edge, links


def _port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_f32(path: Path) -> Path:
    """A small model in 32 bits with random weights; llama.cpp's own writer makes none."""
    import gguf
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "f16.gguf"
        synth.write(source, "tiny", "f16")
        reader = gguf.GGUFReader(source)
        writer = gguf.GGUFWriter(path, "llama")
        for key, entry in reader.fields.items():
            if key.startswith("GGUF.") or key == "general.architecture":
                continue
            kind = entry.types[0]
            inner = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, entry.contents(), kind, sub_type=inner)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def own_cases(asked: Sequence[str]) -> list[Case]:
    """Questions for a model whose right answers nobody has written down."""
    return [Case((Message("user", question),)) for question in asked]


def cases_of(name: str, count: int, seed: int) -> list[Case]:
    """Held-out questions of an embedded model; none is in what it was trained on."""
    from benchmarks._models_general import is_right
    from capabilities.slm.training.recipes import RECIPES

    rng = random.Random(seed)
    made = []
    while len(made) < count:
        example = RECIPES[name].held_out(rng)
        turns = [Message("system", example.system)] if example.system else []
        for question, answer in example.history:
            turns += [Message("user", question), Message("assistant", answer)]
        turns.append(Message("user", example.question))
        made.append(
            Case(tuple(turns), lambda text, example=example: is_right(example, text))  # type: ignore[misc]
        )
    return made
