"""Rows of the hidden state, copied out of a step while it computes (llama.cpp's ``cb_eval``).

A context that has one asks it about every node of every step (measured: 40 to 160 us a step of
the four-layer models of the package): only workers that were loaded with ``capture`` have it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt
from llama_cpp._ggml import libggml as ggml

Floats = npt.NDArray[np.float32]

ggml.ggml_get_name.restype = ctypes.c_char_p
ggml.ggml_get_name.argtypes = [ctypes.c_void_p]
ggml.ggml_nbytes.restype = ctypes.c_size_t
ggml.ggml_nbytes.argtypes = [ctypes.c_void_p]
ggml.ggml_backend_tensor_get.restype = None
ggml.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2

FINAL = "result_norm"  # after the last norm, before the output matrix


def layer_name(layer: int) -> str:
    """How llama.cpp calls the rows that leave a layer."""
    return f"l_out-{layer}"


class Capture:
    """What one context's steps let out. It must live as long as the context."""

    def __init__(self) -> None:
        self._wanted: frozenset[bytes] = frozenset()
        self._last = b""
        self._found: dict[str, Floats] = {}
        self.callback: Any = lib.ggml_backend_sched_eval_callback(self._see)

    def arm(self, names: set[str], *, last: str = "") -> None:
        """Copy these tensors from the next step; compute nothing after the one called ``last``."""
        self._wanted = frozenset(name.encode() for name in names)
        self._last = last.encode()
        self._found = {}

    def rows(self, name: str, width: int) -> Floats | None:
        """The rows of a tensor in the last step, (rows, width), or nothing if it had none."""
        found = self._found.get(name)
        return None if found is None else found.reshape(-1, width)

    def _see(self, tensor: int, ask: bool, _data: object) -> bool:
        if not self._wanted:
            return not ask
        name: bytes = ggml.ggml_get_name(tensor)
        if ask:
            return name in self._wanted
        values = np.empty(ggml.ggml_nbytes(tensor) // 4, dtype=np.float32)
        ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
        self._found[name.decode()] = values
        return name != self._last
