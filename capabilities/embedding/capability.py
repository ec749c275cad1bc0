"""An embedder as a capability: ``computation.gpt/embed`` for nodes that have none, or another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.embedding.backends import Embedder
from capabilities.embedding.messages import EMBED, KIND, MAX_TEXTS, Embed, vectors
from capabilities.messages import decode, encode
from mesh.core.errors import DeadlineExceeded, WireError
from mesh.core.records import ModelInfo, ServedName

SLOTS = 8
CHUNK_BYTES = 24 * 1024  # below the bulk lane's chunk with its head
MAX_TEXT_CHARS = 16 * 1024


class EmbeddingCapability(Capability):
    """Serves one embedder. The profile says its space: model, dimensionality, length."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._active = 0
        self._up = False

    @property
    def embedder(self) -> Embedder:
        """What it serves, for the node itself."""
        return self._embedder

    @property
    def names(self) -> Sequence[ServedName]:
        """``computation.gpt/embed``."""
        return (
            ServedName(
                name=EMBED,
                domain="embed",
                description="texts as vectors, with the space that they live in",
                kind=KIND,
                model=self._embedder.space.model if self._up else "",
            ),
        )

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The embedder, once it runs."""
        if not self._up:
            return ()
        space = self._embedder.space
        return (
            ModelInfo(
                name=space.model,
                arch="embedder",
                file_sha256=space.digest,
                embedding_dim=space.dimensionality,
                modalities=("text", "embedding"),
            ),
        )

    async def start(self) -> None:
        """Load the embedder."""
        await self._embedder.start()
        self._up = True

    async def stop(self) -> None:
        """Release it."""
        self._up = False
        await self._embedder.stop()

    def admit(self, request: Request) -> Admission:
        """A yes while fewer than SLOTS requests are under way."""
        if request.name != EMBED:
            return Admission(accepted=False, reason=f"{request.name} is not served here")
        if self._active >= SLOTS:
            return Admission(
                accepted=False, reason=f"{SLOTS} requests to embed run already", retry_after_s=0.1
            )
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Vectors in the order of the texts, in pieces that fit the bulk lane."""
        self._active += 1
        try:
            body = decode(request.body, Embed)
            if not 0 < len(body.texts) <= MAX_TEXTS:
                raise WireError(f"1 to {MAX_TEXTS} texts are embedded at once")
            if max(map(len, body.texts)) > MAX_TEXT_CHARS:
                raise WireError(f"a text to embed has at most {MAX_TEXT_CHARS} characters")
            space = self._embedder.space
            if body.space is not None:
                body.space.require(space)
            try:
                rows = await self._embedder.embed(body.texts, timeout_s=request.timeout_s)
            except TimeoutError as error:
                raise DeadlineExceeded("there was no time to embed the texts") from error
            step = max(1, CHUNK_BYTES // (4 * space.dimensionality))
            for first in range(0, len(rows), step):
                yield encode(vectors(space, rows[first : first + step], first))
        finally:
            self._active -= 1

    def occupancy(self) -> Occupancy:
        """How many requests run."""
        return Occupancy(slots=SLOTS, inflight=min(self._active, SLOTS), healthy=self._up)
