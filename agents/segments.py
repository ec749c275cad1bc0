"""Models on two machines in a mesh: which segments this node holds, and the way to the rest.

A segment that begins at the first layer is an edge: it answers under names like any model, and
asks ``computation.gpt/segment/<model>/<from>-<to>`` of whoever offers it. Any other segment that
ends in a head is offered under that name.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from agents.configure import build_noise
from agents.port import MeshPort, Offer, Task
from capabilities.segments import messages
from capabilities.segments.calibration import RAW
from capabilities.segments.capability import SegmentCapability
from capabilities.segments.files import Range, Segment, describe
from capabilities.segments.host import SplitHost, SplitOptions
from capabilities.slm.capability import SlmCapability, Speaker
from capabilities.slm.host import Care, ModelHost
from mesh.core.errors import (
    ConfigError,
    GossamerError,
    NobodyHealthy,
    PeerLost,
)
from mesh.core.wire import Op

if TYPE_CHECKING:
    import numpy as np

    from agents.config import ModelSection, StatesSection
    from capabilities.segments.rows import Floats
    from capabilities.slm.protocol import Settings
    from mesh.core.records import ServedName

MOST_STREAMS = 256  # answers under way whose node is remembered
STREAM_SHARE = 6.0  # how much longer than for its first message an answer may take in all


class OfStream(Protocol):
    """A question that belongs to a stream."""

    @property
    def stream(self) -> str:
        """Its name."""

    @property
    def __struct_config__(self) -> Any: ...


Q = TypeVar("Q", bound=OfStream)
A = TypeVar("A")


def segment_capability(
    segment: Segment,
    section: ModelSection,
    settings: Settings,
    care: Care,
    states: StatesSection,
    named: list[ServedName],
) -> SegmentCapability | SlmCapability:
    """What a ``[[model]]`` whose file is a segment offers; raises ConfigError."""
    # Streams of several askers are open beside each other; each needs a seat of its own.
    seats = msgspec.structs.replace(settings, sequences=max(4, settings.slots * 2))
    if segment.range.first > 1:
        if named:
            raise ConfigError(
                f"{segment.path.name} does not begin at the first layer and answers no names",
                hint="leave [[model.name]] out: it is offered as " + segment.name,
            )
        return SegmentCapability(ModelHost(segment.path, seats, care=care), segment)
    if not named:
        raise ConfigError(
            f"{segment.path.name} has no name to answer under",
            hint='add [[model.name]] with name = "computation.gpt/generate", say',
        )
    if not segment.exit:
        raise ConfigError(
            f"{segment.path.name} has no exit head and cannot speak alone",
            hint="cut the model with --exit, after a layer that has one",
        )
    split = section.split
    second, second_calibration = None, RAW
    if split.second:
        other = describe(Path(split.second))
        if other is None or other.model_sha256 != segment.model_sha256 or not other.exit:
            raise ConfigError(
                f"{split.second} is no segment of {segment.model} with an exit",
                hint="cut both from one file, with exits",
            )
        if other.range.first != segment.range.last + 1:
            raise ConfigError(
                f"{split.second} holds layers {other.range}, and {segment.path.name} ends "
                f"at {segment.range.last}"
            )
        second = ModelHost(other.path, seats, care=care)
        second_calibration = other.calibration
    first = ModelHost(segment.path, msgspec.structs.replace(seats, capture=True), care=care)
    options = SplitOptions(
        theta=split.theta,
        infer_s=split.infer_s,
        alone=split.alone,
        budget_s=split.budget_s,
    )
    host = SplitHost(
        first,
        second,
        segment,
        options,
        change=_change(states),
        second_calibration=second_calibration,
    )
    return SlmCapability(
        host,
        named,
        system_prompts={name.name: name.system for name in section.name if name.system},
        queue=section.queue,
    )


def show_far(host: Speaker, mesh: MeshPort) -> None:
    """Show an edge the way to its other half."""
    if isinstance(host, SplitHost):
        host.far = MeshFar(mesh, host.segment)


def _change(states: StatesSection) -> Callable[[Floats], Floats] | None:
    """The noise that ``[states]`` asks for on rows before they leave, or nothing."""
    noise = build_noise(states)
    if noise.kind == "none":
        return None
    rng: list[np.random.Generator] = []

    def change(rows: Floats) -> Floats:
        import numpy as np

        if not rng:
            rng.append(np.random.default_rng(int.from_bytes(os.urandom(16), "big")))
        return noise.apply(rows, rng[0])

    return change


class Sticky(Generic[Q, A]):
    """Calls that belong to a stream stay at the node that began it: what they build on is there.

    When that node fails, the next question goes to another one, which says what it misses.
    """

    def __init__(
        self, mesh: MeshPort, encode: Callable[[Q], bytes], decode: Callable[[bytes], A]
    ) -> None:
        self._mesh = mesh
        self._encode, self._decode = encode, decode
        self._chosen: dict[str, Offer] = {}
        self._lost: set[bytes] = set()

    def fits(self, offer: Offer) -> bool:
        """Whether an offer is of what is asked for."""
        raise NotImplementedError

    def nobody(self) -> GossamerError:
        """What is raised when no healthy node offers it."""
        raise NotImplementedError

    async def ask(self, question: Q, timeout_s: float) -> A:
        """One question, one answer; raises as :meth:`agents.port.MeshPort.call`."""
        async with aclosing(self.stream(question, timeout_s)) as answers:
            async for answer in answers:
                return answer
        raise PeerLost("the node ended its answer before it began")

    async def stream(self, question: Q, timeout_s: float) -> AsyncGenerator[A, None]:
        """The answers to one question, as they come."""
        # What streams may take longer than its first answer; who waits has a clock of its own.
        task = Task(trace=os.urandom(16), deadline=self._mesh.now() + timeout_s * STREAM_SHARE)
        name = question.stream
        offer = self._chosen.get(name) or self._choose()
        self._chosen[name] = offer
        if len(self._chosen) > MOST_STREAMS:
            # An answer whose node fell silent before it was opened is never closed.
            self._chosen.pop(next(iter(self._chosen)))
        try:
            answer = self._mesh.call(offer, self._encode(question), task, Op.QUERY)
            async with aclosing(answer):  # type: ignore[type-var]
                async for body in answer:
                    self._lost.discard(offer.node)
                    yield self._decode(body)
        except GossamerError:
            self._lost.add(offer.node)
            self._chosen.pop(name, None)
            raise
        finally:
            if question.__struct_config__.tag == "close":
                self._chosen.pop(name, None)

    def _choose(self) -> Offer:
        """The least loaded healthy node that fits; one that failed comes last."""
        found = [offer for offer in self._mesh.offers() if offer.healthy and self.fits(offer)]
        if not found:
            raise self.nobody()
        return min(found, key=lambda offer: (offer.node in self._lost, offer.load, offer.node))


class MeshFar(Sticky[messages.Question, messages.Answer]):
    """Implements :class:`capabilities.segments.edge.Far` over a mesh."""

    def __init__(self, mesh: MeshPort, segment: Segment) -> None:
        super().__init__(mesh, messages.encode, messages.decode_answer)
        self._segment = segment

    def fits(self, offer: Offer) -> bool:
        """The layers after ours, up to the last, of the same model."""
        mine = self._segment
        prefix, _, piece = offer.served.name.rpartition("/")
        if prefix != mine.name.rpartition("/")[0]:
            return False
        layers = Range.parse(piece)
        return layers.first == mine.range.last + 1 and layers.last == mine.layers

    def nobody(self) -> GossamerError:
        """Says which file would help."""
        mine = self._segment
        wanted = f"{mine.range.last + 1}-{mine.layers}"
        return NobodyHealthy(
            f"no healthy node offers layers {wanted} of {mine.model}",
            hint=f"serve {mine.model}.{wanted}.gguf on one",
        )
