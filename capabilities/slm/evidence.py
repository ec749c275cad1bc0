"""How sure a model was, token by token, from its raw logits; all rows of a step at once.

Epistemic and aleatoric uncertainty follow LogTokU: the logits of the K best tokens, shifted to
the model's own zero, are the evidence of a Dirichlet distribution,

    alpha_i = max(0, z_i - shift),  alpha_0 = sum alpha_i
    EU = K / (alpha_0 + K)
    AU = -sum (alpha_i / alpha_0) (psi(alpha_i + 1) - psi(alpha_0 + 1))

The shift matters: softmax ignores a constant added to all logits, this does not, and a model
whose logits are mostly negative would always seem ignorant. It is the median over a calibration
run of the (K+1)-th best logit, per model and quantization (:func:`calibrate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capabilities.messages import Evidence

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

TOP_K = 5  # as in the released script of LogTokU
_GROUP = 128  # columns whose maximum is taken first; one partition of all takes three times as long


def top(logits: Floats, k: int) -> Ints:
    """The columns of the ``k`` largest values of each row, best first: (rows, k).

    The k largest lie in the k groups with the largest maxima, so only those are searched.
    """
    rows, width = logits.shape
    k = min(k, width)
    groups = width // _GROUP
    if groups <= 2 * k:
        columns = np.argpartition(logits, width - k, axis=1)[:, width - k :]
    else:
        cut = groups * _GROUP
        maxima = logits[:, :cut].reshape(rows, groups, _GROUP).max(axis=2)
        best = np.argpartition(maxima, groups - k, axis=1)[:, groups - k :]
        spans = (best[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(rows, -1)
        rest = np.broadcast_to(np.arange(cut, width), (rows, width - cut))
        candidates = np.concatenate([spans, rest], axis=1)
        values = np.take_along_axis(logits, candidates, axis=1)
        inner = np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]
        columns = np.take_along_axis(candidates, inner, axis=1)
    order = np.argsort(-np.take_along_axis(logits, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def digamma(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """psi(x) for x >= 1, to about 1e-9: the recurrence up to 6, then the asymptotic series.

    Source: Abramowitz and Stegun 6.3.5 and 6.3.18.
    """
    steps = np.zeros_like(x)
    for i in range(6):
        steps -= 1.0 / (x + i)
    y = x + 6.0
    inverse = 1.0 / (y * y)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    return steps + np.log(y) - 0.5 / y - series


@dataclass(frozen=True, slots=True)
class Rows:
    """Measures of each row of a step: ``log_z`` turns a logit into a log-probability."""

    logits: Floats
    best: Ints  # (rows, k), best first
    log_z: Floats
    entropy: Floats  # nats
    epistemic: Floats
    aleatoric: Floats

    def logprob(self, row: int, token: int) -> float:
        """The natural-log probability of ``token`` in ``row``."""
        return float(self.logits[row, token] - self.log_z[row])


def measure(logits: Floats, *, shift: float, k: int = TOP_K) -> Rows:
    """Measure raw logits of shape (rows, vocabulary), before any sampler; ``k`` best are kept."""
    best = top(logits, max(k, TOP_K))
    peak = np.take_along_axis(logits, best[:, :1], axis=1)
    weights = np.exp(logits - peak)
    total = weights.sum(axis=1)
    log_z = np.log(total) + peak[:, 0]
    # H = log Z - E[z]; einsum avoids a temporary of the size of the vocabulary.
    mean = np.einsum("ij,ij->i", weights, logits) / total
    width = min(TOP_K, best.shape[1])
    z = np.take_along_axis(logits, best[:, :width], axis=1).astype(np.float64)
    alpha = np.maximum(0.0, z - shift)
    alpha_0 = alpha.sum(axis=1)
    epistemic = width / (alpha_0 + width)
    share = alpha / np.maximum(alpha_0, 1e-9)[:, None]
    psi = digamma(np.column_stack([alpha, alpha_0]) + 1)
    aleatoric = -(share * (psi[:, :-1] - psi[:, -1:])).sum(axis=1)
    return Rows(
        logits=logits,
        best=best,
        log_z=log_z.astype(np.float32),
        entropy=np.maximum(log_z - mean, 0.0).astype(np.float32),
        epistemic=epistemic.astype(np.float32),
        aleatoric=aleatoric.astype(np.float32),
    )


def calibrate(logits: Floats) -> float:
    """The shift of a model: the median of the (K+1)-th best logit over the rows given."""
    return float(np.median(np.partition(logits, -TOP_K - 1, axis=1)[:, -TOP_K - 1]))


@dataclass(slots=True)
class Tally:
    """Sums over the tokens of one answer, or of the scratchpad before it."""

    tokens: int = 0
    logprob: float = 0.0
    lowest: float = 0.0
    entropy: float = 0.0
    epistemic: float = 0.0
    aleatoric: float = 0.0

    def add(self, rows: Rows, row: int, token: int) -> None:
        """Count the sampled token of a row."""
        logprob = rows.logprob(row, token)
        self.tokens += 1
        self.logprob += logprob
        self.lowest = min(self.lowest, logprob)
        self.entropy += float(rows.entropy[row])
        self.epistemic += float(rows.epistemic[row])
        self.aleatoric += float(rows.aleatoric[row])

    def evidence(self, working: Tally | None = None) -> Evidence:
        """The means; an answer without visible tokens has the neutral evidence of one.

        ``working`` is the tally of the scratchpad.
        """
        thought = working or Tally()
        count, thoughts = max(1, self.tokens), max(1, thought.tokens)
        return Evidence(
            mean_logprob=self.logprob / count,
            min_probability=float(np.exp(self.lowest)),
            mean_entropy=self.entropy / count,
            epistemic=self.epistemic / count,
            aleatoric=self.aleatoric / count,
            working_mean_logprob=thought.logprob / thoughts,
            working_min_probability=float(np.exp(thought.lowest)),
            working_epistemic=thought.epistemic / thoughts,
            working_aleatoric=thought.aleatoric / thoughts,
        )
