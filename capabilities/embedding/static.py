"""A sentence embedder without a network: one vector per token, a sentence is their mean.

The file holds a signed byte per component with a scale per token, so that 256 dimensions of
some 27 thousand tokens are seven megabytes. A sentence takes microseconds, and no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from capabilities.embedding.space import Space
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]

MODEL_FILE = "vectors.npz"
TOKENIZER_FILE = "tokenizer.json"
SHIPPED = Path(str(resources.files("capabilities.embedding") / "shipped"))
NAME = "gossamer-static"
MAX_CHARS = 4096  # what follows hardly turns a mean over so many tokens
_REMAKE = "run python -m capabilities.embedding.training.distil --help"


class StaticEmbedder:
    """Token vectors from a folder with ``vectors.npz`` and ``tokenizer.json``.

    Raises :class:`ConfigError` when the folder does not hold a matching pair.
    """

    blocking = False  # some ten microseconds a sentence: it may run on the event loop

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        try:
            with np.load(folder / MODEL_FILE, allow_pickle=False) as stored:
                codes, scales = stored["codes"], stored["scales"]
                self.made_from = str(stored["made_from"])
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:  # the tokenizer raises a bare Exception
            raise ConfigError(f"no embedder in {folder}: {error}", hint=_REMAKE) from error
        if codes.dtype != np.int8 or scales.shape != (len(codes),):
            raise ConfigError(f"{folder / MODEL_FILE} holds no token vectors", hint=_REMAKE)
        if self._tokenizer.get_vocab_size() != len(codes):
            raise ConfigError(
                f"the tokenizer in {folder} has {self._tokenizer.get_vocab_size()} tokens, "
                f"the vectors are {len(codes)}",
                hint=_REMAKE,
            )
        self._codes: NDArray[np.int8] = codes
        self._scales: Floats = scales.astype(np.float32)
        self.space = Space(
            model=NAME,
            dimensionality=int(codes.shape[1]),
            digest=hashlib.sha256(codes.tobytes() + self._scales.tobytes()).hexdigest()[:16],
        )

    def embed(self, texts: Sequence[str]) -> Floats:
        """Rows of shape (texts, dimensionality), each of length one.

        A text without a known token is a row of zeros: it resembles nothing.
        """
        rows = np.zeros((len(texts), self.space.dimensionality), np.float32)
        for row, text in zip(rows, texts, strict=True):
            # One by one: a batch would take every core of the machine for itself.
            ids = self._tokenizer.encode(text[:MAX_CHARS], add_special_tokens=False).ids
            if ids:
                row[:] = self._scales[ids] @ self._codes[ids].astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
        lengths[lengths == 0] = 1.0
        rows /= lengths
        return rows

    def vectors(self) -> Floats:
        """Every token's vector, shape (tokens, dimensionality), as the bytes say."""
        made: Floats = self._codes.astype(np.float32) * self._scales[:, None]
        return made

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, for exports."""
        return self._tokenizer


def write(folder: Path, vectors: Floats, tokenizer: Tokenizer, *, made_from: str) -> None:
    """Write an embedder's two files; ``vectors`` has shape (tokens, dimensionality)."""
    folder.mkdir(parents=True, exist_ok=True)
    scales = np.maximum(np.abs(vectors).max(axis=1), 1e-12) / 127.0
    codes = np.rint(vectors / scales[:, None]).astype(np.int8)
    np.savez_compressed(
        folder / MODEL_FILE,
        codes=codes,
        scales=scales.astype(np.float16).astype(np.float32),
        made_from=np.array(made_from),
    )
    tokenizer.save(str(folder / TOKENIZER_FILE), pretty=False)


@lru_cache(maxsize=1)
def shipped() -> StaticEmbedder:
    """The embedder that comes with the package."""
    return StaticEmbedder(SHIPPED)
