"""Sums as statistics: rows of values become integers to be summed, the sums become a mean,
a variance or a histogram. Fixed point: a value is rounded to a multiple of 2^-fraction_bits,
and the sum of the rounded values is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mesh.core.sum_messages import SumPlan, SumRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from mesh.core.sum_masking import Cells


class SumResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. ``inputs`` nodes are in it, ``dropped`` are not.

    ``rows``: rows of all nodes together (mean, variance, histogram; -1 for a sum). ``sums`` has
    ``columns`` values, and so have ``means`` and ``variances`` (of the population) where the
    plan asks for them. ``counts``: below the first edge, between the edges (lower edge
    included), from the last edge on.
    """

    inputs: int
    dropped: tuple[bytes, ...]
    rows: float = -1.0
    sums: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    variances: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()


def encode(plan: SumPlan, rows: ArrayLike) -> Cells:
    """One node's input: ``rows``, shape (rows, columns) or (columns,) for one row, as cells.

    Returns unsigned 64-bit integers of shape (plan.cells,). Raises :class:`SumRefused` for
    another shape, for what is not a finite number, and beyond the plan's bound: nothing is
    clipped in silence.
    """
    import numpy as np

    values = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    if values.size == 0:
        values = values.reshape(0, plan.columns)
    if values.ndim != 2 or values.shape[1] != plan.columns:
        raise SumRefused(
            f"the data has shape {values.shape}, the plan asks for {plan.columns} columns"
        )
    if not np.isfinite(values).all():
        raise SumRefused("the data holds a number that is not finite: clean it first")
    with np.errstate(over="ignore"):  # what overflows is beyond every bound
        parts = _parts(plan, values)
    if np.abs(parts).max(initial=0.0) > plan.bound:
        raise SumRefused(
            f"this node's part exceeds the bound of {plan.bound:g}",
            hint="plan the sum with a larger bound",
        )
    return np.rint(parts * 2.0**plan.fraction_bits).astype(np.int64).view(np.uint64)


def _parts(plan: SumPlan, values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    if plan.kind == "histogram":
        bins = np.searchsorted(np.asarray(plan.edges), values[:, 0], side="right")
        return np.bincount(bins, minlength=plan.cells).astype(np.float64)
    sums: NDArray[np.float64] = values.sum(axis=0)
    if plan.kind == "sum":
        return sums
    count = np.array([float(len(values))])
    if plan.kind == "mean":
        return np.concatenate([count, sums])
    return np.concatenate([count, sums, np.square(values).sum(axis=0)])


def decode(plan: SumPlan, total: Cells, inputs: int, dropped: Sequence[bytes]) -> SumResult:
    """The statistics behind the summed cells, shape (plan.cells,)."""
    import numpy as np

    values = total.view(np.int64) / 2.0**plan.fraction_bits
    gone = tuple(dropped)
    if plan.kind == "sum":
        return SumResult(inputs=inputs, dropped=gone, sums=_tuple(values))
    if plan.kind == "histogram":
        return SumResult(
            inputs=inputs, dropped=gone, rows=float(values.sum()), counts=_tuple(values)
        )
    rows = float(values[0])
    sums = values[1 : 1 + plan.columns]
    if rows <= 0:  # nobody had a row, or the noise is larger than the group
        return SumResult(inputs=inputs, dropped=gone, rows=rows, sums=_tuple(sums))
    means = sums / rows
    variances: tuple[float, ...] = ()
    if plan.kind == "variance":
        squares = values[1 + plan.columns :] / rows
        # Rounding and noise can put it a little below zero, which no variance is.
        variances = _tuple(np.maximum(0.0, squares - np.square(means)))
    return SumResult(
        inputs=inputs,
        dropped=gone,
        rows=rows,
        sums=_tuple(sums),
        means=_tuple(means),
        variances=variances,
    )


def _tuple(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
