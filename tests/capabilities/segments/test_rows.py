"""Rows travel in half precision; what does not fit keeps its size, what is broken is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.segments.rows import Packed, pack, payload, unpack
from mesh.core.errors import WireError


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 100.0, 60_000.0]))
def test_rows_come_back_within_half_precision(seed: int, size: float) -> None:
    rows = (np.random.default_rng(seed).standard_normal((3, 8)) * size / 4).astype(np.float32)
    back = unpack(pack(rows), 8)
    assert np.allclose(back, rows, rtol=1e-3, atol=size * 1e-4)
    assert payload(pack(rows)) == 3 * 8 * 2


def test_values_beyond_half_precision_travel_with_a_scale() -> None:
    rows = np.array([[1.0, -200_000.0, 3.0], [0.5, 0.25, 0.125]], dtype=np.float32)
    packed = pack(rows)
    assert len(packed.scales) == 2
    back = unpack(packed, 3)
    assert np.allclose(back[1], rows[1])
    assert abs(back[0, 1] + 200_000.0) < 200
    assert payload(packed) == 2 * 3 * 2 + 2 * 4


def test_thirty_two_bits_are_exact() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    assert np.array_equal(unpack(pack(rows, "f32"), 5), rows)


def test_what_is_no_number_is_not_sent() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        pack(np.array([[np.nan]], dtype=np.float32))


@pytest.mark.parametrize(
    "packed",
    [
        Packed(width=2, data=np.array([1, np.inf], "<f2").tobytes()),
        Packed(width=2, data=np.array([1, 2], "<f2").tobytes(), scales=[float("inf")]),
        Packed(width=2, data=np.array([np.nan, 2], "<f4").tobytes(), dtype="f32"),
    ],
)
def test_rows_that_are_no_numbers_are_refused(packed: Packed) -> None:
    with pytest.raises(WireError):
        unpack(packed, 2)


def test_rows_of_another_model_are_refused() -> None:
    with pytest.raises(WireError, match="takes 8"):
        unpack(Packed(width=2, data=b"\0\0\0\0"), 8)


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0, "data": b""},
        {"width": 4, "data": b"\0" * 9},
        {"width": 1, "data": b"\0\0", "dtype": "f64"},
        {"width": 1, "data": b"\0\0\0\0", "scales": [1.0]},
    ],
)
def test_blocks_that_do_not_add_up_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"rows|row"):
        Packed(**fields)  # type: ignore[arg-type]
