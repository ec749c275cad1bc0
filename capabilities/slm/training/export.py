"""A trained model as a GGUF that llama.cpp loads, and its quantized form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from capabilities.segments.files import ExitHead, write_exits
from capabilities.slm.training.chat import CHAT_TEMPLATE
from capabilities.slm.training.tokenizer import (
    END,
    PAD,
    SPECIAL_TOKENS,
    THINK,
    THINK_END,
    load_tokenizer,
    special_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import gguf
    import numpy as np
    from torch import Tensor

    from capabilities.segments.calibration import Calibration
    from capabilities.slm.training.model import Llama

# llama.cpp holds on to callbacks; a collected one is a crash.
_KEPT: list[object] = []

_BLOCK_TENSORS = {
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.out": "attn_output",
    "feed_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


# What the model was trained to do, as a list in its file: a benchmark asks for nothing else.
TASKS_KEY = "gossamer.tasks"


def export_f32(
    model: Llama, output: Path, *, name: str, description: str, tasks: tuple[str, ...] = ()
) -> None:
    """Write `model` to `output` in 32-bit floats, with its tokenizer and chat template.

    Early exits are left out: llama.cpp refuses a file with tensors that it does not know.
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(output, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"gossamer-{name}")
    writer.add_description(description)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocabulary)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    _add_tokenizer(writer)
    if tasks:
        writer.add_array(TASKS_KEY, list(tasks))
    for key, tensor in model.state_dict().items():
        if not key.startswith("exits."):
            writer.add_tensor(gguf_name(key), _array(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def export_exits(
    model: Llama,
    output: Path,
    *,
    name: str,
    calibrations: Mapping[int, Calibration] | None = None,
) -> None:
    """Write the early exits of `model`: `exit.k.norm.weight`, `exit.k.output.weight` for each k.

    Copied into a file of the first k blocks as `output_norm.weight` and `output.weight` they are
    its head. The head, embedding times the exit's map, is quantized as the model is; norms are not.
    ``calibrations`` say how far each exit may be believed, and on what that was measured.
    """
    import gguf

    kind = gguf.GGMLQuantizationType.Q8_0
    heads = {}
    for number in model.config.exits:
        exit_ = model.exit(number)
        head = gguf.quants.quantize(_array(model.embedding.weight @ exit_.map.weight), kind)
        heads[number] = ExitHead(_array(exit_.norm.weight), head, kind)
    write_exits(
        output,
        f"gossamer-{name}",
        heads,
        width=model.config.width,
        vocabulary=model.config.vocabulary,
        calibrations=calibrations,
    )


def gguf_name(key: str) -> str:
    """The GGUF name of a tensor of `Llama`. No output head is written: it is the embedding."""
    if key == "embedding.weight":
        return "token_embd.weight"
    if key == "norm.weight":
        return "output_norm.weight"
    _, number, part = key.removesuffix(".weight").split(".", 2)
    return f"blk.{number}.{_BLOCK_TENSORS[part]}.weight"


def quantize_q8_0(source: Path, output: Path) -> None:
    """Quantize the GGUF `source` with llama.cpp's own quantizer; norms stay in 32 bits."""
    import llama_cpp

    # llama.cpp would print every tensor; what matters is the code it returns.
    silence = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    _KEPT.append(silence)
    llama_cpp.llama_log_set(silence, None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    parameters.nthread = 1
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(output).encode(), parameters)
    if failed:
        raise RuntimeError(f"llama.cpp could not quantize {source} (code {failed})")


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().float().cpu().contiguous().numpy()
    return array


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    import gguf

    state = json.loads(load_tokenizer().to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].__getitem__)
    # The think tags are kept visible in decoded text, so that any client can cut the scratchpad.
    shown = (THINK, THINK_END)
    types = [
        gguf.TokenType.NORMAL
        if token not in SPECIAL_TOKENS
        else gguf.TokenType.USER_DEFINED
        if token in shown
        else gguf.TokenType.CONTROL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
    writer.add_eos_token_id(special_id(END))
    writer.add_eot_token_id(special_id(END))
    writer.add_pad_token_id(special_id(PAD))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
