"""The ledger on disk, in SQLite. Synchronous: never called on the event loop."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from agents.ledger.receipts import Entry
from mesh.core.errors import ConfigError

BUSY_S = 10.0  # another process reads for some milliseconds at most
DAY_S = 86400.0
KEEP_S = 90 * DAY_S
MAX_ROWS = 50_000  # some forty megabytes; a crowd of short calls must not fill the disk
PRUNE_EVERY = 500  # rows written between two looks at the bounds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS receipt (
  key BLOB NOT NULL,
  mine INTEGER NOT NULL,    -- 1: this node served
  peer BLOB NOT NULL,
  caller BLOB NOT NULL,     -- who began the task
  trace TEXT NOT NULL,
  name TEXT NOT NULL,
  model TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  at REAL NOT NULL,         -- wall seconds of who served
  state TEXT NOT NULL,      -- open, agreed, disputed
  counted INTEGER,          -- tokens of answer, as the asker counted them
  why TEXT NOT NULL DEFAULT '',
  receipt BLOB NOT NULL,    -- the bytes that were signed, and the signatures over them
  signature BLOB NOT NULL,
  counter BLOB,
  counter_signature BLOB,
  PRIMARY KEY (key, mine)
);
CREATE INDEX IF NOT EXISTS receipt_at ON receipt (at);
"""
# A receipt that is answered takes the place of the open one, and is never opened again.
_KEEP = (
    "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (key, mine) DO UPDATE SET state = excluded.state, counted = excluded.counted,"
    " why = excluded.why, counter = excluded.counter,"
    " counter_signature = excluded.counter_signature WHERE receipt.state = 'open'"
)


class LedgerStore:
    """The ledger of one node. One connection: use it from one thread at a time.

    Raises :class:`ConfigError` where the file cannot be used.
    """

    def __init__(self, path: Path, *, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._written = 0
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last second
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"the ledger {path} cannot be used: {error}",
                hint="free space or change its owner; a damaged ledger can be moved away",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def keep(self, entries: Sequence[Entry], now: float) -> None:
        """Write lines, and drop the oldest above the bounds; ``now`` is wall seconds."""
        with self._db:
            self._db.executemany(_KEEP, [_row(entry, now) for entry in entries])
            self._written += len(entries)
            if self._written >= min(PRUNE_EVERY, self._max_rows):
                self._written = 0
                self._db.execute("DELETE FROM receipt WHERE at < ?", (now - KEEP_S,))
                self._db.execute(
                    "DELETE FROM receipt WHERE rowid IN"
                    " (SELECT rowid FROM receipt ORDER BY at DESC LIMIT -1 OFFSET ?)",
                    (self._max_rows,),
                )

    def read(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of a SELECT."""
        return self._db.execute(query, values).fetchall()


def _row(entry: Entry, now: float) -> tuple[object, ...]:
    receipt, word, signed = entry.receipt, entry.counter, entry.countersigned
    return (
        entry.key,
        entry.mine,
        entry.peer,
        receipt.caller,
        receipt.trace.hex(),
        receipt.name,
        receipt.model,
        _fits(receipt.prompt_tokens),
        _fits(receipt.completion_tokens),
        min(receipt.at, now),  # a peer's clock must not keep its lines for ever
        entry.state,
        None if word is None else _fits(word.completion_tokens),
        word.why if word is not None else "",
        entry.signed.payload,
        entry.signed.signature,
        None if signed is None else signed.payload,
        None if signed is None else signed.signature,
    )


def _fits(count: int) -> int:
    return max(-(1 << 62), min(1 << 62, count))  # what SQLite can hold; peers choose numbers
