"""Early exits for a whole model that was trained without, fitted and calibrated on its own answers.

Sampled answers, which wander, are what the lenses (:mod:`capabilities.segments.lens`) are fitted
on; greedy answers to other questions are what they are calibrated on, with the heads rounded as
they are stored. The file is as training writes it, so ``gossamer model split`` takes it.

Matrices as large as a vocabulary are only ever held a piece at a time: read from the model's file,
multiplied, and kept as they will be stored in a file aside.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from capabilities.segments import answering, questions
from capabilities.segments.answering import FINAL, Answer, Whole
from capabilities.segments.calibration import SURE, Calibration, fewest_answers
from capabilities.segments.choosing import Sampling
from capabilities.segments.files import ExitHead, layers_of, write_exits
from capabilities.segments.lens import Best, Lens, Read, Sums, fitted, head_piece, measured, normed
from capabilities.segments.rows import Floats
from capabilities.slm import header
from capabilities.slm.store import part
from mesh.core.errors import ModelError

if TYPE_CHECKING:
    from types import ModuleType

METHOD = "tuned lens"  # as the file says
ANSWERS = 300  # to fit on: with 48 tokens each, seven rows for each number of a row of 2,048
TOKENS = 48  # of one answer, at most
SEED = 7
TEMPERATURE, TOP_K = 0.8, 40  # of answers that are fitted on
HELD_EVERY = 10  # of these answers one chooses the ridge
PIECE_BYTES = 2**25  # of a matrix that is worked on at once
ROWS = 4096  # that an exit is asked about at once
BLOCK = 32  # numbers of one block of Q8_0
MB = 2**20

Report = Callable[[str, int, int], None]  # what is done, how far, of how many


@dataclass(frozen=True)
class Wish:
    """What is wanted: exits after these layers, from so many answers of so many tokens.

    ``calibrating``: answers to calibrate on; 0 takes as many as the threshold of 0.8 needs behind
    every exit, and no fewer than are fitted on. ``own``: the user's questions, to fit and to
    calibrate on.
    """

    at: tuple[int, ...]
    fitting: int = ANSWERS
    calibrating: int = 0
    tokens: int = TOKENS
    seed: int = SEED
    own: tuple[list[str], list[str]] | None = None

    def asked(self) -> tuple[list[str], list[str]]:
        """The questions to fit on, which may come twice, and those to calibrate on."""
        wanted = self.calibrating or max(self.fitting, *fewest_answers(len(self.at)))
        if self.own is not None:
            fit, calibrate = self.own
        else:
            fit = questions.drawn(questions.FITTING, self.fitting, self.seed)
            calibrate = questions.drawn(questions.CALIBRATING, wanted, self.seed)
        return questions.repeated(fit, self.fitting), calibrate[:wanted]


@dataclass(frozen=True)
class Exit:
    """One exit that was made: how far it is believed, and the share of held-out tokens that it says
    as the whole model does, sure or not."""

    layer: int
    calibration: Calibration
    agrees: float
    ridge: float
    explained: float
    needs: int  # answers, for the threshold of 0.8

    def told(self) -> str:
        """One line for people."""
        line = f"exit after layer {self.layer}: says {self.agrees:.1%} of tokens as the whole does"
        line += f"; {self.calibration.told()}"
        if self.calibration.answers < self.needs:
            line += f"; a threshold of {SURE} needs {self.needs} answers at least"
        elif self.calibration.probability(SURE) >= 1.0:
            line += "; among more answers a few may part"
        return line

    def facts(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return {
            "layer": self.layer,
            "agrees": round(self.agrees, 4),
            "explained": round(self.explained, 4),
            "ridge": self.ridge,
            "answers_needed": self.needs,
            "confidence": self.calibration.facts(),
        }


@dataclass(frozen=True)
class Made:
    """A file of exits; ``left_out`` questions were too long to be answered."""

    path: Path
    exits: tuple[Exit, ...]
    kind: str  # of the heads, as they are stored
    rows: int  # that were fitted on
    answers: int  # that were fitted on
    left_out: int


class Head:
    """The head of a whole model, read from its file a piece at a time; raises ModelError."""

    def __init__(self, path: Path, gguf: ModuleType) -> None:
        self._gguf = gguf
        head = header.read(path)
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        self._output = tensors.get("output.weight", tensors.get("token_embd.weight"))
        norm = tensors.get("output_norm.weight")
        epsilon = head.scalars.get(f"{head.arch}.attention.layer_norm_rms_epsilon")
        width = int(head.scalars.get(f"{head.arch}.embedding_length", 0))
        if self._output is None or norm is None or epsilon is None:
            raise ModelError(
                f"{path.name} lacks what an exit is made of: a last norm, a head or their facts",
                hint="give the whole model as it was converted",
            )
        self.width, self.vocabulary = (int(size) for size in self._output.shape)
        if self.width != width or self.vocabulary != head.vocabulary:
            raise ModelError(
                f"the head of {path.name} is {self.vocabulary} tokens by {self.width} numbers, "
                f"and the model has {head.vocabulary} tokens and rows of {width}",
                hint="the file is damaged, or converted by something too old",
            )
        self.epsilon = float(epsilon)
        self.norm: Floats = self._read(norm, slice(None)).reshape(-1)
        bias = tensors.get("output.bias")
        self.bias: Floats = (
            np.zeros(self.vocabulary, dtype=np.float32)
            if bias is None
            else self._read(bias, slice(None)).reshape(-1)
        )
        fits = self.width % BLOCK == 0
        kinds = gguf.GGMLQuantizationType
        self.kind = kinds.Q8_0 if fits else kinds.F16
        self.step = max(1, PIECE_BYTES // (4 * self.width))
        self.read(0, 1)  # a kind that cannot be read is told before anything is computed

    @property
    def stored_bytes(self) -> int:
        """Of one exit's head."""
        block, size = self._gguf.GGML_QUANT_SIZES[self.kind]
        return int(self.vocabulary * self.width * size // block)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Where each piece begins and ends."""
        for first in range(0, self.vocabulary, self.step):
            yield first, min(self.vocabulary, first + self.step)

    def read(self, first: int, end: int) -> Floats:
        """Rows of the model's head, as numbers."""
        return self._read(self._output, slice(first, end))

    def stored(self, piece: Floats) -> Any:
        """Rows of an exit's head as its file holds them."""
        return self._gguf.quants.quantize(piece, self.kind)

    def unpacked(self, stored: Any) -> Floats:
        """What a file holds, as numbers."""
        found: Floats = self._gguf.quants.dequantize(stored, self.kind)
        return found

    def _read(self, tensor: Any, rows: slice) -> Floats:
        try:
            found: Floats = self._gguf.quants.dequantize(tensor.data[rows], tensor.tensor_type)
        except NotImplementedError:
            raise ModelError(
                f"{tensor.name} is stored as {tensor.tensor_type.name}, which cannot be read here",
                hint="make a q8_0 of the model with gossamer model quantize",
            ) from None
        return found.astype(np.float32)


async def make_exits(
    model: Path,
    wish: Wish,
    output: Path,
    *,
    name: str = "",
    threads: int = 0,
    report: Report = lambda what, done, total: None,
) -> Made:
    """Write the exits of a model into a file, which appears when it is whole; raises ModelError.

    The worker takes what serving the model takes; this side four matrices of width by width for
    each exit, in double precision, and pieces of the head.
    """
    gguf = _gguf()
    layers = layers_of(model)
    if not wish.at or wrong_depths(wish.at, layers):
        raise ModelError(
            f"exits stand after 1 to {layers - 1} of the {layers} layers of {model.name}, "
            f"not after {', '.join(map(str, wrong_depths(wish.at, layers))) or 'none'}",
            hint=f"a third and two thirds of them are a beginning: {_thirds(layers)}",
        )
    head = Head(model, gguf)
    fit, calibrate = wish.asked()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Heads are written aside, and then into the file.
        needed = 2 * len(wish.at) * head.stored_bytes
        if (free := shutil.disk_usage(output.parent).free) < needed:
            raise ModelError(
                f"{needed / MB:.0f} MB are needed in {output.parent}, and {free / MB:.0f} are free",
                hint="make room, or write it elsewhere with --output",
            )
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as aside:
            async with answering.whole(model, threads=threads) as whole:
                work = _Work(head, whole, wish, Path(aside), report)
                lenses, rows, answers = await work.lenses(fit)
                heads = {layer: await work.stored(layer, one) for layer, one in lenses.items()}
                said, read = await work.heard(calibrate, heads)
                left_out = len(whole.left_out)
            if not read:
                raise ModelError(
                    "no question was short enough to be answered",
                    hint=f"prompt and answer have {answering.POSITIONS} positions at most",
                )
            calibrations = measured(said, read)
            ones = np.ones(head.width, dtype=np.float32)
            unfinished = part(output)
            try:
                write_exits(
                    unfinished,
                    name or model.stem,
                    {layer: ExitHead(ones, stored, head.kind) for layer, stored in heads.items()},
                    width=head.width,
                    vocabulary=head.vocabulary,
                    calibrations=calibrations,
                    method=METHOD,
                )
                unfinished.rename(output)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            f"the exits cannot be written to {output}: {error.strerror or error}",
            hint="look at the space and the rights there",
        ) from error
    exits = tuple(
        Exit(
            layer,
            calibrations[layer],
            float(1.0 - said[layer].wrong.mean()),
            lenses[layer].ridge,
            lenses[layer].explained,
            needs,
        )
        for layer, needs in zip(lenses, fewest_answers(len(lenses)), strict=True)
    )
    return Made(output, exits, head.kind.name, rows, answers, left_out)


