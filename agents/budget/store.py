"""The book of what the cloud cost, in SQLite. Synchronous: never called on the event loop.

Each change is one transaction that takes the write lock first (BEGIN IMMEDIATE), so any number
of threads and processes can share one file, and a process that dies leaves it whole. Rows are
never changed behind their end but by a settlement that comes late, which knows better.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agents.budget.lease import Held, pick
from agents.budget.limits import ALL, DAY_S, WINDOWS, Booked, Full, Limits, first_full, room
from capabilities.cloud.purse import Bill, BookFailed, Claim, OverBudget
from mesh.core.errors import ConfigError

FILE = "cloud-budget.sqlite3"
BUSY_S = 60.0  # waiting for another process's transaction, which takes milliseconds
FAILED_S = 30.0  # how soon to come back when the disk refuses
KEEP_S = 40 * DAY_S  # older rows are no limit's business, and a month can be shown
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charge (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,       -- call, or lease: lent to another node
  state TEXT NOT NULL,      -- reserved, sent, settled, returned, lost
  at REAL NOT NULL,         -- wall seconds from which on it counts into the windows
  until REAL NOT NULL,      -- the reservation's own end
  nano INTEGER NOT NULL,    -- what counts now
  worst INTEGER NOT NULL,
  provider TEXT NOT NULL DEFAULT '',
  model TEXT NOT NULL DEFAULT '',
  prompt_tokens INTEGER NOT NULL DEFAULT 0,
  completion_tokens INTEGER NOT NULL DEFAULT 0,
  estimated INTEGER NOT NULL DEFAULT 0,
  trace TEXT NOT NULL DEFAULT '',
  holder TEXT NOT NULL DEFAULT '',
  lease TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS charge_at ON charge (at);
CREATE INDEX IF NOT EXISTS charge_open ON charge (until) WHERE state IN ('reserved', 'sent');
CREATE INDEX IF NOT EXISTS charge_lease ON charge (lease) WHERE lease != '';
CREATE TABLE IF NOT EXISTS booked (
  charge TEXT NOT NULL REFERENCES charge (id) ON DELETE CASCADE,
  scope TEXT NOT NULL,
  PRIMARY KEY (charge, scope)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
  id TEXT PRIMARY KEY,
  groups TEXT NOT NULL,
  nano INTEGER NOT NULL,
  begun REAL NOT NULL,
  until REAL NOT NULL,
  state TEXT NOT NULL       -- open, closing, closed
);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class NeedsLease(OverBudget):
    """This node spends only what was lent to it, and no lease has room."""


class BudgetStore:
    """The book of one node. One connection: use it from one thread at a time.

    ``borrowing``: only leases may be spent. ``wall`` is wall-clock seconds; the book never
    believes a time before the last one that it wrote.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        borrowing: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.limits = limits
        self._borrowing = borrowing
        self._wall = wall
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # a reservation outlives a power cut
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"the book of the cloud budget {path} cannot be used: {error}",
                hint="free space or change its owner; a damaged book can be moved away",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # -- calls ------------------------------------------------------------------------------

    def reserve(self, claim: Claim) -> str:
        """Book the worst case of a call; raises :class:`OverBudget` with a time to come back,
        or :class:`NeedsLease`."""
        with self._change() as now:
            lease = ""
            if self._borrowing:
                held = pick(self._held(claim.groups), claim.nano, claim.seconds, now)
                if held is None:
                    raise NeedsLease("no part of the lender's budget is at hand")
                lease = held.id
            scopes = self.limits.scopes(claim.groups)
            self._room_or_raise(scopes, claim.nano, now)
            return self._book(
                scopes,
                state="reserved",
                at=now,
                until=now + claim.seconds,
                nano=claim.nano,
                provider=claim.provider,
                model=claim.model,
                trace=claim.trace,
                lease=lease,
            )

    def sent(self, ticket: str) -> None:
        """The call leaves now. Raises :class:`OverBudget` for a reservation that has run out:
        what it held may be another's by now."""
        with self._change() as now:
            found = self._db.execute(
                "UPDATE charge SET state = 'sent'"
                " WHERE id = ? AND state = 'reserved' AND until > ?",
                (ticket, now),
            )
            if not found.rowcount:
                raise OverBudget("the reservation ran out before the call was sent")

    def settle(self, ticket: str, bill: Bill) -> None:
        """Book what the call cost; again with the same bill does nothing."""
        with self._change() as now:
            self._db.execute(
                "UPDATE charge SET state = 'settled', nano = ?, at = ?, prompt_tokens = ?,"
                " completion_tokens = ?, estimated = ? WHERE id = ? AND state != 'settled'",
                (
                    bill.nano,
                    now,
                    bill.prompt_tokens,
                    bill.completion_tokens,
                    bill.estimated,
                    ticket,
                ),
            )

    def release(self, ticket: str) -> None:
        """The call cost nothing."""
        with self._change():
            self._db.execute(
                "UPDATE charge SET state = 'returned', nano = 0"
                " WHERE id = ? AND state != 'settled'",
                (ticket,),
            )

    def sweep(self) -> None:
        """Give back what was never sent and whose time is over; forget what is old."""
        with self._change() as now:
            old = now - KEEP_S
            self._db.execute("DELETE FROM charge WHERE at < ? AND until < ?", (old, old))
            self._db.execute("DELETE FROM lease WHERE until < ? AND state = 'closed'", (old,))

    # -- lent to others -----------------------------------------------------------------------

    def lend(
        self,
        lease: str,
        holder: str,
        groups: Sequence[str],
        seconds: float,
        choose: Callable[[int | None, int], int],
    ) -> int:
        """Lend a part; ``choose`` says how much, given the room and the holder's open leases.

        Asked again for the same lease it says the same. Raises :class:`OverBudget`.
        """
        ticket = f"{holder}:{lease}"
        with self._change() as now:
            known = self._db.execute(
                "SELECT worst, state FROM charge WHERE id = ?", (ticket,)
            ).fetchone()
            if known is not None:
                if known[1] != "sent":
                    raise OverBudget("this lease is over")
                return int(known[0])
            scopes = self.limits.scopes(groups)
            booked = self._booked(scopes, now)
            [open_now] = self._db.execute(
                "SELECT COUNT(*) FROM charge WHERE kind = 'lease' AND holder = ?"
                " AND state = 'sent'",
                (holder,),
            ).fetchone()
            nano = choose(room(self.limits, scopes, booked), open_now)
            if nano <= 0:
                full = first_full(self.limits, scopes, booked, 1, now)
                wait_s = full.free_in_s if full else seconds
                raise OverBudget("nothing is left to lend", retry_after_s=wait_s)
            self._room_or_raise(scopes, nano, now)
            # It counts from its end on: the holder may spend all of it in the last moment.
            self._book(
                scopes,
                id=ticket,
                kind="lease",
                state="sent",
                at=now + seconds,
                until=now + seconds,
                nano=nano,
                holder=holder,
            )
            return nano

    def returned(self, lease: str, holder: str, spent: int) -> None:
        """A holder returned a lease of which it spent so much; never more than was lent counts,
        and never less than nothing (law 3: what a peer says is data)."""
        with self._change() as now:
            self._db.execute(
                "UPDATE charge SET state = 'settled', nano = MAX(0, MIN(worst, ?)), at = MIN(at, ?)"
                " WHERE id = ? AND kind = 'lease' AND state IN ('sent', 'lost')",
                (spent, now, f"{holder}:{lease}"),
            )

    # -- borrowed from another ----------------------------------------------------------------

    def borrowed(self, lease: str, groups: Sequence[str], nano: int, until: float) -> None:
        """Another node lent this one a part of its budget."""
        with self._change() as now:
            self._db.execute(
                "INSERT OR IGNORE INTO lease VALUES (?, ?, ?, ?, ?, 'open')",
                (lease, _key(groups), nano, now, until),
            )

    def held(self, groups: Sequence[str] | None = None) -> list[Held]:
        """The leases that are not returned yet, all or those for these groups."""
        with self._change():
            return self._held(groups)

    def closing(self, lease: str) -> int | None:
        """Spend no more from a lease; what was spent of it, None while calls are under way."""
        with self._change():
            self._db.execute(
                "UPDATE lease SET state = 'closing' WHERE id = ? AND state = 'open'", (lease,)
            )
            found = next((x for x in self._held(None) if x.id == lease), None)
            return found.used if found is not None and not found.busy else None

    def closed(self, lease: str) -> None:
        """The lender knows what was spent."""
        with self._change():
            self._db.execute("UPDATE lease SET state = 'closed' WHERE id = ?", (lease,))

    def now(self) -> float:
        """Wall seconds, as the book believes them."""
        with self._change() as now:
            return now

    # -- within a transaction -----------------------------------------------------------------

    @contextlib.contextmanager
    def _change(self) -> Iterator[float]:
        """A transaction with the write lock; yields now. What has run out is booked first."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                now = self._tick()
                yield now
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.rollback()
            raise BookFailed(
                f"the book of the cloud budget cannot be written: {error}",
                retry_after_s=FAILED_S,
                hint=f"look at {self.path}: is the disk full?",
            ) from error

    def _tick(self) -> float:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'floor'").fetchone()
        now = max(self._wall(), float(row[0]) if row else 0.0)
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('floor', ?)", (repr(now),))
        self._db.execute(
            "UPDATE charge SET state = 'returned', nano = 0"
            " WHERE state = 'reserved' AND until <= ?",
            (now,),
        )
        self._db.execute(
            "UPDATE charge SET state = 'lost', at = until WHERE state = 'sent' AND until <= ?",
            (now,),
        )
        return now

    def _room_or_raise(self, scopes: Sequence[str], nano: int, now: float) -> None:
        full = first_full(self.limits, scopes, self._booked(scopes, now), nano, now)
        if full is not None:
            raise OverBudget(full.sentence(), retry_after_s=_wait_s(full), hint=_advice(full))

    def _booked(self, scopes: Sequence[str], now: float) -> dict[tuple[str, str], list[Booked]]:
        found: dict[tuple[str, str], list[Booked]] = {}
        for scope in scopes:
            rows = self._db.execute(
                "SELECT c.at, c.nano, c.state, c.until FROM charge c"
                " JOIN booked b ON b.charge = c.id AND b.scope = ?"
                " WHERE c.at > ? AND c.nano > 0",
                (scope, now - DAY_S),
            ).fetchall()
            for window, length_s in WINDOWS.items():
                found[scope, window] = [
                    Booked(nano, until if state == "reserved" else at + length_s)
                    for at, nano, state, until in rows
                    if at > now - length_s
                ]
        return found

    def _book(self, scopes: Sequence[str], **values: object) -> str:
        row = {"id": uuid.uuid4().hex, "kind": "call", **values, "worst": values["nano"]}
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        sql = f"INSERT INTO charge ({names}) VALUES ({marks})"  # noqa: S608 (own column names)
        self._db.execute(sql, tuple(row.values()))
        self._db.executemany(
            "INSERT INTO booked VALUES (?, ?)", [(row["id"], scope) for scope in scopes]
        )
        return str(row["id"])

    def _held(self, groups: Sequence[str] | None) -> list[Held]:
        rows = self._db.execute(
            "SELECT l.id, l.nano, l.begun, l.until, l.state, COALESCE(SUM(c.nano), 0),"
            " COALESCE(SUM(c.state IN ('reserved', 'sent')), 0)"
            " FROM lease l LEFT JOIN charge c ON c.lease = l.id"
            " WHERE l.state != 'closed' AND (? IS NULL OR l.groups = ?) GROUP BY l.id",
            (None, None) if groups is None else (_key(groups), _key(groups)),
        ).fetchall()
        return [
            Held(
                id=lease, nano=nano, used=used, busy=busy, begun=begun, until=until,
                closing=state != "open",
            )
            for lease, nano, begun, until, state, used, busy in rows
        ]  # fmt: skip

    def read(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Rows for a view."""
        return self._db.execute(sql, values).fetchall()


def _key(groups: Sequence[str]) -> str:
    return ",".join(sorted(groups))


def _wait_s(full: Full) -> float:
    return round(full.free_in_s, 1)


def _advice(full: Full) -> str:
    if full.never:
        return "this call alone may cost more than the limit: ask for a shorter answer"
    if full.scope == ALL:
        return "wait, or raise [cloud.budget]"
    return f"wait, or raise [cloud.budget.groups.{full.scope}]"
