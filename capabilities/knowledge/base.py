"""The knowledge base on the event loop: embedding and SQLite run in one thread of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from capabilities.knowledge.cutting import Passage, passages
from capabilities.knowledge.entry import MAX_TEXT_CHARS, PASSAGE, Citation, Entry
from capabilities.knowledge.reading import files_of, read_text
from mesh.core.errors import GossamerError

if TYPE_CHECKING:
    from capabilities.embedding.static import StaticEmbedder
    from capabilities.knowledge.store import Floats, Found, KnowledgeStore, Source

T = TypeVar("T")
BATCH = 64  # passages written together: one transaction, and progress in between


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """How far the adding of documents has come; ``problem`` is why this one was left out."""

    file: str
    number: int
    files: int
    passages: int = 0
    new: int = 0
    problem: str = ""


class KnowledgeBase:
    """One node's knowledge; ``start`` opens it, everything else may be awaited from anywhere.

    The vectors are the shipped embedder's.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, wall: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self.wall = wall
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")
        self._store: KnowledgeStore | None = None
        self._embedder: StaticEmbedder | None = None

    async def start(self) -> None:
        """Open the file and load the embedder; raises :class:`~mesh.core.errors.ConfigError`."""
        await self._run(self._open)

    async def stop(self) -> None:
        """Close the file; what runs is finished first."""
        store, self._store = self._store, None
        if store is not None:
            await self._run(store.close)
        self._thread.shutdown(wait=False)

    def _open(self) -> None:
        from capabilities.embedding.static import shipped
        from capabilities.knowledge.store import KnowledgeStore

        self._embedder = shipped()
        self._store = KnowledgeStore(
            self.path, self._embedder.space, max_bytes=self._max_bytes, wall=self.wall
        )

    async def use(self, work: Callable[[KnowledgeStore, StaticEmbedder], T]) -> T:
        """Something with the store and the embedder, in their thread.

        Raises :class:`~capabilities.knowledge.store.StoreFailed`.
        """

        def run() -> T:
            if self._store is None or self._embedder is None:
                from capabilities.knowledge.store import StoreFailed

                raise StoreFailed("the knowledge base is not open")
            return work(self._store, self._embedder)

        return await self._run(run)

    async def embed(self, texts: Sequence[str]) -> Floats:
        """Rows of shape (texts, dimensionality), each of length one."""
        return await self.use(lambda _, embedder: embedder.embed(texts))

    async def search(
        self, text: str, *, limit: int = 8, kind: str = "", domain: str = ""
    ) -> list[Found]:
        """The nearest fresh entries, best first."""
        return await self.use(
            lambda store, embedder: store.search(
                embedder.embed([text])[0], limit=limit, kind=kind, domain=domain
            )
        )

    async def sources(self, domain: str = "", kind: str = "") -> list[Source]:
        """What each document and node contributed."""
        return await self.use(lambda store, _: store.sources(domain=domain, kind=kind))

    async def keep(self, entry: Entry, facts: str = "") -> int:
        """Keep one entry under its question's vector; how many were new."""

        def work(store: KnowledgeStore, embedder: StaticEmbedder) -> int:
            return store.add([entry], embedder.embed([entry.question]), [facts])

        return await self.use(work)

    async def add_documents(
        self, path: Path, *, domain: str, access: str, expires: float = 0.0
    ) -> AsyncIterator[Added]:
        """Add a file, or every document of a folder; tells of each file when it is in.

        A document that is added again takes the place of what was read from it before. Raises
        :class:`~capabilities.knowledge.reading.Unreadable` for a single file, and
        :class:`~capabilities.knowledge.store.StoreFailed`; an unreadable file among others is
        told and passed over.
        """
        files = await asyncio.to_thread(files_of, path)
        root = path.parent if files == [path] else path
        for number, file in enumerate(files, 1):
            name = str(file.relative_to(root))
            told = Added(file=name, number=number, files=len(files))
            try:
                text = await asyncio.to_thread(read_text, file)
            except GossamerError as error:
                if len(files) == 1:
                    raise
                yield msgspec.structs.replace(told, problem=error.sentence())
                continue
            cut = await asyncio.to_thread(passages, text, title=file.stem.replace("_", " "))
            await self.use(lambda store, _, name=name: store.remove(source=name, domain=domain))  # type: ignore[misc]
            new = 0
            for start in range(0, len(cut), BATCH):
                batch = [
                    _entry(passage, name, domain, access, expires)
                    for passage in cut[start : start + BATCH]
                ]
                new += await self._keep_all(batch)
            yield msgspec.structs.replace(told, passages=len(cut), new=new)

    async def _keep_all(self, entries: list[Entry]) -> int:
        def work(store: KnowledgeStore, embedder: StaticEmbedder) -> int:
            texts = [f"{entry.question}. {entry.text}" for entry in entries]
            return store.add(entries, embedder.embed(texts))

        return await self.use(work)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _entry(passage: Passage, source: str, domain: str, access: str, expires: float) -> Entry:
    return Entry(
        kind=PASSAGE,
        domain=domain,
        question=passage.title[:200],
        text=passage.text[:MAX_TEXT_CHARS],
        source=source,
        access=access,
        expires=expires,
        citations=(Citation(source=source, place=passage.place),),
    )
