"""The pieces that several test files of this folder use."""

from __future__ import annotations

import pytest

from capabilities.segments.files import Range, Segment, layers_of, split
from tests.capabilities.segments.halves import WHOLE, write_exits


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Segment]:
    """Layers 1-2 and 3-3 for the edge, and 3 to the last for the other half."""
    folder = tmp_path_factory.mktemp("segments")
    exits = write_exits(folder / "arithmetic.exits.gguf", 2, 3)
    ranges = [Range(1, 2), Range(3, 3), Range(3, layers_of(WHOLE))]
    made = split(WHOLE, ranges, folder, exits=exits)
    return dict(zip(("1-2", "3-3", "far"), made, strict=True))
