"""Three ways to embed that take each other's place, each in a space of its own.

``builtin``                       the shipped static embedder
``some/model.gguf``               any embedding GGUF, in llama.cpp, in a process of its own
``sentence-transformers:MODEL``   a folder or hub name; needs the extra of that name (torch)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from capabilities.embedding.space import Space
from capabilities.embedding.static import StaticEmbedder, shipped
from capabilities.slm.host import Care, ModelHost
from capabilities.slm.protocol import MAX_EMBED_TEXTS, Settings
from mesh.core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

T = TypeVar("T")
BUILTIN = "builtin"
TRANSFORMERS = "sentence-transformers:"


class Embedder(Protocol):
    """Whatever turns texts into vectors of one space."""

    @property
    def space(self) -> Space:
        """Where its vectors live; known after :meth:`start`."""

    async def start(self) -> None:
        """Load what it needs; raises a :class:`~mesh.core.errors.GossamerError`."""

    async def stop(self) -> None:
        """Release it; harmless when repeated."""

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Floats:
        """Rows of shape (texts, dimensionality), each of length one (zeros for an empty text)."""


class Static:
    """The static embedder behind the common interface; ``folder`` defaults to the shipped one."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._embedder: StaticEmbedder | None = None

    @property
    def space(self) -> Space:
        """See :class:`Embedder`."""
        return _started(self._embedder).space

    async def start(self) -> None:
        """Read the file in a thread: it is some megabytes."""
        self._embedder = await asyncio.to_thread(_static, self._folder)

    async def stop(self) -> None:
        """Forget the vectors."""
        self._embedder = None

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Floats:
        """See :class:`Embedder`; a large request leaves the event loop."""
        embedder = _started(self._embedder)
        if sum(map(len, texts)) < 4096:  # below a millisecond of work
            return embedder.embed(texts)
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(embedder.embed, texts)


class Gguf:
    """An embedding model in llama.cpp, through the worker process of every model."""

    def __init__(self, path: Path, settings: Settings | None = None) -> None:
        self._path = path
        self._host = ModelHost(path, settings or Settings(slots=1), care=Care())
        self._space: Space | None = None

    @property
    def space(self) -> Space:
        """See :class:`Embedder`."""
        return _started(self._space)

    async def start(self) -> None:
        """Start the worker and look how wide its vectors are."""
        info = await self._host.start()
        block = await self._host.embed(["a"], timeout_s=30.0)
        self._space = Space(
            model=info.name or self._path.stem,
            dimensionality=block.width,
            digest=info.file_sha256[:16],
        )

    async def stop(self) -> None:
        """End the worker."""
        await self._host.stop()

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Floats:
        """See :class:`Embedder`."""
        space, blocks = self.space, []
        deadline = asyncio.get_running_loop().time() + timeout_s
        for start in range(0, len(texts), MAX_EMBED_TEXTS):
            left_s = max(0.001, deadline - asyncio.get_running_loop().time())
            part = [text or " " for text in texts[start : start + MAX_EMBED_TEXTS]]
            block = await self._host.embed(part, timeout_s=left_s)
            blocks.append(np.frombuffer(block.data, "<f4").reshape(block.rows, block.width))
        if not blocks:
            return np.zeros((0, space.dimensionality), np.float32)
        return np.concatenate(blocks).astype(np.float32)


class Transformers:
    """A model of the sentence-transformers library, where its extra is installed."""

    def __init__(self, model: str) -> None:
        self._name = model
        self._model: Any = None
        self._space: Space | None = None

    @property
    def space(self) -> Space:
        """See :class:`Embedder`."""
        return _started(self._space)

    async def start(self) -> None:
        """Import torch and load the model, in a thread."""
        self._model = await asyncio.to_thread(self._load)
        width = int(self._model.get_embedding_dimension())
        digest = await asyncio.to_thread(self._digest)
        self._space = Space(model=Path(self._name).name, dimensionality=width, digest=digest)

    def _load(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                f"{TRANSFORMERS}{self._name} needs the library sentence-transformers",
                hint="pip install 'gossamer-mesh[sentence-transformers]' (it brings torch), or "
                "use the built-in embedder or an embedding GGUF",
            ) from error
        try:
            return SentenceTransformer(self._name)
        except Exception as error:
            raise ModelError(f"{self._name} cannot be loaded: {error}") from error

    def _digest(self) -> str:
        """Of the weights themselves, so that two nodes agree wherever their files lie."""
        found = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            found.update(key.encode())
            found.update(tensor.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    async def stop(self) -> None:
        """Forget the model."""
        self._model = None

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Floats:
        """See :class:`Embedder`."""
        model = _started(self._model)
        async with asyncio.timeout(timeout_s):
            rows = await asyncio.to_thread(
                model.encode, list(texts), normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(rows, np.float32).reshape(len(texts), -1)


def make_embedder(which: str) -> Embedder:
    """The backend that the configuration names; raises :class:`ConfigError`."""
    if which == BUILTIN:
        return Static()
    if which.startswith(TRANSFORMERS):
        return Transformers(which.removeprefix(TRANSFORMERS))
    path = Path(which)
    if path.suffix == ".gguf":
        return Gguf(path)
    with contextlib.suppress(OSError):
        if path.is_dir():
            return Static(path)
    raise ConfigError(
        f"no embedder is called {which!r}",
        hint=f"{BUILTIN}, the path of an embedding GGUF, or {TRANSFORMERS}MODEL",
    )


def _static(folder: Path | None) -> StaticEmbedder:
    return StaticEmbedder(folder) if folder else shipped()


def _started(value: T | None) -> T:
    if value is None:
        raise ModelError("the embedder is not started", hint="start it first")
    return value
