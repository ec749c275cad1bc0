"""The book on the event loop: every transaction runs in one thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from agents.budget.lease import Held
from agents.budget.store import BudgetStore, NeedsLease
from capabilities.cloud.purse import Bill, Claim, OverBudget

REMEMBER_S = 5.0  # how long a "no" is repeated without looking again: others may have returned
MAX_REMEMBERED = 256
SWEEP_S = 60.0

T = TypeVar("T")


class Lender(Protocol):
    """Where leases come from."""

    async def borrow(self, claim: Claim) -> None:
        """Get a lease that has room for ``claim``; raises :class:`OverBudget`."""

    async def give_back(self, lease: Held) -> None:
        """Tell the lender what was spent of a lease that is not used any more."""


class BudgetPurse:
    """Implements :class:`~capabilities.cloud.purse.Purse` over a :class:`BudgetStore`."""

    def __init__(
        self, open_store: Callable[[], BudgetStore], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open = open_store
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="budget")
        self._store: BudgetStore | None = None
        self._refused: dict[tuple[str, ...], tuple[int, float, float]] = {}
        self._borrowing = asyncio.Lock()
        self.lender: Lender | None = None

    async def start(self) -> None:
        """Open the book; raises :class:`~mesh.core.errors.ConfigError`."""
        self._store = await self._in_thread(self._open)

    async def stop(self) -> None:
        """Close the book; what runs is finished first."""
        store, self._store = self._store, None
        if store is not None:
            await self._in_thread(store.close)
        self._thread.shutdown(wait=False)

    async def use(self, work: Callable[[BudgetStore], T]) -> T:
        """Something else with the book, in its thread."""
        store = self._store
        if store is None:
            raise OverBudget("the book of the cloud budget is not open")
        return await self._in_thread(lambda: work(store))

    async def reserve(self, claim: Claim) -> str:
        """A ticket; raises :class:`OverBudget`."""
        try:
            return await self._reserve(claim)
        except OverBudget as error:
            if len(self._refused) > MAX_REMEMBERED:
                self._refused.clear()
            self._refused[claim.groups] = (claim.nano, self._clock(), error.retry_after_s)
            raise

    async def _reserve(self, claim: Claim) -> str:
        try:
            return await self._claim(claim)
        except NeedsLease:
            if self.lender is None:
                raise
        async with self._borrowing:  # one question to the lender, whoever else is waiting
            with contextlib.suppress(NeedsLease):
                return await self._claim(claim)
            await self.lender.borrow(claim)
            return await self._claim(claim)

    async def _claim(self, claim: Claim) -> str:
        work = asyncio.ensure_future(self.use(lambda store: store.reserve(claim)))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The thread books on: what nobody will use must not wait for its end.
            work.add_done_callback(self._unclaimed)
            raise

    def _unclaimed(self, work: asyncio.Future[str]) -> None:
        if not work.cancelled() and work.exception() is None:
            store, ticket = self._store, work.result()
            if store is not None:
                with contextlib.suppress(RuntimeError):  # the agent stops: its time gives it back
                    self._thread.submit(store.release, ticket)

    async def sent(self, ticket: str) -> None:
        """The call leaves now."""
        await self.use(lambda store: store.sent(ticket))

    async def settle(self, ticket: str, bill: Bill) -> None:
        """The call cost this."""
        self._refused.clear()
        await self.use(lambda store: store.settle(ticket, bill))

    async def release(self, ticket: str) -> None:
        """The call cost nothing."""
        self._refused.clear()
        await self.use(lambda store: store.release(ticket))

    def shut_s(self, nano: int, groups: tuple[str, ...]) -> float:
        """Seconds until there may be room, as the latest refusal said."""
        nano_refused, said_at, wait_s = self._refused.get(groups, (0, -REMEMBER_S, 0.0))
        since_s = self._clock() - said_at
        if nano < nano_refused or since_s >= REMEMBER_S:
            return 0.0
        return max(0.0, wait_s - since_s)

    async def keep(self, every_s: float = SWEEP_S) -> None:
        """Sweep now and then, and give idle leases back, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.use(lambda store: store.sweep())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
