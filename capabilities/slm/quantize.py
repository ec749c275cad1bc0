"""``python -m capabilities.slm.quantize SOURCE TARGET TYPE``: in a process of its own (law 7)."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

from capabilities.slm import header
from capabilities.slm.process import last_words
from mesh.core.errors import ModelError

# The numbers of llama_ftype that are of use on small machines.
TYPES = {"f16": 1, "q4_0": 2, "q8_0": 7, "q3_k_m": 12, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}


def quantize(source: Path, target: Path, kind: str, *, threads: int = 1) -> None:
    """Write ``source`` as ``kind``; raises ModelError with the reason.

    The target appears only when it is whole.
    """
    if kind not in TYPES:
        raise ModelError(f"no quantization is called {kind}", hint=f"use {', '.join(TYPES)}")
    header.read(source)
    command = [sys.executable, "-m", "capabilities.slm.quantize", str(source), str(target)]
    ended = subprocess.run(
        [*command, kind, str(threads)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        target.unlink(missing_ok=True)
        words = last_words(ended.stderr) or f"exit code {ended.returncode}"
        raise ModelError(
            f"{source.name} could not be quantized: {words}",
            hint="start from an f16 or f32 file, and look at the space on the disk",
        )


def main(source: str, target: str, kind: str, threads: str) -> int:
    """Do it here; llama.cpp's own messages go to standard error."""
    import llama_cpp.llama_cpp as lib

    lib.llama_backend_init()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = TYPES[kind], int(threads)
    return int(lib.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
