"""Embeds texts with the model that also generates, one text between two decode steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from capabilities.slm import llama, protocol
from capabilities.slm.engine import Emit, internal
from capabilities.slm.errors import BadRequest, ContextFull
from mesh.core.errors import GossamerError, ModelError, Rejected

MAX_TOKENS = 512  # the longest text; one text is one step, and the streams wait for it


@dataclass(slots=True)
class _Job:
    command: protocol.Embed
    rows: list[llama.Floats] = field(default_factory=list)


class Embedder:
    """A queue of Embed requests and a context of its own, made on first use."""

    def __init__(self, model: llama.Model, *, threads: int, max_waiting: int) -> None:
        self._model = model
        self._threads = threads
        self._max_waiting = max_waiting
        self._jobs: deque[_Job] = deque()
        self._parts: tuple[llama.Context, llama.Batch] | None = None

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._jobs)

    def close(self) -> None:
        """Free the context."""
        if self._parts is not None:
            self._parts[0].close()
            self._parts = None

    def submit(self, command: protocol.Embed) -> None:
        """Put a request in line; raises BadRequest or Rejected."""
        if len(command.texts) > protocol.MAX_EMBED_TEXTS:
            raise BadRequest(f"more than {protocol.MAX_EMBED_TEXTS} texts to embed at once")
        if len(self._jobs) >= self._max_waiting:
            raise Rejected(f"{len(self._jobs)} requests to embed already wait")
        self._jobs.append(_Job(command))

    def cancel(self, request_id: int) -> None:
        """Forget a request."""
        for job in list(self._jobs):
            if job.command.id == request_id:
                self._jobs.remove(job)

    def step(self, emit: Emit) -> bool:
        """Embed one text of the oldest request; False when there is none."""
        if not self._jobs:
            return False
        job = self._jobs[0]
        request_id, texts = job.command.id, job.command.texts
        try:
            if len(job.rows) < len(texts):
                job.rows.append(self.embed(texts[len(job.rows)]))
            if len(job.rows) < len(texts):
                return True
            reply: protocol.Reply = protocol.Embedded(id=request_id, block=self._block(job))
        except GossamerError as error:
            reply = protocol.failed(request_id, error)
        except Exception as error:
            reply = protocol.failed(request_id, internal(error))
        self._jobs.popleft()
        emit(reply)
        return True

    def embed(self, text: str) -> llama.Floats:
        """One text as a row of shape (width,), not normalised.

        It is what the model itself pools, or the mean of its hidden rows. Raises ContextFull.
        """
        context, batch = self._context()
        tokens = self._model.vocab.tokenize(text, special=False, add_special=True)
        if not 0 < len(tokens) <= batch.size:
            raise ContextFull(
                f"a text to embed has {len(tokens)} tokens; it may have 1 to {batch.size}",
                hint="cut it into passages",
            )
        context.forget(0)
        batch.clear()
        batch.add(tokens, 0, 0, outputs=len(tokens))
        code = context.decode(batch)
        if code:
            raise ModelError(f"llama.cpp could not embed this text (code {code})")
        if context.pools:
            pooled: llama.Floats = context.pooled(0)[0].copy()
            return pooled
        mean: llama.Floats = context.hidden(len(tokens)).mean(axis=0)
        return mean

    def _context(self) -> tuple[llama.Context, llama.Batch]:
        if self._parts is None:
            size = min(MAX_TOKENS, self._model.trained_context or MAX_TOKENS)
            shape = llama.ContextShape(
                tokens=size,
                batch=size,
                sequences=1,
                outputs=size,
                threads=self._threads,
                embeddings=True,
            )
            self._parts = llama.Context(self._model, shape), llama.Batch(size)
        return self._parts

    def _block(self, job: _Job) -> protocol.Block:
        if not job.rows:
            return protocol.Block(rows=0, width=self._model.width)
        matrix = np.stack(job.rows).astype("<f4")
        if job.command.normalize:
            matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        rows, width = matrix.shape
        return protocol.Block(rows=rows, width=width, data=matrix.tobytes())
