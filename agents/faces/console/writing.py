"""What is typed in the chat: a question, or a long text by outline (``/write``, ``/private``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

from agents.faces.cli.writing import read_private
from agents.faces.console.source import Source
from agents.library.events import AskedEvent
from agents.library.writing import WrittenAnswer
from capabilities.messages import Message
from mesh.core.errors import ConfigError

WRITE, PRIVATE = "/write", "/private"


async def asked(
    source: Source, typed: str, *, timeout_s: float, reach: str, history: Sequence[Message]
) -> AsyncIterator[AskedEvent]:
    """The events of what was typed; raises :class:`ConfigError` for a command without its text."""
    word, _, rest = typed.partition(" ")
    if word not in {WRITE, PRIVATE}:
        answer = source.stream(typed, timeout_s=timeout_s, reach=reach, history=history)
        async with aclosing(answer) as events:  # type: ignore[type-var]
            async for event in events:
                yield event
        return
    instruction, private = rest.strip(), ""
    if word == PRIVATE:
        file, _, instruction = instruction.partition(" ")
        if not file or not instruction.strip():
            raise ConfigError("which file, and what is to be written?", hint="/private FILE TEXT")
        private = await asyncio.to_thread(read_private, Path(file))
    elif not instruction:
        raise ConfigError("what is to be written?", hint="/write TEXT")
    strong = "cloud" if reach == "cloud" else ""
    written = source.write_stream(
        instruction, private=private, strong=strong, timeout_s=timeout_s, reach=reach
    )
    async with aclosing(written) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            yield piece.answer if isinstance(piece, WrittenAnswer) else piece
