"""Noise on what a model makes of a text before it leaves: hidden rows and embeddings.

A hidden row says much of the text that it was made of. Noise blurs it, at the price of what the
row is good for; how much of either is a choice, so both numbers are told together:

    metric    direction uniform on the sphere, length from Gamma(n, 1/epsilon): metric
              differential privacy with the Euclidean distance. Two texts whose rows lie a
              distance d apart can be told apart by a factor of exp(epsilon * d) at most. The
              mean length is n/epsilon: with n = 384 a useful epsilon is in the thousands, which
              protects what lies within 1/epsilon and no more.
    gaussian  standard deviation ``std`` in each dimension; no promise about single texts.

Source: Feyisetan et al. 2020, "Privacy- and Utility-Preserving Textual Analysis via Calibrated
Multivariate Perturbations"; as used for retrieval in RemoteRAG (Cheng et al. 2024).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

KINDS = ("none", "metric", "gaussian")


class NoiseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to rows of ``dimensions`` values; shown with what was sent, never the rows.

    ``epsilon`` is 0 where no metric privacy is promised. ``mean_distance``: how far a row moves
    on average, in the units of the rows.
    """

    kind: str
    dimensions: int
    epsilon: float
    mean_distance: float


class StateNoise:
    """The noise of one configuration; raises :class:`ConfigError` for one that is none.

    Its ``repr`` and its report hold no row.
    """

    def __init__(self, kind: str = "none", *, epsilon: float = 0.0, std: float = 0.0) -> None:
        wrong = {
            "metric": not (math.isfinite(epsilon) and epsilon > 0),
            "gaussian": not (math.isfinite(std) and std > 0),
        }
        if kind not in KINDS:
            raise ConfigError(f"{kind!r} is no noise", hint=f"one of {', '.join(KINDS)}")
        if wrong.get(kind, False):
            field = "epsilon" if kind == "metric" else "std"
            raise ConfigError(f"noise of the kind {kind} needs a finite {field} above 0")
        self.kind, self.epsilon, self.std = kind, epsilon, std

    def __repr__(self) -> str:
        return f"StateNoise({self.kind}, epsilon={self.epsilon:g}, std={self.std:g})"

    def apply(self, rows: ArrayLike, rng: np.random.Generator) -> NDArray[np.float32]:
        """``rows``, shape (..., n), with noise for each row of its own, as float32.

        ``rng`` should be seeded from the system: who can guess it can take the noise off.
        Raises :class:`ValueError` for rows that are not finite.
        """
        import numpy as np

        values = np.asarray(rows, dtype=np.float64)
        if values.ndim == 0 or not np.isfinite(values).all():
            raise ValueError("rows must be finite numbers, shape (..., n)")
        if self.kind == "gaussian":
            values = values + rng.normal(0.0, self.std, values.shape)
        elif self.kind == "metric":
            size = values.shape[-1]
            direction = rng.standard_normal(values.shape)
            direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
            length = rng.gamma(size, 1.0 / self.epsilon, (*values.shape[:-1], 1))
            values = values + length * direction
        return values.astype(np.float32)

    def report(self, dimensions: int) -> NoiseReport:
        """What :meth:`apply` does to rows of ``dimensions`` values."""
        distance = 0.0
        if self.kind == "metric":
            distance = dimensions / self.epsilon
        elif self.kind == "gaussian":
            # The mean of the chi distribution with n degrees of freedom, times std.
            half = dimensions / 2
            distance = (
                self.std * math.sqrt(2) * math.exp(math.lgamma(half + 0.5) - math.lgamma(half))
            )
        return NoiseReport(
            kind=self.kind,
            dimensions=dimensions,
            epsilon=self.epsilon if self.kind == "metric" else 0.0,
            mean_distance=distance,
        )
