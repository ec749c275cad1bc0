"""The space that a vector lives in: vectors of different spaces never meet.

A cosine between vectors of two models is a number without a meaning, and nothing about the
vectors betrays it. So every vector travels with its space, and whoever compares checks first.
"""

from __future__ import annotations

import msgspec

from mesh.core.errors import ConfigError, GossamerError

MAX_WIDTH = 8192  # of a vector from a peer; a wider one is no sentence embedding


class SpaceMismatch(GossamerError):
    """Two vectors of different spaces were about to be compared."""


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vector lives. ``digest`` is of the model's weights: same name, other file, no match.

    ``dimensionality`` is the number of components; ``normalised`` says that every vector has
    length one, so that a dot product is a cosine.
    """

    model: str
    dimensionality: int
    normalised: bool = True
    digest: str = ""

    def __post_init__(self) -> None:
        if not self.model or not 0 < self.dimensionality <= MAX_WIDTH:
            raise ConfigError(
                f"a space names its model and has 1 to {MAX_WIDTH} dimensions",
                hint=f"this one says {self.model!r} and {self.dimensionality}",
            )

    def require(self, other: Space) -> None:
        """Raise :class:`SpaceMismatch` unless vectors of both may be compared."""
        if self != other:
            raise SpaceMismatch(
                f"a vector of {other.describe()} cannot be compared with one of {self.describe()}",
                hint="embed the text again with the model of this side, or ask for this space",
            )

    def describe(self) -> str:
        """The space in a few words."""
        unit = "unit length" if self.normalised else "not normalised"
        return f"{self.model} ({self.dimensionality} dimensions, {unit}, {self.digest[:8] or '-'})"
