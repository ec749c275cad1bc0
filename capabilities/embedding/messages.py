"""What a call to ``computation.gpt/embed`` carries: texts there, vectors with their space back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from capabilities.embedding.space import Space
from mesh.core.errors import WireError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

EMBED = "computation.gpt/embed"
KIND = "embed"  # of the served name: what answers is no text
MAX_TEXTS = 256  # of one call: the answer of 384 dimensions fits eight frames of the bulk lane


class Embed(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed. With ``space``, a node of another space refuses instead of answering."""

    texts: list[str]
    space: Space | None = None


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of 32-bit floats, little-endian, one after another; ``first`` counts from 0.

    A long answer comes as several of these, in order.
    """

    space: Space
    rows: int
    data: bytes
    first: int = 0

    def matrix(self) -> Floats:
        """Shape (rows, dimensionality); raises :class:`WireError` when the bytes do not fit."""
        expected = self.rows * self.space.dimensionality * 4
        if self.rows < 0 or len(self.data) != expected:
            raise WireError(
                f"{self.rows} vectors of {self.space.describe()} are {expected} bytes, "
                f"not {len(self.data)}"
            )
        import numpy as np  # an agent that embeds nothing starts without it

        made: Floats = np.frombuffer(self.data, "<f4").reshape(self.rows, -1).astype(np.float32)
        if not np.isfinite(made).all():
            raise WireError("a vector holds a number that is not finite")
        return made


def vectors(space: Space, rows: Floats, first: int = 0) -> Vectors:
    """Rows of shape (n, dimensionality) as they travel."""
    return Vectors(space=space, rows=len(rows), data=rows.astype("<f4").tobytes(), first=first)
