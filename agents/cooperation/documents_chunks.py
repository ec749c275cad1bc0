"""A long text in pieces that a small reader can hold, and which of them to read first."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from capabilities.reading.extract import terms
from capabilities.reading.units import spans
from mesh.core.errors import ConfigError

CHUNK_CHARS = 3000  # MinionS's longest chunk: what a small model's context holds with its task
LEAST_CHUNK_CHARS = 200  # below it a chunk holds no two sentences
# Of prose, in the vocabularies of today; with a small one a model needs more tokens, and refuses
# what does not fit, so that the estimate is on the short side.
CHARS_PER_TOKEN = 2.5
OVERLAP_SENTENCES = 2  # a fact over a border is whole in one of the two chunks
MAX_DOCUMENT_CHARS = 4 << 20  # what an agent holds of one document: a thousand pages
MAX_CHUNKS = 2048


class Chunk(msgspec.Struct, frozen=True):
    """A piece of the document, word for word: ``text`` is document[start:start + len(text)]."""

    id: int
    start: int
    text: str


def fitting(contexts: Sequence[int], around_chars: int, answer_tokens: int) -> int:
    """The longest chunk, in characters, that fits every reader: ``contexts`` are in tokens (0:
    unknown), ``around_chars`` what stands around the chunk in a request.

    A reader whose context holds no chunk at all sets no limit: it is not one to ask.
    """
    rooms = [
        int((context - answer_tokens) * CHARS_PER_TOKEN) - around_chars
        for context in contexts
        if context > 0
    ]
    return min([CHUNK_CHARS, *(room for room in rooms if room >= LEAST_CHUNK_CHARS)])


def chunked(text: str, limit: int = CHUNK_CHARS) -> list[Chunk]:
    """The text in chunks of whole sentences, at most ``limit`` characters, with overlap; a
    sentence above the limit is cut. Raises :class:`ConfigError` when it is too long."""
    if len(text) > MAX_DOCUMENT_CHARS:
        raise ConfigError(
            f"the document has {len(text)} characters, at most {MAX_DOCUMENT_CHARS} are taken",
            hint="ask about a part of it",
        )
    pieces = [
        (cut, min(cut + limit, end))
        for start, end in spans(text)
        for cut in range(start, end, limit)
    ]
    chunks: list[Chunk] = []
    first = 0
    while first < len(pieces):
        start, last = pieces[first][0], first
        while last + 1 < len(pieces) and pieces[last + 1][1] - start <= limit:
            last += 1
        chunks.append(Chunk(len(chunks), start, text[start : pieces[last][1]]))
        if last + 1 == len(pieces):
            break
        # Back by the overlap, but always on.
        first = max(first + 1, last + 1 - min(OVERLAP_SENTENCES, last - first))
    if len(chunks) > MAX_CHUNKS:
        raise ConfigError(f"the document has {len(chunks)} pieces, at most {MAX_CHUNKS} are read")
    return chunks


class Selector:
    """Ranks chunks for a task by BM25, as SQLite's full-text index computes it.

    Not thread-safe: make and use it in one thread. Close it.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        import sqlite3  # an agent that is asked about no document does without it

        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(
            "CREATE VIRTUAL TABLE chunk USING fts5(text, tokenize = 'porter unicode61')"
        )
        self._index.executemany(
            "INSERT INTO chunk(rowid, text) VALUES (?, ?)",
            [(chunk.id + 1, chunk.text) for chunk in chunks],
        )

    def ranked(self, task: str) -> list[int]:
        """Chunks that hold anything that the task names, best first."""
        # Each term is a quoted phrase: nothing in a task is syntax of the index.
        phrases = [re.sub(r"[^\w.\-]", " ", term) for term in terms(task)]
        query = " OR ".join(f'"{phrase}"' for phrase in phrases if phrase.strip())
        if not query:
            return []
        rows = self._index.execute(
            "SELECT rowid FROM chunk WHERE chunk MATCH ? ORDER BY bm25(chunk), rowid", (query,)
        )
        return [row[0] - 1 for row in rows]

    def close(self) -> None:
        """Free the index."""
        self._index.close()
