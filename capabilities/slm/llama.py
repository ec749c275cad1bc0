"""A thin typed layer over llama.cpp's C API, as llama-cpp-python binds it with ctypes.

It owns native memory, keeps every callback alive as long as native code may call it (a
collected one is a segmentation fault) and turns C conventions into values and typed errors.
It decides nothing. Importing it costs about 30 MB, so only a worker process does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from mesh.core.errors import ModelError

Floats = npt.NDArray[np.float32]

WARNING, ERROR = 3, 4  # of ggml_log_level
NO_ROOM = 1  # llama_decode: no free cells in the context; its memory is as before the call

_keep_alive: dict[str, Any] = {}


def start(on_log: Callable[[int, str], None]) -> None:
    """Initialise the library once per process and send its log to ``on_log(level, text)``."""

    def relay(level: int, text: bytes, _: object) -> None:
        on_log(level, text.decode("utf-8", "replace"))

    _keep_alive["log"] = callback = lib.llama_log_callback(relay)
    lib.llama_log_set(callback, ctypes.c_void_p())
    lib.llama_backend_init()


class Model:
    """The weights of one file and their vocabulary."""

    def __init__(self, path: Path, *, use_extra_bufts: bool = True) -> None:
        params = lib.llama_model_default_params()
        params.use_extra_bufts = use_extra_bufts
        self.pointer = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.pointer:
            raise ModelError(f"llama.cpp cannot load {path}")
        self.vocab = Vocab(lib.llama_model_get_vocab(self.pointer))

    def close(self) -> None:
        """Free the weights; every context of this model must be closed before."""
        if self.pointer:
            lib.llama_model_free(self.pointer)
            self.pointer = None

    def load_adapter(self, path: Path) -> Any:
        """A LoRA adapter for this model, or nothing when it does not fit."""
        return lib.llama_adapter_lora_init(self.pointer, str(path).encode())

    @staticmethod
    def free_adapter(adapter: Any) -> None:
        """Free it; no context may use it. The rest go with the model."""
        lib.llama_adapter_lora_free(adapter)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return int(lib.llama_model_n_params(self.pointer))

    @property
    def trained_context(self) -> int:
        """The longest sequence that it was trained on, in tokens."""
        return int(lib.llama_model_n_ctx_train(self.pointer))

    @property
    def width(self) -> int:
        """The width of a hidden row."""
        return int(lib.llama_model_n_embd(self.pointer))

    @property
    def heads(self) -> int:
        """Attention heads of a layer, at least 1."""
        return max(1, int(lib.llama_model_n_head(self.pointer)))

    @property
    def layers(self) -> int:
        """The number of blocks."""
        return int(lib.llama_model_n_layer(self.pointer))

    @property
    def quantization(self) -> str:
        """The file type, such as Q8_0 or ``Q4_K - Medium``."""
        name = lib.llama_ftype_name(lib.llama_model_ftype(self.pointer))
        return name.decode("utf-8", "replace") if name else ""

    @property
    def chat_template(self) -> str:
        """The Jinja template of the file, empty if it has none."""
        text = lib.llama_model_chat_template(self.pointer, None)
        return text.decode("utf-8", "replace") if text else ""

    @property
    def keeps_every_token(self) -> bool:
        """Whether a sequence may be cut and shared at any token.

        A recurrent model keeps one state for all of a sequence, and a sliding window drops
        tokens on its way: neither has a prefix to share.
        """
        recurrent = lib.llama_model_is_recurrent(self.pointer)
        hybrid = lib.llama_model_is_hybrid(self.pointer)
        return not (recurrent or hybrid or lib.llama_model_n_swa(self.pointer))

    @property
    def needs_encoder(self) -> bool:
        """Whether it is an encoder-decoder, which the batching engine does not drive."""
        return bool(lib.llama_model_has_encoder(self.pointer))


# Many BPE vocabularies split text with std::regex, which recurses for every character of a
# match: one word of 30,000 letters overflows the stack and takes the process with it.
MAX_RUN_CHARS = 2000
_LONG_RUN = re.compile(rf"\S{{{MAX_RUN_CHARS}}}|\s{{{MAX_RUN_CHARS}}}")


def cut_runs(text: str, controls: Sequence[str]) -> list[str]:
    """Pieces of a text in which no run of letters or of spaces is longer than is safe.

    No cut goes through one of ``controls``; all other text may be cut, since such a run is no
    language. Joined, the pieces are the text.
    """
    names = sorted(filter(None, controls), key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text) if names else [text]
    pieces: list[str] = []
    for i, part in enumerate(parts):
        whole = i % 2 == 1 or not _LONG_RUN.search(part)
        size = max(1, len(part)) if whole else MAX_RUN_CHARS
        pieces += [part[at : at + size] for at in range(0, len(part), size)]
    return pieces


class Vocab:
    """Tokens and texts."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self.size = int(lib.llama_vocab_n_tokens(pointer))
        self._pieces: dict[int, bytes] = {}
        self._buffer = ctypes.create_string_buffer(512)
        self._splits = int(lib.llama_vocab_type(pointer)) == lib.LLAMA_VOCAB_TYPE_BPE
        self.controls = [self.name(token) for token in range(self.size) if self.is_control(token)]

    def tokenize(self, text: str, *, special: bool, add_special: bool = False) -> list[int]:
        """The tokens of a text.

        ``special`` reads control tokens in it; ``add_special`` adds what the model wants around
        a text (a beginning token, as a rule).
        """
        if self._splits and _LONG_RUN.search(text):
            pieces = cut_runs(text, self.controls if special else [])
            tokens: list[int] = []
            for i, piece in enumerate(pieces):
                tokens += self._tokenize(piece, special, add_special and i == 0)
            return tokens
        return self._tokenize(text, special, add_special)

    def _tokenize(self, text: str, special: bool, add_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            tokens = (lib.llama_token * room)()
            count = int(
                lib.llama_tokenize(
                    self.pointer, data, len(data), tokens, room, add_special, special
                )
            )
            if count >= 0:
                return list(tokens[:count])
            if -count <= room:
                raise ModelError("the text is too long to tokenize", hint="shorten it")
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; a control token stands for none."""
        cached = self._pieces.get(token)
        if cached is None:
            cached = self._pieces[token] = self._piece(token, special=False)
        return cached

    def name(self, token: int) -> str:
        """How a token is written, control tokens too."""
        return self._piece(token, special=True).decode("utf-8", "replace")

    def _piece(self, token: int, *, special: bool) -> bytes:
        while True:
            size = int(
                lib.llama_token_to_piece(
                    self.pointer, token, self._buffer, len(self._buffer), 0, special
                )
            )
            if size >= 0:
                return self._buffer.raw[:size]
            self._buffer = ctypes.create_string_buffer(-size)

    def ends(self, token: int) -> bool:
        """Whether the token ends an answer."""
        return bool(lib.llama_vocab_is_eog(self.pointer, token))

    def is_control(self, token: int) -> bool:
        """Whether it is a control token, which text must never be able to forge."""
        return bool(lib.llama_vocab_is_control(self.pointer, token))

    @property
    def bos(self) -> int:
        """The token that begins a text, -1 if there is none."""
        return int(lib.llama_vocab_bos(self.pointer))

    @property
    def eos(self) -> int:
        """The token that ends a text, -1 if there is none."""
        return int(lib.llama_vocab_eos(self.pointer))

    @property
    def adds_bos(self) -> bool:
        """Whether a text should begin with :attr:`bos`."""
        return bool(lib.llama_vocab_get_add_bos(self.pointer))

    def find(self, text: str) -> int:
        """The one token that is written so, or -1."""
        tokens = self.tokenize(text, special=True)
        return tokens[0] if len(tokens) == 1 else -1


class Batch:
    """The input of one decode step, filled through numpy views: no Python loop per token."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._tokens = np.zeros(size, dtype=np.int32)
        self._positions = np.zeros(size, dtype=np.int32)
        self._counts = np.ones(size, dtype=np.int32)
        self._sequences = np.zeros(size, dtype=np.int32)
        # seq_id is an array of pointers, one per token, into the array of sequence ids.
        base = self._sequences.ctypes.data
        self._pointers = base + 4 * np.arange(size, dtype=np.uintp)
        self._outputs = np.zeros(size, dtype=np.int8)
        self.count = 0
        self.outputs = 0
        fields: dict[str, Any] = {entry[0]: entry[1] for entry in lib.llama_batch._fields_}
        self._native: Any = lib.llama_batch()
        for name, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._pointers),
            ("logits", self._outputs),
        ):
            setattr(self._native, name, ctypes.cast(array.ctypes.data, fields[name]))

    def clear(self) -> None:
        """Begin a new step."""
        self.count = self.outputs = 0

    def add(self, tokens: Sequence[int], position: int, sequence: int, *, outputs: int) -> None:
        """Append tokens of a sequence; the last ``outputs`` of them yield a row of logits."""
        begin, end = self.count, self.count + len(tokens)
        if end > self.size:
            raise ValueError(f"{end} tokens in a batch of {self.size}")
        self._tokens[begin:end] = tokens
        self._positions[begin:end] = np.arange(position, position + len(tokens))
        self._sequences[begin:end] = sequence
        self._outputs[begin:end] = 0
        if outputs:
            self._outputs[end - outputs : end] = 1
        self.count = end
        self.outputs += outputs

    def native(self) -> Any:
        """The C structure, valid until the next change."""
        self._native.n_tokens = self.count
        return self._native


