"""Cut a GGUF into layer segments, each a model file of its own that llama.cpp loads.

Tensors are copied as they are stored, so nothing is quantized twice: a chain of segments computes
what the whole model computes, bit for bit (``capabilities.segments.check``). A segment that ends
at an early exit carries that exit's norm and head as its own; one that ends at the last layer
carries the model's. Any other ends in rows only, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capabilities.segments import calibration
from capabilities.segments.calibration import RAW, Calibration
from capabilities.slm import header
from capabilities.slm.store import part
from mesh.core.errors import ModelError
from mesh.core.names import as_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    import gguf

# What a segment's file says of itself.
WHOLE_SHA256 = "gossamer.segment.model_sha256"
WHOLE_NAME = "gossamer.segment.model"
FIRST, LAST = "gossamer.segment.first", "gossamer.segment.last"
LAYERS = "gossamer.segment.layers"  # of the whole
EXIT = "gossamer.segment.exit"  # whether its logits mean anything
CONFIDENCE = "gossamer.segment.confidence"  # how far they may be believed, if it was fitted
EXITS = "gossamer.exits"  # in a file of exits: the layers after which they stand
METHOD = "gossamer.exits.method"  # how they were made, if they were not trained

# Architectures whose layers are all alike, whatever their number, and whose rows enter the first
# of them unscaled. Others differ by layer (windows, positions, experts) or scale what they embed.
ARCHITECTURES = frozenset({"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "internlm2"})
# One number per layer, in some files: cut with the layers. Any other such array is refused.
PER_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
_HEAD = ("output_norm.weight", "output.weight")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Range:
    """Layers ``first`` to ``last`` of a model, counted from one, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> Range:
        """From ``3-8``; raises ModelError."""
        found = re.fullmatch(r"(\d+)-(\d+)", text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ModelError(f"{text[:40]!r} is no range of layers", hint="write it as 3-8")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment's file says: which layers of which model, and whether it ends in a head."""

    path: Path
    range: Range
    layers: int  # of the whole
    model: str  # the whole's name
    model_sha256: str
    exit: bool
    calibration: Calibration = RAW

    @property
    def name(self) -> str:
        """What it is offered as in the mesh."""
        return f"computation.gpt/segment/{as_segment(self.model)}/{self.range}"


def describe(path: Path, head: header.Header | None = None) -> Segment | None:
    """The segment in a file, or nothing when the file is a whole model."""
    scalars = (head or header.read(path)).scalars
    if FIRST not in scalars:
        return None
    return Segment(
        path=path,
        range=Range(int(scalars[FIRST]), int(scalars[LAST])),
        layers=int(scalars[LAYERS]),
        model=str(scalars[WHOLE_NAME]),
        model_sha256=str(scalars[WHOLE_SHA256]),
        exit=bool(scalars[EXIT]),
        calibration=calibration.read(scalars, CONFIDENCE),
    )


def ranges_at(cuts: Iterable[int], layers: int) -> list[Range]:
    """The segments between cuts, each after so many layers; raises ModelError.

    >>> [str(one) for one in ranges_at([2, 4], 8)]
    ['1-2', '3-4', '5-8']
    """
    after = sorted(set(cuts))
    if not after or after[0] < 1 or after[-1] >= layers:
        raise ModelError(
            f"a model of {layers} layers is cut after 1 to {layers - 1} of them",
            hint="give at least one cut in that range, such as --at 2",
        )
    return [Range(a + 1, b) for a, b in zip([0, *after], [*after, layers], strict=True)]


def layers_of(path: Path) -> int:
    """How many layers a model has; raises ModelError when it cannot be cut, and says why."""
    head = header.read(path)
    scalars, arch = head.scalars, head.arch
    hint = "a whole model can be cut whose layers are all alike: " + ", ".join(
        sorted(ARCHITECTURES)
    )
    if FIRST in scalars:
        raise ModelError(f"{path.name} is a segment already", hint="cut the whole model")
    if arch not in ARCHITECTURES:
        raise ModelError(f"segments of the architecture {arch or '?'} are not supported", hint=hint)
    if int(scalars.get("split.count", 1)) > 1:
        raise ModelError(
            f"{path.name} is one of several files of a model",
            hint="join them with llama.cpp's llama-gguf-split --merge",
        )
    if int(scalars.get(f"{arch}.attention.sliding_window", 0)):
        raise ModelError(f"{path.name} has a sliding window, which differs by layer", hint=hint)
    layers = int(scalars.get(f"{arch}.block_count", 0))
    if layers < 2:
        raise ModelError(f"{path.name} has {layers} layers; there is nothing to cut")
    return layers


def file_name(model: str, piece: Range) -> str:
    """How the file of a segment is called."""
    return f"{model}.{piece}.gguf"


def split(
    whole: Path,
    pieces: Sequence[Range],
    into: Path,
    *,
    exits: Path | None = None,
    name: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> list[Segment]:
    """Write the segments into a folder, each under its own name and only when it is whole.

    ``exits``: a file of exit heads (``exit.K.norm.weight``, ``exit.K.output.weight``) for the
    segments that end after layer K. Raises ModelError.
    """
    layers = layers_of(whole)
    try:
        import gguf
    except ImportError:
        raise ModelError(
            "cutting a model needs the gguf library", hint='pip install "gossamer-mesh[models]"'
        ) from None
    if wrong := [piece for piece in pieces if piece.last > layers]:
        raise ModelError(f"layers {wrong[0]} of a model of {layers}")
    sha, name = header.file_sha256(whole), name or whole.stem
    made = []
    try:
        into.mkdir(parents=True, exist_ok=True)
        source = gguf.GGUFReader(whole)
        heads = _heads(gguf, exits, source)
        stated = header.read(exits).scalars if exits is not None else {}
        for piece in pieces:
            path = into / file_name(name, piece)
            unfinished = part(path)
            writer = gguf.GGUFWriter(unfinished, header.read(whole).arch)
            try:
                ends = piece.last == layers or piece.last in heads
                _keys(gguf, writer, source, piece, layers)
                writer.add_string(WHOLE_NAME, name)
                writer.add_string(WHOLE_SHA256, sha)
                writer.add_uint32(FIRST, piece.first)
                writer.add_uint32(LAST, piece.last)
                writer.add_uint32(LAYERS, layers)
                writer.add_bool(EXIT, ends)
                believed = RAW
                if piece.last < layers:
                    believed = calibration.read(stated, calibration.of_exit(piece.last))
                write_calibration(writer, CONFIDENCE, believed)
                _tensors(writer, source, piece, layers, heads)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
                writer.close()
                unfinished.rename(path)
            finally:
                unfinished.unlink(missing_ok=True)
            made.append(Segment(path, piece, layers, name, sha, ends, believed))
            report(f"layers {piece}: {path.name}, {path.stat().st_size / 2**20:.1f} MB")
    except OSError as error:
        raise ModelError(
            f"the segments cannot be written to {into}: {error.strerror or error}",
            hint="look at the space and the rights there",
        ) from error
    return made


def write_calibration(writer: gguf.GGUFWriter, prefix: str, one: Calibration) -> None:
    """Say under ``prefix`` how far an exit may be believed; nothing where it was not fitted."""
    if not one.fitted:
        return
    for key in calibration.FIELDS:
        value = getattr(one, key)
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float64
        add(f"{prefix}.{key}", value)


@dataclass(frozen=True, slots=True)
class ExitHead:
    """Norm `[width]` and head `[vocabulary, width]` of one exit, the head as ``kind`` stores it."""

    norm: Any
    output: Any
    kind: Any  # gguf.GGMLQuantizationType


def write_exits(
    path: Path,
    name: str,
    heads: Mapping[int, ExitHead],
    *,
    width: int,
    vocabulary: int,
    calibrations: Mapping[int, Calibration] | None = None,
    method: str = "",
) -> None:
    """Write exits of a model, by the layer after which they stand, for :func:`split`.

    ``exit.k.norm.weight`` and ``exit.k.output.weight`` of each k are the head of the first k
    layers; ``calibrations`` say how far each may be believed, and on what that was measured.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "gossamer-exits")
    writer.add_name(f"{name}-exits")
    writer.add_array(EXITS, list(heads))
    if method:
        writer.add_string(METHOD, method)
    writer.add_embedding_length(width)
    writer.add_vocab_size(vocabulary)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for layer, one in (calibrations or {}).items():
        write_calibration(writer, calibration.of_exit(layer), one)
    for layer, head in heads.items():
        writer.add_tensor(f"exit.{layer}.norm.weight", head.norm)
        writer.add_tensor(f"exit.{layer}.output.weight", head.output, raw_dtype=head.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


Heads = dict[int, dict[str, Any]]


def _heads(gguf: Any, path: Path | None, source: gguf.GGUFReader) -> Heads:
    """The exit heads of a file, by the layer after which they stand."""
    found: Heads = {}
    if path is None:
        return found
    header.read(path)
    embedding = next(t for t in source.tensors if t.name == "token_embd.weight")
    for tensor in gguf.GGUFReader(path).tensors:
        match = re.fullmatch(r"exit\.(\d+)\.(norm|output)\.weight", tensor.name)
        if match:
            if int(tensor.shape[0]) != int(embedding.shape[0]):
                raise ModelError(f"the exits in {path.name} are of a model of another width")
            found.setdefault(int(match[1]), {})[match[2]] = tensor
    if broken := [layer for layer, parts in found.items() if len(parts) < 2] or not found:
        raise ModelError(
            f"{path.name} holds no exit with both norm and head"
            + (f" (after layer {broken[0]})" if isinstance(broken, list) else ""),
            hint="give the NAME.exits.gguf that belongs to the model",
        )
    return found


def _keys(
    gguf: Any, writer: gguf.GGUFWriter, source: gguf.GGUFReader, piece: Range, layers: int
) -> None:
    arch = source.fields["general.architecture"].contents()
    for key, entry in source.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", f"{arch}.block_count"):
            continue
        kind, value = entry.types[0], entry.contents()
        if key == "general.alignment":
            writer.add_custom_alignment(value)  # where tensors begin, not only what is said of it
            continue
        inner = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        if inner is not None and key.startswith(f"{arch}.") and len(value) == layers:
            if key.removeprefix(f"{arch}.") not in PER_LAYER:
                raise ModelError(f"{key} differs by layer in a way that is not known here")
            value = value[piece.first - 1 : piece.last]
        writer.add_key_value(key, value, kind, sub_type=inner)
    writer.add_block_count(piece.last - piece.first + 1)


def _tensors(
    writer: gguf.GGUFWriter, source: gguf.GGUFReader, piece: Range, layers: int, heads: Heads
) -> None:
    exit_head = heads.get(piece.last) if piece.last < layers else None
    for tensor in source.tensors:
        name = tensor.name
        if match := _BLOCK.fullmatch(name):
            number = int(match[1])
            if piece.first - 1 <= number < piece.last:
                _copy(writer, f"blk.{number - piece.first + 1}.{match[2]}", tensor)
        elif name not in _HEAD or piece.last == layers:
            _copy(writer, name, tensor)
        elif name == "output_norm.weight" and exit_head is None:
            _copy(writer, name, tensor)  # llama.cpp wants one; nobody asks for these logits
    if exit_head is not None:
        _copy(writer, "output_norm.weight", exit_head["norm"])
        _copy(writer, "output.weight", exit_head["output"])


def _copy(writer: gguf.GGUFWriter, name: str, tensor: Any) -> None:
    writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
