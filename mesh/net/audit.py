"""The audit log on disk: JSON lines, chained, signed now and then, written by a thread.

``record`` returns at once: it puts the event in a bounded queue, and one that finds the queue
full is counted and told in the log itself. The thread writes what has gathered, syncs it once,
and signs a checkpoint after so many lines. A file that has grown large becomes a segment
beside the current one; the oldest segments go when there are too many, and a line says so.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mesh.core.audit_chain import (
    MAX_LINE_BYTES,
    AuditChain,
    AuditError,
    Entry,
    Report,
    What,
    read_line,
    verify,
)
from mesh.net.statedir import IDENTITY_FILE, Identity

log = logging.getLogger("gossamer.audit")

CURRENT = "audit.jsonl"
SEGMENTS = "audit-*.jsonl"
SET_ASIDE = "*.broken"
RETRY_S = 0.5  # between two tries at a disk that refuses


class AuditLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the log. ``queue``: events that may wait for the disk; a flood of refusals fills
    it, not the memory. ``segment_bytes`` times ``segments`` is what the disk gives at most; a
    flood pushes old lines out sooner, so make it larger where that matters. A checkpoint is
    signed after ``checkpoint_lines`` lines or ``checkpoint_s`` seconds, and when the log is
    closed: what came after the last one can be cut off unseen."""

    queue: int = 1024
    segment_bytes: int = 8 << 20
    segments: int = 8
    checkpoint_lines: int = 256
    checkpoint_s: float = 60.0


class _Event(msgspec.Struct, frozen=True):
    what: str
    at: float
    who: str
    detail: dict[str, str]