class RowBatch(Batch):
    """The input of a step that takes hidden rows in place of tokens."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size)
        self._rows = np.zeros((size, width), dtype=np.float32)
        self._native.token = None
        kind: Any = {entry[0]: entry[1] for entry in lib.llama_batch._fields_}["embd"]
        self._native.embd = ctypes.cast(self._rows.ctypes.data, kind)

    def add_rows(self, rows: Floats, position: int, sequence: int, *, outputs: int) -> None:
        """Append hidden rows (rows, width); otherwise as :meth:`add`."""
        begin = self.count
        self.add([0] * len(rows), position, sequence, outputs=outputs)
        self._rows[begin : self.count] = rows


@dataclass(frozen=True, slots=True)
class ContextShape:
    """Sizes of a context, in tokens; ``outputs``: the most rows of logits in one step."""

    tokens: int
    batch: int
    sequences: int
    outputs: int
    threads: int
    embeddings: bool = False
    eval_callback: Any = None  # must live as long as the context
    flash_attention: bool = False


class Context:
    """The memory of running sequences and the computation over them."""

    def __init__(self, model: Model, shape: ContextShape) -> None:
        params = lib.llama_context_default_params()
        params.n_ctx = shape.tokens
        params.n_batch = params.n_ubatch = shape.batch
        params.n_seq_max = shape.sequences
        params.n_outputs_max = shape.outputs
        params.n_threads = params.n_threads_batch = shape.threads
        params.kv_unified = True  # one pool of cells: a long request may use what others leave
        params.no_perf = True
        params.embeddings = shape.embeddings
        if shape.eval_callback is not None:
            params.cb_eval = shape.eval_callback
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_AUTO  # on, where this architecture can
            if shape.flash_attention
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        self.pointer = lib.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise ModelError(
                f"llama.cpp cannot create a context of {shape.tokens} tokens",
                hint="lower context_tokens or slots",
            )
        self._width = model.width
        self._vocabulary = model.vocab.size
        self._memory = lib.llama_get_memory(self.pointer)

    def close(self) -> None:
        """Free it."""
        if self.pointer:
            lib.llama_free(self.pointer)
            self.pointer = None

    @property
    def tokens(self) -> int:
        """The cells that it really has."""
        return int(lib.llama_n_ctx(self.pointer))

    @property
    def has_memory(self) -> bool:
        """Whether it remembers sequences; a pure embedding model does not."""
        return bool(self._memory)

    @property
    def pools(self) -> bool:
        """Whether the model itself makes one embedding of a sequence."""
        return int(lib.llama_pooling_type(self.pointer)) > 0

    def decode(self, batch: Batch) -> int:
        """Compute a step: 0, or :data:`NO_ROOM`, or another code of llama_decode."""
        return int(lib.llama_decode(self.pointer, batch.native()))

    def logits(self, rows: int) -> Floats:
        """The step's rows of logits in the order of the batch: (rows, vocabulary), a view."""
        return self._view(lib.llama_get_logits(self.pointer), rows, self._vocabulary)

    def hidden(self, rows: int) -> Floats:
        """The step's output rows after the final norm: (rows, width), a view."""
        return self._view(lib.llama_get_embeddings(self.pointer), rows, self._width)

    def pooled(self, sequence: int) -> Floats:
        """The embedding of a sequence by a model that pools: (1, width), a view."""
        return self._view(lib.llama_get_embeddings_seq(self.pointer, sequence), 1, self._width)

    @staticmethod
    def _view(pointer: Any, rows: int, width: int) -> Floats:
        if not pointer:
            raise ModelError("llama.cpp returned no output")
        address = ctypes.addressof(pointer.contents)
        memory: Any = (ctypes.c_float * (rows * width)).from_address(address)
        flat: Floats = np.frombuffer(memory, dtype=np.float32)
        return flat.reshape(rows, width)

    def forget(self, sequence: int, begin: int = 0, end: int = -1) -> bool:
        """Drop positions ``begin`` to ``end`` of a sequence, by default all that follow.

        Some models cannot forget a part: then the answer is False and nothing has changed.
        """
        if not self._memory:
            return True
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, begin, end))

    def length(self, sequence: int) -> int:
        """Positions of a sequence: one more than its last."""
        return int(lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """Let sequence ``target`` share the cells of ``source`` at these positions."""
        lib.llama_memory_seq_cp(self._memory, source, target, begin, end)

    def set_threads(self, decode: int, prefill: int) -> None:
        """How many threads compute a step of one token per sequence, and any other step."""
        lib.llama_set_n_threads(self.pointer, decode, prefill)

    def set_adapters(self, adapters: Sequence[tuple[Any, float]]) -> None:
        """Add these adapters to the weights, each by its scale, from the next step on."""
        count = len(adapters)
        pointers = (lib.llama_adapter_lora_p_ctypes * count)(*(one for one, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        if lib.llama_set_adapters_lora(self.pointer, pointers, count, scales):
            raise ModelError("llama.cpp cannot apply these adapters")

    def state_bytes(self, sequence: int) -> int:
        """How large :meth:`save` would be."""
        return int(lib.llama_state_seq_get_size(self.pointer, sequence))

    def save(self, sequence: int) -> bytes:
        """The state of a sequence."""
        size = self.state_bytes(sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = int(lib.llama_state_seq_get_data(self.pointer, buffer, size, sequence))
        if not written:
            raise ModelError("llama.cpp cannot save the state of this sequence")
        return bytes(buffer)[:written]

    def restore(self, sequence: int, data: bytes) -> bool:
        """Replace a sequence by a saved state; False leaves it empty."""
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        if lib.llama_state_seq_set_data(self.pointer, buffer, len(data), sequence):
            return True
        self.forget(sequence)
        return False
