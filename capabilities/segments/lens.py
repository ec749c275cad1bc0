"""An early exit for a model that was trained without, in closed form; pure arithmetic.

The tuned lens (Belrose et al. 2023): what the layers behind an exit do to a row is approximated by
one linear map, fitted on rows of the model itself. With u the row that leaves layer k over its root
mean square, and z the row that the model's own head sees, M minimises |M u - z|^2 by ridge
regression, and the exit's head is the model's head times M. The ridge pulls towards the logit lens,
which is M if the layers behind did nothing: what too few rows cannot tell stays as it is there.

A row is a row of a matrix here, so maps are stored transposed: z = u X.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capabilities.segments.calibration import LEAST, SURE, Calibration, fit
from capabilities.segments.rows import Floats

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Ridges that are tried, as shares of the mean square of what comes in (1 for normed rows). The one
# that predicts answers best that it was not fitted on is taken.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_ODDS = math.log((1 - LEAST) / LEAST)  # beyond, 32 bits do not tell probabilities apart


def normed(rows: Floats, epsilon: float) -> Floats:
    """Rows over their root mean square, as llama.cpp's norm with weights of one."""
    square = np.mean(np.square(rows, dtype=np.float64), axis=-1, keepdims=True)
    found: Floats = (rows / np.sqrt(square + epsilon)).astype(np.float32)
    return found


class Sums:
    """All that ridge regression needs of pairs of rows, however many there are."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self.within = np.zeros((width, width))  # u'u
        self.across = np.zeros((width, width))  # u'z
        self.square = 0.0  # |z|^2

    def add(self, given: Floats, wanted: Floats) -> None:
        """Rows that come in and the rows that shall come out, `[n, width]` each."""
        u, z = given.astype(np.float64), wanted.astype(np.float64)
        self.rows += len(u)
        self.within += u.T @ u
        self.across += u.T @ z
        self.square += float(np.sum(np.square(z)))

    def error(self, matrix: Doubles) -> float:
        """|u X - z|^2 over all pairs."""
        found = np.sum(matrix * (self.within @ matrix - 2.0 * self.across)) + self.square
        return max(0.0, float(found))

    def __add__(self, other: Sums) -> Sums:
        both = Sums(len(self.within))
        both.rows = self.rows + other.rows
        both.within = self.within + other.within
        both.across = self.across + other.across
        both.square = self.square + other.square
        return both


@dataclass(frozen=True)
class Lens:
    """X `[width, width]`, the ridge that was taken, and the share of |z|^2 that it explains of
    answers that it was not fitted on."""

    matrix: Floats
    ridge: float
    explained: float


def solved(sums: Sums, prior: Doubles, ridge: float) -> Doubles:
    """X that minimises |u X - z|^2 + ridge |X - diag(prior)|^2, times rows and mean square."""
    width = len(prior)
    start = np.diag(prior)
    scale = np.trace(sums.within) / width or 1.0
    left = sums.within + ridge * scale * np.eye(width)
    found: Doubles = start + np.linalg.solve(left, sums.across - sums.within * prior)
    return found


def fitted(learnt: Sums, held: Sums, prior: Doubles) -> Lens:
    """The lens of an exit: its ridge chosen by the pairs in ``held``, then fitted on all.

    ``prior``: the weights of the model's last norm. Without held pairs the largest ridge is taken.
    """
    tried = {ridge: held.error(solved(learnt, prior, ridge)) for ridge in reversed(RIDGES)}
    ridge = min(tried, key=lambda one: tried[one])
    matrix = solved(learnt + held, prior, ridge)
    explained = 1.0 - tried[ridge] / held.square if held.square else 0.0
    return Lens(matrix.astype(np.float32), ridge, explained)


def head_piece(output: Floats, lens: Lens) -> Floats:
    """So many rows of an exit's head, `[n, width]`, from those of the model's head."""
    return output @ lens.matrix.T


class Best:
    """The likeliest token of each row, over a vocabulary that comes in pieces, and its log odds.

    Against the sum of all others nothing cancels out, so 32 bits are enough for a probability of
    nearly one.
    """

    def __init__(self, rows: int) -> None:
        self.token = np.zeros(rows, dtype=np.int64)
        self._top = np.full(rows, -np.inf)
        self._rest = np.full(rows, -np.inf)  # logarithm of the sum over all others

    def add(self, first: int, logits: Floats) -> None:
        """Logits `[rows, n]` of the tokens ``first`` and up, in their order; they are changed."""
        lines = np.arange(len(logits))
        token = logits.argmax(axis=1)
        top = logits[lines, token].astype(np.float64)
        logits[lines, token] = -np.inf
        rest = _log_sum(logits)
        better = top > self._top
        loser = np.where(better, self._top, top)
        self._rest = np.logaddexp(np.logaddexp(self._rest, rest), loser)
        self._top = np.where(better, top, self._top)
        self.token = np.where(better, token + first, self.token)

    @property
    def odds(self) -> Doubles:
        """Log odds of the likeliest token of each row, as far as 32 bits tell."""
        found: Doubles = np.clip(self._top - self._rest, -MOST_ODDS, MOST_ODDS)
        return found


def _log_sum(values: Floats) -> Doubles:
    most = values.max(axis=1, keepdims=True)
    finite = np.where(np.isfinite(most), most, np.float32(0.0))
    with np.errstate(divide="ignore"):
        found: Doubles = np.log(np.exp(values - finite).sum(axis=1, dtype=np.float64))
    return found + finite[:, 0]


@dataclass(frozen=True)
class Read:
    """What one exit said over all tokens that were held out: log odds of its best token, whether it
    is not the whole model's, and in which answer."""

    odds: Doubles
    wrong: Flags
    answer: npt.NDArray[np.int64]


def measured(said: Mapping[int, Read], answers: int) -> dict[int, Calibration]:
    """How far each exit may be believed, by its layer, with the figures at the default threshold
    beside it; ``answers`` were read."""
    worst: dict[int, Sequence[float]] = {}
    for layer, one in said.items():
        most = np.full(answers, -np.inf)
        np.maximum.at(most, one.answer[one.wrong], one.odds[one.wrong])
        worst[layer] = most.tolist()
    return {
        layer: _told(scale, shift, worst[layer], said[layer])
        for layer, (scale, shift) in fit(worst).items()
    }


def _told(scale: float, shift: float, worst: Sequence[float], said: Read) -> Calibration:
    least = shift + scale * math.log(SURE / (1 - SURE))
    sure: Any = said.odds >= least
    return Calibration(
        scale=scale,
        shift=shift,
        answers=len(worst),
        tokens=len(said.odds),
        sure=float(sure.mean()) if len(sure) else 0.0,
        wrong=float(said.wrong[sure].mean()) if sure.any() else 0.0,
        parted=sum(value >= least for value in worst) / max(1, len(worst)),
    )