class AuditLog:
    """The audit log of one node, in a directory of its own. One process writes it.

    ``counters``: written, dropped (the queue was full), failed (the disk refused).
    """

    def __init__(
        self,
        folder: Path,
        *,
        mesh: bytes,
        signing: bytes,
        limits: AuditLimits | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.limits = limits or AuditLimits()
        self.counters: Counter[str] = Counter()
        self._mesh = mesh
        self._signing = signing
        self._wall = wall
        self._queue: queue.Queue[_Event | None] = queue.Queue(self.limits.queue)
        self._unsaid = 0  # dropped, and not yet told in the log
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._chain = AuditChain(mesh=mesh, signing=signing)
        self._file: int = -1
        self._size = 0
        self._checkpoint_due = 0.0

    # -- the event loop's side --------------------------------------------------------------

    def open(self) -> None:
        """Read the log's end and start the thread; call it off the event loop.

        A torn last line is cut away and told; a last line that was changed is no end to build
        on: that file is set aside and a new log begun. Raises :class:`AuditError` when the
        folder cannot be used.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            torn = self._continue()
            self._write([_Event(What.START, self._wall(), "", torn)])
        except OSError as error:
            raise AuditError(
                f"{self.folder} cannot be written: {error.strerror}",
                hint="free space or change its owner",
            ) from error
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def record(self, what: str, who: str = "", **detail: str) -> bool:
        """Note an event; never waits. False when the queue is full and it was only counted."""
        try:
            self._queue.put_nowait(_Event(what, self._wall(), who, detail))
        except queue.Full:
            with self._guard:
                self.counters["dropped"] += 1
                self._unsaid += 1
            return False
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, sign it, stop; call it off the event loop. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            log.warning("the audit log was closed while its queue was full")
            return
        thread.join(timeout_s)

    # -- the thread's side ------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going:
            batch: list[_Event] = []
            try:
                wait_s = self.limits.checkpoint_s if self._chain.since_checkpoint else None
                event = self._queue.get(timeout=wait_s)
                while event is not None:
                    batch.append(event)
                    if len(batch) >= self.limits.queue:
                        break
                    event = self._queue.get_nowait()
                going = event is not None
            except queue.Empty:
                pass
            self._turn(batch, last=not going)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _turn(self, batch: list[_Event], *, last: bool) -> None:
        with self._guard:
            dropped, self._unsaid = self._unsaid, 0
        if dropped:
            batch.append(_Event(What.DROPPED, self._wall(), "", {"count": str(dropped)}))
        try:
            if batch:
                self._write(batch)
        except OSError as error:
            # Audited events must not stop a node whose disk is full; the gap is told later.
            lost = sum(event.what != What.DROPPED for event in batch)
            self.counters["failed"] += lost
            with self._guard:
                self._unsaid += dropped + lost
            log.error("the audit log cannot be written: %s", error.strerror)
            time.sleep(RETRY_S)  # this thread's own; nobody waits
            return
        try:
            due = time.monotonic() >= self._checkpoint_due
            full = self._chain.since_checkpoint >= self.limits.checkpoint_lines
            if self._chain.since_checkpoint and (last or full or due):
                self._commit(lambda: self._chain.checkpoint(self._wall()))
                self._checkpoint_due = time.monotonic() + self.limits.checkpoint_s
            if self._size >= self.limits.segment_bytes:
                self._rotate()
        except OSError as error:
            log.error("the audit log cannot be signed or rotated: %s", error.strerror)

    def _write(self, batch: list[_Event]) -> None:
        chain = self._chain
        self._commit(lambda: b"".join(chain.append(e.what, e.at, e.who, e.detail) for e in batch))
        self.counters["written"] += len(batch)

    def _commit(self, make: Callable[[], bytes]) -> None:
        """Write what ``make`` takes from the chain, or leave the chain where it was."""
        chain = self._chain
        before = (chain.seq, chain.head, chain.since_checkpoint)
        try:
            self._append(make())
        except OSError:
            chain.seq, chain.head, chain.since_checkpoint = before
            raise

    def _append(self, data: bytes) -> None:
        if self._file < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._file = os.open(self.folder / CURRENT, flags, 0o600)
            self._size = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # half a batch would break the chain
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        os.close(self._file)
        self._file, self._size = -1, 0
        current = self.folder / CURRENT
        current.rename(self.folder / f"audit-{_first(current):012d}.jsonl")
        segments = sorted(self.folder.glob(SEGMENTS))
        surplus = segments[: max(0, len(segments) - self.limits.segments)]
        kept = segments[len(surplus)] if surplus else segments[0]
        # Told before it is done: a crash in between leaves too much, which is no break.
        detail = {"first_kept": str(_first(kept))}
        self._write([_Event(What.ROTATED, self._wall(), "", detail)])
        for segment in surplus:
            segment.unlink()

    def _continue(self) -> dict[str, str]:
        """Pick up the chain at the log's end; what is told of it in the start line."""
        current = self.folder / CURRENT
        told: dict[str, str] = {}
        if current.exists():
            end, size = _whole_end(current), current.stat().st_size
            if end < size:
                told["torn_bytes"] = str(size - end)
                os.truncate(current, end)
        for file in reversed(files(self.folder)):
            line = _last_line(file)
            if not line:
                continue
            try:
                entry = read_line(line)
            except AuditError as error:
                log.error("the audit log was changed (%s); it is set aside", error.message)
                return {**told, "set_aside": str(self._set_aside())}
            self._chain = AuditChain(
                mesh=self._mesh, signing=self._signing, seq=entry.seq, head=entry.hash
            )
            break
        return told

    def _set_aside(self) -> int:
        """Keep the files of a log that was changed, under names that are not the log's."""
        old = files(self.folder)
        for file in old:
            file.rename(file.with_name(f"{file.name}.{int(self._wall())}.broken"))
        return len(old)


# -- reading ----------------------------------------------------------------------------------


def _first(file: Path) -> int:
    with file.open("rb") as stream:
        try:
            return read_line(stream.readline(MAX_LINE_BYTES + 1)).seq
        except AuditError:
            return 0


def _whole_end(file: Path) -> int:
    """Where the last whole line ends."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = max(0, size - 2 * MAX_LINE_BYTES)
        stream.seek(start)
        tail = stream.read()
    return start + tail.rfind(b"\n") + 1


def _last_line(file: Path) -> bytes:
    end = _whole_end(file)
    with file.open("rb") as stream:
        start = max(0, end - 2 * MAX_LINE_BYTES)
        stream.seek(start)
        lines = stream.read(end - start).splitlines(keepends=True)
    return lines[-1] if lines else b""


def files(folder: Path) -> list[Path]:
    """The log's files, oldest first."""
    current = folder / CURRENT
    return [*sorted(folder.glob(SEGMENTS)), *([current] if current.exists() else [])]


def lines(folder: Path) -> Iterator[bytes]:
    """Every line of the log, oldest first; a line beyond its limit comes cut, and so breaks."""
    for file in files(folder):
        with file.open("rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                yield line


def verify_folder(
    folder: Path, *, mesh: bytes, key: bytes = b"", kept: tuple[int, str] | None = None
) -> Report:
    """Check the log in ``folder``; raises :class:`AuditError` when there is none to read."""
    if not files(folder):
        raise AuditError(f"there is no audit log in {folder}", hint="it begins with the agent")
    try:
        return verify(lines(folder), mesh=mesh, key=key, kept=kept)
    except OSError as error:
        raise AuditError(f"{folder} cannot be read: {error.strerror}") from error


def set_aside(folder: Path) -> list[str]:
    """Files that were found changed and kept for whoever looks into it."""
    return sorted(file.name for file in folder.glob(SET_ASIDE))


def last_entries(folder: Path, count: int, what: str = "") -> list[Entry]:
    """The last ``count`` entries, of one kind if ``what`` is given; unreadable lines are left
    out (:func:`verify_folder` tells of them)."""
    found: deque[Entry] = deque(maxlen=count)
    for line in lines(folder):
        try:
            entry = read_line(line)
        except AuditError:
            continue
        if what in ("", entry.what):
            found.append(entry)
    return list(found)


def audit_folder(state: Path) -> Path:
    """Where the log of an agent lies in its state directory."""
    return state / "audit"


def owner(state: Path) -> tuple[bytes, bytes]:
    """The mesh and the Ed25519 key of the node whose directory it is, read without its lock, so
    that the log of a running agent can be checked. Raises :class:`AuditError`."""
    path = state / IDENTITY_FILE
    try:
        identity = msgspec.json.decode(path.read_bytes(), type=Identity)
    except (OSError, msgspec.MsgspecError) as error:
        raise AuditError(
            f"{path} cannot be read: {error}",
            hint="--state names an agent's directory, and its owner may read it",
        ) from error
    return identity.trust.mesh, identity.keys.key
