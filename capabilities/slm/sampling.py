"""How the next token is chosen: a chain of llama.cpp's samplers, and a grammar if one is asked.

A grammar is asked about the chosen token only; where it says no, it masks all of the vocabulary
and the chain chooses again. So a grammar costs little while the model keeps to it by itself.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np

from capabilities.messages import Generate
from capabilities.slm.errors import BadRequest
from capabilities.slm.llama import Context, Floats, Vocab
from mesh.core.errors import ModelError

PENALTY_WINDOW = 64  # tokens that the penalties look back on, as llama.cpp's own default
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Chooses the tokens of one answer; owns native memory until :meth:`close`.

    ``grammar`` is GBNF that has passed :func:`capabilities.slm.gbnf.check`, or empty;
    ``hidden`` are tokens that leave no text, which a grammar never allows. Raises BadRequest
    when llama.cpp does not accept the grammar, or when a biased token does not exist.
    """

    def __init__(
        self, vocab: Vocab, request: Generate, grammar: str = "", hidden: Sequence[int] = ()
    ) -> None:
        strange = [token for token in request.logit_bias if not 0 <= token < vocab.size]
        if strange:
            raise BadRequest(f"logit_bias names token {strange[0]}, which this model has not")
        self._hidden = np.array(hidden, dtype=np.intp)
        self._vocab = vocab
        self._pending = b""  # the beginning of a character that has not come to its end
        self._grammar: Any = None
        self._chain: Any = None
        if grammar:
            self._grammar = lib.llama_sampler_init_grammar(vocab.pointer, grammar.encode(), b"root")
            if not self._grammar:
                raise BadRequest("llama.cpp cannot read the grammar", hint="simplify it")
            self._candidates = np.zeros(vocab.size, dtype=_CANDIDATE)
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain = lib.llama_sampler_chain_init(params)
        for stage in _stages(vocab.size, request):
            lib.llama_sampler_chain_add(self._chain, stage)

    def sample(self, context: Context, index: int, logits: Floats, *, free: bool = False) -> int:
        """Choose from the logits of batch entry ``index`` and remember the choice.

        ``logits`` is the same row as numpy sees it; ``free`` leaves the grammar out of it, as
        while a model thinks. Raises ModelError when the grammar allows
        no token of this vocabulary.
        """
        if free or not self._grammar:
            return int(lib.llama_sampler_sample(self._chain, context.pointer, index))
        token = self._choose(self._fill(logits))
        if not (self._grammatical(token) and self._readable(token)):
            token = self._constrained(logits)
        self._pending += self._vocab.piece(token)
        with contextlib.suppress(UnicodeDecodeError):
            self._pending.decode()
            self._pending = b""
        lib.llama_sampler_accept(self._grammar, token)
        lib.llama_sampler_accept(self._chain, token)
        return token

    def _constrained(self, logits: Floats) -> int:
        """Choose among all tokens that the grammar allows and that go on in valid UTF-8."""
        view = self._fill(logits)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(view))
        allowed = self._candidates["logit"].copy()
        # Accepting a token that the grammar forbids would end the process.
        while np.isfinite(allowed).any():
            token = self._choose(self._fill(allowed))
            if not np.isfinite(allowed[token]):
                break
            if self._readable(token):
                return token
            allowed[token] = -np.inf
        raise ModelError("no token of this model continues the answer in its grammar")

    def _fill(self, logits: Floats) -> Any:
        self._candidates["id"] = np.arange(len(self._candidates), dtype=np.int32)
        self._candidates["logit"] = logits
        self._candidates["logit"][self._hidden] = -np.inf
        return _array(self._candidates)

    def _choose(self, view: Any) -> int:
        lib.llama_sampler_apply(self._chain, ctypes.byref(view))
        return int(view.data[view.selected].id)

    def _grammatical(self, token: int) -> bool:
        if token in self._hidden:
            return False
        one = np.array([(token, 1.0, 0.0)], dtype=_CANDIDATE)
        view = _array(one)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(view))
        return bool(np.isfinite(one["logit"][0]))

    def _readable(self, token: int) -> bool:
        """llama.cpp counts overlong and other broken UTF-8 as characters; a reader does not."""
        if self._vocab.ends(token):
            return not self._pending
        try:
            codecs.getincrementaldecoder("utf-8")().decode(self._pending + self._vocab.piece(token))
        except UnicodeDecodeError:
            return False
        return True

    def close(self) -> None:
        """Free it; harmless when done twice."""
        for pointer in (self._chain, self._grammar):
            if pointer:
                lib.llama_sampler_free(pointer)
        self._chain = self._grammar = None


def _array(candidates: Any) -> Any:
    data = ctypes.cast(candidates.ctypes.data, lib.llama_token_data_p)
    return lib.llama_token_data_array(data, len(candidates), -1, False)


def _stages(vocabulary: int, request: Generate) -> list[Any]:
    stages: list[Any] = []
    if request.logit_bias:
        biases = (lib.llama_logit_bias * len(request.logit_bias))()
        for at, (token, bias) in enumerate(request.logit_bias.items()):
            biases[at] = lib.llama_logit_bias(token, bias)
        stages.append(lib.llama_sampler_init_logit_bias(vocabulary, len(biases), biases))
    penalties = (request.repeat_penalty, request.frequency_penalty, request.presence_penalty)
    if penalties != (1.0, 0.0, 0.0):
        stages.append(lib.llama_sampler_init_penalties(vocabulary, PENALTY_WINDOW, *penalties))
    if request.temperature <= 0:
        stages.append(lib.llama_sampler_init_greedy())
        return stages
    if request.top_k > 0:
        stages.append(lib.llama_sampler_init_top_k(request.top_k))
    if request.top_p < 1:
        stages.append(lib.llama_sampler_init_top_p(request.top_p, 1))
    if request.min_p > 0:
        stages.append(lib.llama_sampler_init_min_p(request.min_p, 1))
    stages.append(lib.llama_sampler_init_temp(request.temperature))
    # The largest seed means "random" to llama.cpp; an answer must be repeatable.
    stages.append(lib.llama_sampler_init_dist(request.seed % 0xFFFFFFFF))
    return stages
