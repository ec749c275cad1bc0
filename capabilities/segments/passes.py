"""What a half of a model needs of the worker that runs it; a ModelHost of a segment's file is one.

Law 7: the weights are in a process of their own. A test or a benchmark may put a slower one here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from capabilities.slm.protocol import Block, Forwarded, SequenceState


class Passes(Protocol):
    """Forward passes over sequences that the caller names; see :class:`ModelHost`."""

    async def forward(
        self,
        sequence: str,
        position: int,
        given: Sequence[int] | Block,
        *,
        timeout_s: float,
        logprobs: int = 0,
        want_rows: bool = False,
        layer: int = -1,
        dtype: str = "f32",
        all_rows: bool = False,
        fork: str = "",
    ) -> Forwarded:
        """One pass over tokens or rows, over a copy of the sequence ``fork`` if one is named.

        Raises SequenceLost, Rejected, ModelError.
        """

    async def drop_sequence(self, sequence: str, *, timeout_s: float) -> None:
        """Forget a sequence."""

    async def save_sequence(self, sequence: str, *, timeout_s: float) -> SequenceState:
        """The state of a sequence; raises SequenceLost."""

    async def restore_sequence(
        self, sequence: str, state: SequenceState, *, timeout_s: float
    ) -> None:
        """Open or replace a sequence by a state."""
