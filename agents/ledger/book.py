"""The ledger on the event loop: receipts at once, the disk in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agents.ledger.receipts import Asked, Entry, Ledger, Receipt, Reply
from agents.telemetry.spans import Span
from mesh.core.effects import Send
from mesh.core.errors import ConfigError
from mesh.core.identity import Signed
from mesh.core.wire import CallHeader, Countersigned
from mesh.net.calls import IncomingCall
from mesh.net.node import MeshNode

if TYPE_CHECKING:
    from agents.ledger.store import LedgerStore

log = logging.getLogger("gossamer.ledger")

FILE = "ledger.sqlite3"
WRITE_AFTER_S = 1.0  # what a crash can cost; a transaction for each call would wear out cards
MAX_UNWRITTEN = 4096  # lines that wait for a disk that hangs; above it the oldest are lost

T = TypeVar("T")


class LedgerBook:
    """Receipts of one agent's calls. ``wall`` is seconds since 1970; ``send`` carries a
    countersignature to a node.

    The file is opened with the first line to write, so who never serves nor asks a peer pays
    nothing for it. A disk that fails is told once, and costs lines of the ledger, no call.
    """

    def __init__(
        self,
        ledger: Ledger,
        me: bytes,
        path: Path,
        wall: Callable[[], float],
        send: Callable[[bytes, Signed], None],
    ) -> None:
        self._ledger, self._me, self._path, self._wall, self._send = ledger, me, path, wall, send
        self._waiting: deque[Entry] = deque(maxlen=MAX_UNWRITTEN)
        self._thread: ThreadPoolExecutor | None = None
        self._store: LedgerStore | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()
        self._told = False

    @property
    def counters(self) -> dict[str, int]:
        """Receipts given, agreed, disputed, and refused by reason."""
        return dict(self._ledger.counters)

    # -- calls --------------------------------------------------------------------------------

    def served(self, call: IncomingCall, span: Span) -> Signed | None:
        """The receipt of a whole answer to a peer; None where no model was at work."""
        tokens = span.input_tokens + span.output_tokens
        if call.peer.node == self._me or span.outcome != "ok" or not tokens:
            return None
        entry = self._ledger.serve(
            Receipt(
                served=self._me,
                asker=call.peer.node,
                caller=call.header.caller,
                trace=call.header.trace,
                span=call.header.span,
                name=call.name,
                model=span.model,
                prompt_tokens=span.input_tokens,
                completion_tokens=span.output_tokens,
                at=self._wall(),
            )
        )
        self._keep(entry)
        return entry.signed

    def asking(self, node: bytes, name: str, header: CallHeader, body_bytes: int) -> Asked:
        """A call leaves for a peer; :meth:`asked` must follow."""
        return self._ledger.ask(
            Asked(
                node=node, trace=header.trace, span=header.span, name=name, prompt_bytes=body_bytes
            )
        )

    def asked(self, asked: Asked) -> None:
        """The call is over, however it ended."""
        self._replied(self._ledger.over(asked, self._wall()))

    def receipted(self, node: bytes, signed: Signed, counter: bool) -> None:
        """A signed word of a peer: its receipt, or its answer to one of ours."""
        if not counter:
            self._replied(self._ledger.receipt(node, signed, self._wall()))
        elif (entry := self._ledger.countersigned(node, signed)) is not None:
            self._keep(entry)

    def _replied(self, reply: Reply | None) -> None:
        if reply is not None:
            self._keep(reply.entry)
            self._send(reply.entry.peer, reply.signed)

    # -- the disk -----------------------------------------------------------------------------

    def _keep(self, entry: Entry) -> None:
        if len(self._waiting) == MAX_UNWRITTEN:
            self._ledger.counters["ledger_lines_lost"] += 1
        self._waiting.append(entry)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write)

    def _write(self) -> None:
        self._timer = None
        task = asyncio.ensure_future(self.flush())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def flush(self) -> None:
        """Write what waits."""
        entries, now = list(self._waiting), self._wall()
        self._waiting.clear()
        if not entries:
            return
        try:
            await self.use(lambda store: store.keep(entries, now))
        except (ConfigError, sqlite3.Error) as error:
            self._ledger.counters["ledger_lines_lost"] += len(entries)
            if not self._told:
                self._told = True
                log.warning("the ledger is not kept: %s", error)

    async def use(self, work: Callable[[LedgerStore], T]) -> T:
        """Something with the file, in its thread; raises :class:`ConfigError` without one."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: work(self._opened())
        )

    def _opened(self) -> LedgerStore:
        if self._store is None:
            from agents.ledger.store import LedgerStore

            self._store = LedgerStore(self._path)
        return self._store

    async def stop(self) -> None:
        """Write what waits and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self.flush()
        thread, self._thread = self._thread, None
        store, self._store = self._store, None
        if thread is not None:
            if store is not None:
                await asyncio.get_running_loop().run_in_executor(thread, store.close)
            thread.shutdown(wait=False)


def open_ledger(node: MeshNode, folder: Path) -> LedgerBook:
    """The ledger of a node that has started, told of the receipts that come to it."""
    core = node.core
    book = LedgerBook(
        Ledger(core.identity, core.member),
        node.me.node,
        folder / FILE,
        lambda: node.now().wall,
        lambda to, signed: node.emit([Send(to, Countersigned(signed))]),
    )
    node.calls.receipted = book.receipted
    return book
