"""Feeds on disk, so that a publisher that restarts goes on where it was. Never on the event loop.

What is written is what the log holds and the disk does not, so nothing queues up behind a slow
disk. A disk that is full loses nobody anything that runs: the epochs tell subscribers afterwards
what the publisher no longer knows.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from capabilities.data.log import MAX_EPOCHS, Restored
from capabilities.data.messages import Update, decode_value, encode_value
from mesh.core.errors import GossamerError, WireError

FILE = "feeds.sqlite3"
BUSY_S = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS epoch (
  feed TEXT NOT NULL, epoch INTEGER NOT NULL, before INTEGER NOT NULL, PRIMARY KEY (feed, epoch)
);
CREATE TABLE IF NOT EXISTS latest (
  feed TEXT NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  version INTEGER NOT NULL, at REAL NOT NULL, value BLOB, PRIMARY KEY (feed, key)
);
CREATE TABLE IF NOT EXISTS history (
  feed TEXT NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  version INTEGER NOT NULL, at REAL NOT NULL, value BLOB, PRIMARY KEY (feed, sequence)
);
CREATE TABLE IF NOT EXISTS place (
  feed TEXT PRIMARY KEY, sequence INTEGER NOT NULL, source TEXT NOT NULL DEFAULT ''
);
"""


class StoreFailed(GossamerError):
    """The history could not be written; publishing goes on in memory."""

    code = "disk"


class FeedStore:
    """The feeds of one node in SQLite. Its methods may be called from any thread, one at a time.

    ``max_bytes`` bounds the file; 0 leaves that to the disk.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 0) -> None:
        self._path = folder / FILE
        self._max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def load(self, feed: str) -> tuple[Restored, str]:
        """What is kept of a feed, and how far its source was read. A damaged row is left out,
        with all of the history before it. Raises :class:`StoreFailed`."""
        with self._using() as db:
            place = db.execute("SELECT sequence, source FROM place WHERE feed = ?", (feed,))
            sequence, source = place.fetchone() or (0, "")
            epochs = db.execute(
                "SELECT epoch, before FROM epoch WHERE feed = ? ORDER BY epoch", (feed,)
            ).fetchall()
            latest = _rows(db, "latest", feed)
            history = _rows(db, "history", feed)
        kept: list[Update] = []
        for update in reversed(history):
            if update is None:
                break
            kept.append(update)
        return Restored(
            latest=[update for update in latest if update is not None],
            history=kept[::-1],
            epochs=epochs,
            sequence=sequence,
        ), source

    def begin(self, feed: str, epoch: int, before: int) -> None:
        """A new life of the publisher, whose updates come behind ``before``."""
        with self._using() as db, db:
            db.execute("INSERT OR REPLACE INTO epoch VALUES (?, ?, ?)", (feed, epoch, before))
            db.execute(
                "DELETE FROM epoch WHERE feed = ? AND epoch NOT IN "
                "(SELECT epoch FROM epoch WHERE feed = ? ORDER BY epoch DESC LIMIT ?)",
                (feed, feed, MAX_EPOCHS),
            )

    def write(
        self,
        feed: str,
        updates: Sequence[Update],
        *,
        oldest: int,
        sequence: int,
        source: str = "",
        whole: Sequence[Update] | None = None,
    ) -> None:
        """Add updates, all or none; drop the history before ``oldest``. ``whole`` is the latest
        of each key, given when updates in between were never written."""
        with self._using() as db, db:
            if whole is not None:
                db.execute("DELETE FROM latest WHERE feed = ?", (feed,))
                db.execute("DELETE FROM history WHERE feed = ?", (feed,))
                db.executemany(_INTO.format("latest"), [_row(feed, u) for u in whole])
            db.executemany(_INTO.format("history"), [_row(feed, u) for u in updates])
            if whole is None:
                for update in updates:
                    if update.value is None:
                        db.execute(
                            "DELETE FROM latest WHERE feed = ? AND key = ?", (feed, update.key)
                        )
                    else:
                        db.execute(_INTO.format("latest"), _row(feed, update))
            db.execute("DELETE FROM history WHERE feed = ? AND sequence < ?", (feed, oldest))
            db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (feed, sequence, source))

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._db is None:
                self._db = self._open()
            yield self._db
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(
                f"the history of feeds in {self._path} cannot be kept: {error}",
                hint="free some space; what is published meanwhile is in memory only",
            ) from error

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # data is private
        db = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # Survives the death of the process; a power cut may take the last second, which the
            # epochs account for.
            db.execute("PRAGMA synchronous = NORMAL")
            if self._max_bytes:
                page = db.execute("PRAGMA page_size").fetchone()[0]
                db.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page)}")
            db.executescript(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db


_INTO = "INSERT OR REPLACE INTO {} VALUES (?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "key, epoch, sequence, version, at, value"


def _row(feed: str, update: Update) -> tuple[object, ...]:
    value = None if update.value is None else encode_value(update.value)
    return feed, update.key, update.epoch, update.sequence, update.version, update.at, value


def _rows(db: sqlite3.Connection, table: str, feed: str) -> list[Update | None]:
    found = db.execute(
        f"SELECT {_COLUMNS} FROM {table} WHERE feed = ? ORDER BY sequence",  # noqa: S608
        (feed,),
    )
    return [_update(*row) for row in found]


def _update(
    key: str, epoch: int, sequence: int, version: int, at: float, value: bytes | None
) -> Update | None:
    try:
        read = None if value is None else decode_value(value)
    except WireError:
        return None
    return Update(epoch=epoch, sequence=sequence, key=key, version=version, at=at, value=read)
