"""Hidden rows as they travel: half precision, safe where a model's rows do not fit into it; pure.

Half precision halves the bytes. The residual stream of some models carries single values beyond
65,504, its largest number; a row of that kind travels divided by a scale of its own.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from mesh.core.errors import WireError

LARGEST_HALF = 65_504.0
MAX_WIDTH = 65_536
MAX_ROWS = 65_536
BYTES = {"f16": 2, "f32": 4}

Floats = npt.NDArray[np.float32]


class Packed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rows, row-major and little-endian; ``scales`` multiplies them, one per row, or is empty."""

    width: int
    data: bytes
    dtype: str = "f16"
    scales: list[float] = []

    def __post_init__(self) -> None:
        if self.dtype not in BYTES or not 0 < self.width <= MAX_WIDTH:
            raise ValueError("rows of an unknown type or width")
        if len(self.data) % (self.width * BYTES[self.dtype]) or self.rows > MAX_ROWS:
            raise ValueError("the bytes are not whole rows")
        if self.scales and len(self.scales) != self.rows:
            raise ValueError("scales and rows differ in number")

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.data) // (self.width * BYTES[self.dtype])


def pack(rows: Floats, dtype: str = "f16") -> Packed:
    """Rows (n, width) for the wire; raises ValueError for what is not finite."""
    if not np.isfinite(rows).all():
        raise ValueError("hidden rows that are no numbers")
    width = rows.shape[1]
    if dtype == "f32":
        return Packed(width=width, data=rows.astype("<f4").tobytes(), dtype="f32")
    largest = np.abs(rows).max(axis=1, initial=0.0)
    if (largest <= LARGEST_HALF).all():
        return Packed(width=width, data=rows.astype("<f2").tobytes())
    # Rounded to float32 first: both sides must multiply by the same number.
    scales = np.maximum(1.0, largest / LARGEST_HALF).astype(np.float32)
    halves = np.clip(rows / scales[:, None], -LARGEST_HALF, LARGEST_HALF).astype("<f2")
    return Packed(width=width, data=halves.tobytes(), scales=[float(s) for s in scales])


def unpack(packed: Packed, width: int) -> Floats:
    """Rows (n, width) as float32; raises WireError when they are of another model or no numbers."""
    if packed.width != width:
        raise WireError(f"rows of {packed.width} numbers; this model takes {width}")
    kind = "<f2" if packed.dtype == "f16" else "<f4"
    rows: Floats = np.frombuffer(packed.data, dtype=kind).astype(np.float32).reshape(-1, width)
    if packed.scales:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = rows * np.asarray(packed.scales, dtype=np.float32)[:, None]
    if not np.isfinite(rows).all():
        raise WireError("hidden rows that are no numbers")
    return rows


def payload(packed: Packed) -> int:
    """Bytes of the rows themselves; envelopes are counted apart."""
    return len(packed.data) + 4 * len(packed.scales)
