"""Long answers by outline, as programs see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from agents.faces.client import Result
from agents.library.doors import Doors
from agents.library.events import Plan, Step
from agents.views import AnswerView
from mesh.core.errors import GossamerError

WRITE_S = 120.0
GRACE_S = 5.0


class OutlinePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One part of an outline."""

    title: str
    sketch: str = ""


class WrittenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A text. ``mode`` is direct (too short for an outline), outline or private; ``outline_by``
    the node that wrote the outline, empty with ``fallback`` (why) where it is the fixed one;
    ``candidates`` how many texts were written for its points."""

    answer: AnswerView
    mode: str
    outline: list[OutlinePoint] = []
    outline_by: str = ""
    fallback: str = ""
    predicted_tokens: int = 0
    outline_chars: int = 0
    candidates: int = 0


class Writing:
    """The verbs of an :class:`~agents.library.remote.Agent` about long texts."""

    _doors: Doors

    async def write(self, instruction: str, **options: Any) -> WrittenAnswer:
        """The whole text; the options are those of :meth:`write_stream`."""
        found: WrittenAnswer | None = None
        events = self.write_stream(instruction, **options)
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, WrittenAnswer):
                    found = event
        if found is None:
            raise GossamerError("the text ended before it was whole")
        return found

    async def write_stream(
        self,
        instruction: str,
        *,
        private: str = "",
        strong: str = "",
        length: int = 0,
        timeout_s: float = WRITE_S,
        reach: str = "mesh",
        trace: str = "",
    ) -> AsyncIterator[Plan | Step | WrittenAnswer]:
        """The outline's points as steps, each when it is written, and last the whole text.

        ``private`` is read by the agent's own model and by no other node. ``strong`` is the name
        whose biggest node writes the outline, or "cloud" (with ``reach`` cloud); ``length`` in
        tokens, 0: as the agent predicts.
        """
        args = {
            "instruction": instruction,
            "private": private,
            "strong": strong,
            "length": length,
            "timeout_s": timeout_s,
            "reach": reach,
            "trace": trace,
        }
        items = self._doors.request("write", args, silence_s=timeout_s + GRACE_S)
        async with aclosing(items):  # type: ignore[type-var]
            async for item in items:
                if isinstance(item, Result):
                    yield msgspec.convert(item.value, WrittenAnswer)
                elif item.get("type") in {"plan", "step"}:
                    yield msgspec.convert(item, Plan | Step)