def wrong_depths(at: Sequence[int], layers: int) -> list[int]:
    """Those after which no layer follows, or none comes before."""
    return [one for one in at if not 0 < one < layers]


def thirds(layers: int) -> tuple[int, ...]:
    """Where exits stand if nobody says: after a third and two thirds of the layers."""
    return tuple(sorted({max(1, round(layers / 3)), min(layers - 1, round(2 * layers / 3))}))


def _thirds(layers: int) -> str:
    return " ".join(f"--at {one}" for one in thirds(layers))


def _gguf() -> ModuleType:
    try:
        import gguf
    except ImportError:
        raise ModelError(
            "making exits needs the gguf library", hint='pip install "gossamer-mesh[models]"'
        ) from None
    found: ModuleType = gguf
    return found


class _Work:
    """The steps. Long arithmetic runs beside the event loop, a piece at a time: the worker's pulse
    is heard meanwhile, and Ctrl-C waits for one piece at most."""

    def __init__(self, head: Head, whole: Whole, wish: Wish, aside: Path, report: Report) -> None:
        self.head, self.whole, self.wish = head, whole, wish
        self.aside, self.report = aside, report
        self.layers = tuple(sorted(set(wish.at)))

    async def lenses(self, asked: Sequence[str]) -> tuple[dict[int, Lens], int, int]:
        """Of each exit, and the rows and answers that they were fitted on."""
        width, prior = self.head.width, self.head.norm.astype(np.float64)
        learnt = {layer: Sums(width) for layer in self.layers}
        held = {layer: Sums(width) for layer in self.layers}
        count = 0
        sampling = Sampling(temperature=TEMPERATURE, top_k=TOP_K, seed=self.wish.seed)
        layers = (*self.layers, FINAL)
        async for answer in self._answers("answers to fit on", asked, layers, sampling):
            sums = held if count % HELD_EVERY == 1 else learnt
            await asyncio.to_thread(self._add, sums, answer)
            count += 1
        found = {}
        for done, layer in enumerate(self.layers):
            self.report("fitting", done, len(self.layers))
            found[layer] = await asyncio.to_thread(fitted, learnt[layer], held[layer], prior)
        self.report("fitting", len(self.layers), len(self.layers))
        first = self.layers[0]
        return found, learnt[first].rows + held[first].rows, count

    def _add(self, sums: dict[int, Sums], answer: Answer) -> None:
        for layer, one in sums.items():
            one.add(normed(answer.rows[layer], self.head.epsilon), answer.rows[FINAL])

    async def stored(self, layer: int, lens: Lens) -> Any:
        """An exit's head as it will be stored, which lies in a file aside."""
        path = self.aside / f"{layer}.head"
        with path.open("wb") as file:
            for first, end in self.head.pieces():
                await asyncio.to_thread(self._store, file, lens, first, end)
                self.report(f"head after layer {layer}", end, self.head.vocabulary)
        kind = np.uint8 if self.head.kind.name == "Q8_0" else np.float16
        return np.memmap(path, dtype=kind, mode="r").reshape(self.head.vocabulary, -1)

    def _store(self, file: BinaryIO, lens: Lens, first: int, end: int) -> None:
        piece = head_piece(self.head.read(first, end), lens)
        file.write(self.head.stored(piece).tobytes())

    async def heard(
        self, asked: Sequence[str], heads: Mapping[int, Any]
    ) -> tuple[dict[int, Read], int]:
        """What the exits say along the whole model's greedy answers, and how many these are."""
        ears = {layer: _Ear(self.head, stored) for layer, stored in heads.items()}
        count = 0
        async for answer in self._answers("answers to calibrate on", asked, self.layers, None):
            for layer, ear in ears.items():
                ear.add(count, answer, answer.rows[layer])
            count += 1
            if next(iter(ears.values())).rows >= ROWS:
                for ear in ears.values():
                    await ear.listen()
        for ear in ears.values():
            await ear.listen()
        return {layer: ear.read() for layer, ear in ears.items()}, count

    async def _answers(
        self, what: str, asked: Sequence[str], layers: Sequence[int], sampling: Sampling | None
    ) -> AsyncIterator[Answer]:
        self.report(what, 0, len(asked))
        stream = self.whole.answers(asked, most=self.wish.tokens, layers=layers, sampling=sampling)
        async for answer in stream:
            yield answer
            self.report(what, answer.number + 1, len(asked))
        self.report(what, len(asked), len(asked))


