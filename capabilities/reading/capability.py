"""``computation.gpt/extract``: reads a chunk for a task, by patterns; see :mod:`.extract`.

It takes the same request as a model that reads (:data:`capabilities.slm.tasks.EXTRACT_JSON`) and
gives the same answer, strict JSON with a citation or null, so that either can be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.messages import Done, Generate, Usage, decode, encode
from capabilities.reading.extract import extract
from mesh.core.errors import WireError
from mesh.core.records import ServedName

EXTRACT_NAME = "computation.gpt/extract"
KIND = "extract"  # answers tasks about a text it is given, never a question by itself
MODEL = "extractive"  # what its answers say they are from: patterns, no model
SLOTS = 4  # pieces read at once: each takes a thread for about a millisecond
_HEAD, _QUESTION = "Text:\n", "\nQuestion: "


class ExtractCapability(Capability):
    """Offers the extractive reader to the mesh."""

    def __init__(self) -> None:
        self._active = 0

    @property
    def names(self) -> Sequence[ServedName]:
        return (
            ServedName(
                name=EXTRACT_NAME,
                domain="computation",
                description="Finds a fact in a piece of text by patterns, with its citation.",
                kind=KIND,
                model=MODEL,
            ),
        )

    def admit(self, request: Request) -> Admission:
        if self._active >= SLOTS:
            return Admission(accepted=False, reason="all readers are busy", retry_after_s=0.05)
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        self._active += 1
        try:
            body = decode(request.body, Generate)
            text, task = parted(body.messages[-1].content if body.messages else "")
            answer = await asyncio.to_thread(answer_json, text, task)
            usage = Usage(prompt_tokens=len(text) // 4, completion_tokens=len(answer) // 4)
            yield encode(Done(text=answer, finish="stop", model=MODEL, usage=usage))
        finally:
            self._active -= 1

    def occupancy(self) -> Occupancy:
        return Occupancy(slots=SLOTS, inflight=self._active)


def parted(content: str) -> tuple[str, str]:
    """The text and the task of a request; raises :class:`WireError` where it is none."""
    text, found, task = content.rpartition(_QUESTION)
    if not found or not text.startswith(_HEAD):
        raise WireError("a reader is asked with 'Text:' and 'Question:'")
    return text.removeprefix(_HEAD), task


def answer_json(text: str, task: str) -> str:
    """The reader's answer as strict JSON: an object, or null."""
    found = extract(text, task)
    if found is None:
        return "null"
    return msgspec.json.encode(
        {"explanation": found.explanation, "citation": found.citation, "answer": found.answer}
    ).decode()
