"""A GGUF with the shape of a real model and random weights: for timing, never for answers.

Each row of a tensor has the blocks that the quantization would have, so a step reads and
computes exactly what the real model's does. The file says of itself that it is synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capabilities.slm.store import SYNTHETIC, part
from mesh.core.errors import ModelError

Blocks = npt.NDArray[np.uint8]
SPREAD = 0.02  # of the weights, as models are initialised: sums stay finite over all layers
QUANTS = ("q8_0", "q4_k", "f16")
_BLOCK = 32
_SUPER = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of an architecture."""

    arch: str
    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    context: int = 32_768
    rope_base: float = 10_000.0
    biases: bool = False


# Sources: the config.json of each model's repository.
SHAPES = {
    "qwen2.5-0.5b": Shape("qwen2", 151_936, 896, 4864, 24, 14, 2, rope_base=1e6, biases=True),
    "qwen2.5-1.5b": Shape("qwen2", 151_936, 1536, 8960, 28, 12, 2, rope_base=1e6, biases=True),
    "llama-3.2-1b": Shape("llama", 128_256, 2048, 8192, 16, 32, 8, 131_072, 500_000.0),
    "smollm2-135m": Shape("llama", 49_152, 576, 1536, 30, 9, 3, 8192, 100_000.0),
    "tiny": Shape("llama", 512, 64, 128, 2, 4, 2, 512),
}
END = "<|im_end|>"
START = "<|im_start|>"
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(path: Path, like: str, quant: str, *, seed: int = 0) -> None:
    """Write the file; raises ModelError for an unknown shape or quantization."""
    if like not in SHAPES or quant not in QUANTS:
        raise ModelError(
            f"no synthetic model like {like} in {quant} can be made",
            hint=f"shapes: {', '.join(SHAPES)}; quantizations: {', '.join(QUANTS)}",
        )
    try:
        import gguf
    except ImportError:
        raise ModelError(
            "writing a model needs the gguf library", hint='pip install "gossamer-mesh[models]"'
        ) from None
    shape, rng = SHAPES[like], np.random.default_rng(seed)
    unfinished = part(path)
    writer = gguf.GGUFWriter(str(unfinished), shape.arch)
    try:
        _describe(writer, gguf, shape, like, quant)
        _tensors(writer, gguf, shape, quant, rng)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _describe(writer: Any, gguf: Any, shape: Shape, like: str, quant: str) -> None:
    writer.add_name(f"synthetic {like}")
    writer.add_description("Random weights in the shape of a real model: for timing only.")
    writer.add_bool(SYNTHETIC, True)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    kinds = {"q8_0": "MOSTLY_Q8_0", "q4_k": "MOSTLY_Q4_K_M", "f16": "MOSTLY_F16"}
    writer.add_file_type(int(gguf.LlamaFileType[kinds[quant]]))
    words = [*_byte_symbols(), "th"]
    words += [f"Ġw{n}" for n in range(shape.vocabulary - len(words) - 2)] + [START, END]
    types = [gguf.TokenType.NORMAL] * (len(words) - 2) + [gguf.TokenType.CONTROL] * 2
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if shape.arch == "qwen2" else "llama-bpe")
    writer.add_token_list(words)
    writer.add_token_types(types)
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(len(words) - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _byte_symbols() -> list[str]:
    """The printable symbol of each byte in a byte-level BPE vocabulary, as GPT-2 defined it."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    extra = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(extra)) for b in range(256)]


def _tensors(writer: Any, gguf: Any, shape: Shape, quant: str, rng: np.random.Generator) -> None:
    kv = shape.width // shape.heads * shape.kv_heads

    def matrix(name: str, rows: int, columns: int) -> None:
        kind = _kind(quant, name, columns)
        if kind == "f16":
            values = rng.normal(0, SPREAD, (rows, columns)).astype(np.float16)
            writer.add_tensor(name, values)
            return
        blocks = _MAKE[kind](rows, columns, rng)
        writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType[kind.upper()])

    def vector(name: str, size: int, value: float) -> None:
        writer.add_tensor(name, np.full(size, value, dtype=np.float32))

    matrix("token_embd.weight", shape.vocabulary, shape.width)
    vector("output_norm.weight", shape.width, 1.0)
    for i in range(shape.layers):
        vector(f"blk.{i}.attn_norm.weight", shape.width, 1.0)
        vector(f"blk.{i}.ffn_norm.weight", shape.width, 1.0)
        for name, rows in (("q", shape.width), ("k", kv), ("v", kv)):
            matrix(f"blk.{i}.attn_{name}.weight", rows, shape.width)
            if shape.biases:
                vector(f"blk.{i}.attn_{name}.bias", rows, 0.0)
        matrix(f"blk.{i}.attn_output.weight", shape.width, shape.width)
        matrix(f"blk.{i}.ffn_gate.weight", shape.inner, shape.width)
        matrix(f"blk.{i}.ffn_up.weight", shape.inner, shape.width)
        matrix(f"blk.{i}.ffn_down.weight", shape.width, shape.inner)


def _kind(quant: str, name: str, columns: int) -> str:
    """What llama.cpp's quantizer would choose: rows that 256 does not divide fall back."""
    if quant != "q4_k" or columns % _SUPER == 0:
        return quant
    return "q8_0" if name.startswith("token_embd") else "q5_0"


def _half(rows: int, blocks: int, value: float) -> Blocks:
    return np.full((rows, blocks, 1), value, dtype=np.float16).view(np.uint8)


def _random(rows: int, blocks: int, size: int, rng: np.random.Generator) -> Blocks:
    return rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)


def _q8_0(rows: int, columns: int, rng: np.random.Generator) -> Blocks:
    count = columns // _BLOCK
    scale = _half(rows, count, SPREAD / 74)  # int8 at random spreads by 74
    return np.concatenate([scale, _random(rows, count, 32, rng)], axis=2).reshape(rows, -1)


def _q5_0(rows: int, columns: int, rng: np.random.Generator) -> Blocks:
    count = columns // _BLOCK
    scale = _half(rows, count, SPREAD / 9.2)  # five bits at random, minus 16
    return np.concatenate([scale, _random(rows, count, 20, rng)], axis=2).reshape(rows, -1)


def _q4_k(rows: int, columns: int, rng: np.random.Generator) -> Blocks:
    count = columns // _SUPER
    # weight = d * scale * q - dmin * min; six-bit scales at random are 31 on average.
    scale, least = SPREAD / (31 * 4.6), SPREAD / (31 * 4.6) * 7.5
    halves = [_half(rows, count, scale), _half(rows, count, least)]
    return np.concatenate([*halves, _random(rows, count, 140, rng)], axis=2).reshape(rows, -1)


_MAKE = {"q8_0": _q8_0, "q5_0": _q5_0, "q4_k": _q4_k}
