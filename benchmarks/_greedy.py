"""Greedy text from a GGUF for many prompts at once, straight on llama.cpp's batch interface."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

_THINK_END = "<|/think|>"
_STEP_TOKENS = 2048  # fed to llama.cpp at once
# Kept by the module: llama.cpp calls it for as long as the process lives.
_SILENCE = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
_ALL_TOKENS = 16_384  # of context, over all sequences, unless told otherwise


class Greedy:
    """One loaded model; `replies` answers chats `parallel` at a time, temperature zero.

    Without `context` each sequence has room for all that the model was trained on, at most 1,024
    tokens, and as many run side by side as share 16,384.
    """

    def __init__(self, path: Path, parallel: int = 0, context: int = 0, threads: int = 1) -> None:
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_SILENCE, ctypes.c_void_p(0))
        model_parameters = llama_cpp.llama_model_default_params()
        model_parameters.use_extra_bufts = False  # crashes on some AMX virtual machines
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        context = context or min(1024, llama_cpp.llama_model_n_ctx_train(self._model))
        parallel = parallel or min(32, _ALL_TOKENS // context)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parallel * context
        parameters.n_batch = parameters.n_ubatch = _STEP_TOKENS
        parameters.n_seq_max = parallel
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = False
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._size = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._parallel, self._limit = parallel, context
        template = llama_cpp.llama_model_chat_template(self._model, None)
        self._chat = Jinja2ChatFormatter(template.decode(), eos_token="", bos_token="")

    def close(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def facts(self) -> dict[str, Any]:
        """Parameters and quantization, as llama.cpp reads them from the file."""
        text = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self._model, text, len(text))
        return {
            "parameters": llama_cpp.llama_model_n_params(self._model),
            "quantization": text.value.decode().split()[-1],
        }

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids that the model's own chat template makes of `messages`."""
        text = self._chat(messages=messages).prompt.encode()
        room = (llama_cpp.llama_token * (len(text) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, text, len(text), room, len(room), False, True
        )
        return list(room[:count])

    def count(self, text: str) -> int:
        """Tokens of a plain text."""
        raw = text.encode()
        room = (llama_cpp.llama_token * (len(raw) + 8))()
        return int(
            llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), False, False)
        )

    def replies(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Token ids that greedy decoding writes after each prompt, up to the end of the turn."""
        # Similar lengths together, so that few wait for the longest.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), self._parallel):
            group = order[start : start + self._parallel]
            for index, reply in zip(group, self._group([prompts[i] for i in group]), strict=True):
                found[index] = reply
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Decoded text, special tokens left out except those that the vocabulary shows."""
        pieces = bytearray()
        buffer = ctypes.create_string_buffer(64)
        for token in ids:
            size = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, 64, 0, False)
            pieces += buffer.raw[:size]
        return pieces.decode(errors="replace")

    def answer(self, ids: Sequence[int]) -> str:
        """The text for the reader: what stands after the scratchpad of a model that thinks."""
        return self.text(ids).split(_THINK_END)[-1].strip()

    def _group(self, prompts: list[list[int]]) -> list[list[int]]:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        replies: list[list[int]] = [[] for _ in prompts]
        positions = [0] * len(prompts)
        pending = dict(enumerate(prompts))
        batch = llama_cpp.llama_batch_init(_STEP_TOKENS, 0, 1)
        try:
            while pending:
                best = self._decode(batch, pending, positions)
                pending = {}
                for i, token in best.items():
                    ended = llama_cpp.llama_vocab_is_eog(self._vocabulary, token)
                    if not ended and positions[i] + 1 < self._limit:
                        replies[i].append(token)
                        pending[i] = [token]
        finally:
            llama_cpp.llama_batch_free(batch)
        return replies

    def _decode(
        self, batch: llama_cpp.llama_batch, pending: dict[int, list[int]], positions: list[int]
    ) -> dict[int, int]:
        """Feed what is pending and return the likeliest next token of each sequence."""
        rows = [
            (i, token, place == len(tokens) - 1)
            for i, tokens in pending.items()
            for place, token in enumerate(tokens)
        ]
        best = {}
        for start in range(0, len(rows), _STEP_TOKENS):
            step = rows[start : start + _STEP_TOKENS]
            for at, (i, token, last) in enumerate(step):
                batch.token[at] = token
                batch.pos[at] = positions[i]
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = i
                batch.logits[at] = last
                positions[i] += 1
            batch.n_tokens = len(step)
            if llama_cpp.llama_decode(self._context, batch):
                raise RuntimeError("llama_decode failed")
            for at, (i, _, last) in enumerate(step):
                if last:
                    logits = llama_cpp.llama_get_logits_ith(self._context, at)
                    best[i] = int(np.ctypeslib.as_array(logits, shape=(self._size,)).argmax())
        return best