class _Ear:
    """Collects rows of one exit, and hears what it says of them when there are many."""

    def __init__(self, head: Head, stored: Any) -> None:
        self._head, self._stored = head, stored
        self._waiting: list[tuple[Floats, Any, Any]] = []
        self._heard: list[tuple[Any, Any, Any]] = []

    @property
    def rows(self) -> int:
        """That wait."""
        return sum(len(rows) for rows, _, _ in self._waiting)

    def add(self, number: int, answer: Answer, rows: Floats) -> None:
        """The rows of an answer; its own tokens are what the exit should say."""
        numbers = np.full(len(rows), number)
        self._waiting.append((normed(rows, self._head.epsilon), np.array(answer.tokens), numbers))

    async def listen(self) -> None:
        """Hear what waits."""
        if not self._waiting:
            return
        rows, tokens, numbers = (
            np.concatenate(parts) for parts in zip(*self._waiting, strict=True)
        )
        self._waiting.clear()
        best = Best(len(rows))
        for first, end in self._head.pieces():
            await asyncio.to_thread(self._say, best, rows, first, end)
        self._heard.append((best.odds, best.token != tokens, numbers))

    def _say(self, best: Best, rows: Floats, first: int, end: int) -> None:
        piece = self._head.unpacked(self._stored[first:end])
        best.add(first, rows @ piece.T + self._head.bias[first:end])

    def read(self) -> Read:
        """All that was heard."""
        nothing = (np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64))
        return Read(
            *(np.concatenate(parts) for parts in zip(*(self._heard or [nothing]), strict=True))
        )
