"""The knowledge base of one node in SQLite, with vectors. Synchronous: never on the event loop.

A vector is a row of 16-bit floats beside its entry; a search is one matrix product over all of
them, which for the thousands of entries that a board holds costs less than an index would. The
matrix is read when it is first needed and follows each change.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from capabilities.embedding.space import Space
from capabilities.knowledge.entry import ANSWER, Citation, Entry
from mesh.core.errors import ConfigError, GossamerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FILE = "knowledge.sqlite3"
SCHEMA_VERSION = 1
BUSY_S = 10.0
MB = 1 << 20
# Of answers only: what a user added is not thrown away for what was overheard.
EVICT_SHARE = 0.05  # of the bound is freed at once, so that a full base does not evict each time

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  domain TEXT NOT NULL,
  question TEXT NOT NULL,
  text TEXT NOT NULL,
  source TEXT NOT NULL,
  access TEXT NOT NULL,
  name TEXT NOT NULL,
  model TEXT NOT NULL,
  quality REAL NOT NULL,
  created REAL NOT NULL,    -- wall seconds
  expires REAL NOT NULL,    -- 0: never
  saved_s REAL NOT NULL,
  citations TEXT NOT NULL,  -- JSON
  facts TEXT NOT NULL,      -- what must be equal for reuse, as a key
  vector BLOB NOT NULL,     -- 16-bit floats, little-endian
  hits INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL,
  maker TEXT NOT NULL DEFAULT '',
  UNIQUE (kind, domain, question, text, access, source)
);
CREATE INDEX IF NOT EXISTS entry_facts ON entry (facts) WHERE kind = 'answer';
CREATE INDEX IF NOT EXISTS entry_source ON entry (source);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_FIELDS = (
    "id, kind, domain, question, text, source, access, name, model, quality, created, expires,"
    " saved_s, citations, hits, maker"
)


class StoreFailed(GossamerError):
    """The knowledge base cannot be read or written now; answering goes on without it."""

    code = "knowledge_failed"


class KnowledgeFull(StoreFailed):
    """The bound of the knowledge base is reached."""

    code = "knowledge_full"


class Found(NamedTuple):
    """An entry and the cosine of its vector with what was looked for."""

    entry: Entry
    cosine: float


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What one document or node contributed."""

    source: str
    domain: str
    kind: str
    access: str
    entries: int
    bytes: int
    created: float


class KnowledgeStore:
    """One file, one connection: use it from one thread at a time.

    ``space`` is where the vectors live: a base written with another embedder is refused.
    ``max_bytes`` bounds texts and vectors together. ``wall`` is wall-clock seconds.
    """

    def __init__(
        self,
        path: Path,
        space: Space,
        *,
        max_bytes: int = 64 * MB,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.space = space
        self.max_bytes = max_bytes
        self._wall = wall
        self._ids: list[int] = []
        self._place: dict[int, int] = {}
        self._rows: Floats | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a lost last answer is learnt again
            self._db.executescript(_SCHEMA)
            self._check_space()
            self._add_maker()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"the knowledge base {path} cannot be used: {error}",
                hint="free space or change its owner; a damaged one can be moved away",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # -- writing ----------------------------------------------------------------------------

    def add(self, entries: Sequence[Entry], vectors: Floats, facts: Sequence[str] = ()) -> int:
        """Keep entries with their vectors, shape (entries, dimensionality); how many were new.

        Raises :class:`KnowledgeFull` when they do not fit, :class:`StoreFailed`.
        """
        keys = list(facts) or [""] * len(entries)
        rows = vectors.astype("<f2")
        new = 0
        with self._change():
            # What has expired makes way, also for the same entry learnt anew.
            self._db.execute(
                "DELETE FROM entry WHERE expires > 0 AND expires <= ?", (self._wall(),)
            )
            size = sum(entry.bytes() + rows.shape[1] * 2 for entry in entries)
            self._make_room(size)
            for entry, row, key in zip(entries, rows, keys, strict=True):
                made = self._db.execute(
                    "INSERT OR IGNORE INTO entry (kind, domain, question, text, source, access,"
                    " name, model, quality, created, expires, saved_s, citations, facts, vector,"
                    " bytes, maker) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        entry.kind,
                        entry.domain,
                        entry.question,
                        entry.text,
                        entry.source,
                        entry.access,
                        entry.name,
                        entry.model,
                        entry.quality,
                        entry.created or self._wall(),
                        entry.expires,
                        entry.saved_s,
                        msgspec.json.encode(entry.citations).decode(),
                        key,
                        row.tobytes(),
                        entry.bytes() + row.nbytes,
                        entry.maker,
                    ),
                )
                new += made.rowcount
        self._forget()
        return new

    def remove(self, *, source: str = "", ids: Sequence[int] = (), domain: str = "") -> int:
        """Forget what came from a source, single entries, or a whole domain; how many."""
        where, values = [], list[object]()
        if source:
            where.append("source = ?")
            values.append(source)
        if domain:
            where.append("domain = ?")
            values.append(domain)
        if ids:
            where.append(f"id IN ({','.join('?' * len(ids))})")
            values += ids
        if not where:
            return 0
        with self._change():
            gone = self._db.execute(f"DELETE FROM entry WHERE {' AND '.join(where)}", values)  # noqa: S608
        self._forget()
        return gone.rowcount

    def entry(self, number: int) -> Entry | None:
        """One entry that is fresh; None when there is none of that number."""
        return self._entries([number], "", "").get(number)

    def hit(self, number: int) -> None:
        """An entry was used."""
        with self._change():
            self._db.execute("UPDATE entry SET hits = hits + 1 WHERE id = ?", (number,))

    def sweep(self) -> int:
        """Forget what has expired; how many."""
        with self._change():
            gone = self._db.execute(
                "DELETE FROM entry WHERE expires > 0 AND expires <= ?", (self._wall(),)
            )
        if gone.rowcount:
            self._forget()
        return gone.rowcount

    def put_meta(self, key: str, value: str) -> None:
        """Keep a small value beside the entries: thresholds, trust."""
        with self._change():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # -- reading ----------------------------------------------------------------------------

    def meta(self, key: str) -> str:
        """A value kept with :meth:`put_meta`; empty when there is none."""
        row = self._read("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def search(
        self, vector: Floats, *, limit: int = 8, kind: str = "", domain: str = ""
    ) -> list[Found]:
        """The nearest fresh entries, best first; ``vector`` has shape (dimensionality,)."""
        rows = self._matrix()
        if not self._ids:
            return []
        cosines = rows @ vector.astype(np.float32)
        # More than asked for: some have expired, or are of another kind.
        order = np.argsort(-cosines)
        found: list[Found] = []
        for start in range(0, len(order), 256):
            picked = [int(i) for i in order[start : start + 256]]
            entries = self._entries([self._ids[i] for i in picked], kind, domain)
            for i in picked:
                entry = entries.get(self._ids[i])
                if entry is not None:
                    found.append(Found(entry, float(cosines[i])))
                    if len(found) == limit:
                        return found
        return found

    def same_facts(self, key: str, vector: Floats, limit: int = 64) -> list[Found]:
        """Fresh answers whose question has the same figures, nearest first."""
        self._matrix()
        found = self._read(
            f"SELECT {_FIELDS} FROM entry WHERE kind = ? AND facts = ?"  # noqa: S608
            " AND (expires <= 0 OR expires > ?) ORDER BY id DESC LIMIT ?",
            (ANSWER, key, self._wall(), limit),
        ).fetchall()
        entries = [_entry(row) for row in found]
        return sorted(
            (Found(entry, self._cosine(entry.id, vector)) for entry in entries),
            key=lambda one: -one.cosine,
        )

    def sources(self, *, domain: str = "", kind: str = "", limit: int = 1000) -> list[Source]:
        """What each document and node contributed, newest first."""
        rows = self._read(
            "SELECT source, domain, kind, access, COUNT(*), SUM(bytes), MAX(created) FROM entry"
            " WHERE (? = '' OR domain = ?) AND (? = '' OR kind = ?)"
            " GROUP BY source, domain, kind, access ORDER BY MAX(created) DESC LIMIT ?",
            (domain, domain, kind, kind, limit),
        )
        return [
            Source(
                source=row[0],
                domain=row[1],
                kind=row[2],
                access=row[3],
                entries=row[4],
                bytes=row[5],
                created=row[6],
            )
            for row in rows
        ]

    def size(self) -> tuple[int, int]:
        """Entries, and bytes of all of them."""
        row = self._read("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM entry").fetchone()
        return int(row[0]), int(row[1])

    # -- inside -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise StoreFailed(
                f"the knowledge base cannot be written: {error}",
                hint=f"free space on the disk of {self.path.parent}",
            ) from error

    def _read(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(query, values)
        except sqlite3.Error as error:
            raise StoreFailed(f"the knowledge base cannot be read: {error}") from error

    def _check_space(self) -> None:
        mine = msgspec.json.encode(self.space).decode()
        version = self.meta("version")
        if version and version != str(SCHEMA_VERSION):
            raise ConfigError(
                f"the knowledge base {self.path} was written by another version of Gossamer",
                hint="move it away and add the documents again",
            )
        written = self.meta("space")
        if not written:
            self._db.execute("INSERT INTO meta VALUES ('space', ?)", (mine,))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (SCHEMA_VERSION,))
        elif written != mine:
            raise ConfigError(
                f"the knowledge base {self.path} was written with another embedder",
                hint="set that embedder again, or move the file away and add the documents again",
            )

    def _add_maker(self) -> None:
        """A base of before answers named their maker: its old entries name none."""
        columns = {str(row[1]) for row in self._db.execute("PRAGMA table_info(entry)")}
        if "maker" not in columns:
            self._db.execute("ALTER TABLE entry ADD COLUMN maker TEXT NOT NULL DEFAULT ''")

    def _make_room(self, size: int) -> None:
        _, used = self.size()
        over = used + size - self.max_bytes
        if over <= 0:
            return
        freed, target = 0, over + int(self.max_bytes * EVICT_SHARE)
        # Least wanted first: seldom used, cheap to work out again, large (VELO's rule); what
        # has expired before anything.
        rows = self._db.execute(
            "SELECT id, bytes FROM entry WHERE kind = ? ORDER BY"
            " (expires > 0 AND expires <= ?) DESC, (hits + 1.0) * (saved_s + 0.001) / bytes, id",
            (ANSWER, self._wall()),
        ).fetchall()
        gone = []
        for number, taken in rows:
            if freed >= target:
                break
            gone.append((number,))
            freed += taken
        if freed < over:
            raise KnowledgeFull(
                f"the knowledge base is full: {used / MB:.1f} of {self.max_bytes / MB:.1f} MB",
                hint="remove something, or raise max_mb of [knowledge]",
            )
        self._db.executemany("DELETE FROM entry WHERE id = ?", gone)

    def _forget(self) -> None:
        """The matrix no longer fits the table."""
        self._rows, self._ids = None, []

    def _matrix(self) -> Floats:
        if self._rows is None:
            width = self.space.dimensionality
            found = self._read("SELECT id, vector FROM entry ORDER BY id").fetchall()
            kept = [(number, data) for number, data in found if len(data) == width * 2]
            self._ids = [number for number, _ in kept]
            self._place = {number: place for place, number in enumerate(self._ids)}
            joined = b"".join(data for _, data in kept)
            self._rows = np.frombuffer(joined, "<f2").reshape(-1, width).astype(np.float32)
        return self._rows

    def _cosine(self, number: int, vector: Floats) -> float:
        rows, place = self._matrix(), self._place.get(number)
        return float(rows[place] @ vector.astype(np.float32)) if place is not None else -1.0

    def _entries(self, numbers: Sequence[int], kind: str, domain: str) -> dict[int, Entry]:
        rows = self._read(
            f"SELECT {_FIELDS} FROM entry WHERE id IN ({','.join('?' * len(numbers))})"  # noqa: S608
            " AND (expires <= 0 OR expires > ?) AND (? = '' OR kind = ?)"
            " AND (? = '' OR domain = ?)",
            (*numbers, self._wall(), kind, kind, domain, domain),
        )
        return {entry.id: entry for entry in map(_entry, rows)}


def _entry(row: Sequence[object]) -> Entry:
    values = dict(zip((f.strip() for f in _FIELDS.split(",")), row, strict=True))
    values["citations"] = msgspec.json.decode(str(values["citations"]), type=tuple[Citation, ...])
    return Entry(**values)  # type: ignore[arg-type]
