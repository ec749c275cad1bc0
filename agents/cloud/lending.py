"""Leases of a budget between two nodes: who lends answers a name, who borrows calls it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from agents.budget.lease import MARGIN_S, Ask, Grant, Held, Return, Terms, grant_of
from agents.budget.purse import BudgetPurse
from capabilities.cloud.purse import Claim, OverBudget
from mesh.core.access import CLOUD
from mesh.core.audit_chain import What
from mesh.core.errors import GossamerError, WireError
from mesh.core.identity import Member, show_id
from mesh.core.records import ServedName
from mesh.core.wire import CallHeader, Reach
from mesh.net.calls import IncomingCall, Verdict
from mesh.net.node import MeshNode

LEASE = f"{CLOUD}/lease"
CALL_S = 5.0  # one exchange of two small messages
AGAIN_S = 10.0  # how soon to come back when the lender cannot be reached
MAX_BODY_BYTES = 4096
MAX_ID_CHARS = 64

_asks: msgspec.msgpack.Decoder[Ask | Return] = msgspec.msgpack.Decoder(Ask | Return)


def served_lease() -> ServedName:
    """The name that a lender offers."""
    return ServedName(
        name=LEASE, domain="cloud", description="A part of this node's cloud budget.", kind="lease"
    )


class LeaseService:
    """Lends parts of this node's budget to nodes whose certificate lets them offer a cloud."""

    def __init__(
        self,
        purse: BudgetPurse,
        terms: Terms,
        record: Callable[..., bool],
        members: Callable[[bytes], Member | None],
    ) -> None:
        self._purse = purse
        self._terms = terms
        self._record = record
        self._member = members

    def admit(self, call: IncomingCall) -> Verdict:
        """Only who may itself serve the cloud may hold a part of its budget."""
        if not call.peer.may_publish(CLOUD):
            return Verdict(False, f"{call.peer.name} may not offer {CLOUD}")
        if call.header.caller != call.peer.node:
            return Verdict(False, "a lease is asked for in one's own name")
        return Verdict(len(call.body) <= MAX_BODY_BYTES, "a question that is no question")

    async def serve(self, call: IncomingCall) -> AsyncGenerator[bytes, None]:
        """One answer: a :class:`Grant`. Raises :class:`OverBudget`."""
        holder = call.peer.node.hex()
        who = f"{call.peer.name} {show_id(call.peer.node)}"
        try:
            asked = _asks.decode(call.body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise WireError(f"not a question for a lease: {error}") from error
        if not 0 < len(asked.id) <= MAX_ID_CHARS:
            raise WireError("a lease has an id of at most 64 characters")
        if isinstance(asked, Return):
            spent = asked.spent
            await self._purse.use(lambda store: store.returned(asked.id, holder, spent))
            self._record(What.ESCALATION, who, role="lease returned", spent=str(spent))
            yield msgspec.msgpack.encode(Grant(id=asked.id, nano=0, seconds=0.0))
            return
        ask, terms = asked, self._terms
        nano = await self._purse.use(
            lambda store: store.lend(
                ask.id,
                holder,
                ask.groups,
                terms.seconds,
                lambda left, open_now: grant_of(ask, left, open_now, terms),
            )
        )
        self._record(What.ESCALATION, who, role="lease granted", nano=str(nano))
        yield msgspec.msgpack.encode(Grant(id=ask.id, nano=nano, seconds=terms.seconds))


class Borrower:
    """Gets leases from the node called ``lender`` and gives them back."""

    def __init__(
        self, node: MeshNode, lender: str, purse: BudgetPurse, wall: Callable[[], float]
    ) -> None:
        self._node = node
        self._lender = lender
        self._purse = purse
        self._wall = wall

    async def borrow(self, claim: Claim) -> None:
        """A lease with room for ``claim``; raises :class:`OverBudget` with a time."""
        # From before the question: the lender's time begins no earlier than it was sent.
        asked_at = self._wall()
        ask = Ask(
            id=os.urandom(16).hex(), want=claim.nano, seconds=claim.seconds, groups=claim.groups
        )
        try:
            grant = await self._call(ask)
        except OverBudget:
            raise
        except GossamerError as error:
            wait_s = getattr(error, "retry_after_s", 0.0) or AGAIN_S
            raise OverBudget(
                f"{self._lender} lends nothing: {error.message}", retry_after_s=wait_s
            ) from error
        until = asked_at + grant.seconds - MARGIN_S
        await self._purse.use(lambda store: store.borrowed(ask.id, claim.groups, grant.nano, until))

    async def give_back(self, lease: Held) -> None:
        """Close a lease and tell the lender what was spent; later again if it cannot be told."""
        spent = await self._purse.use(lambda store: store.closing(lease.id))
        if spent is None:
            return
        await self._call(Return(id=lease.id, spent=spent))
        await self._purse.use(lambda store: store.closed(lease.id))

    async def _call(self, body: Ask | Return) -> Grant:
        node = self._node
        lender = next((m.node for m in node.core.members() if m.name == self._lender), None)
        if lender is None:
            raise OverBudget(f"no node called {self._lender} is known", retry_after_s=AGAIN_S)
        header = CallHeader(
            trace=os.urandom(16),
            span=os.urandom(8),
            timeout_ms=int(CALL_S * 1000),
            caller=node.me.node,
            reach=Reach.MESH,
        )
        answer = node.call(lender, LEASE, msgspec.msgpack.encode(body), header)
        async with aclosing(answer):
            async for data in answer:
                try:
                    return msgspec.msgpack.decode(data, type=Grant)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                    raise WireError(f"the lender's answer is no lease: {error}") from error
        raise WireError("the lender did not answer")


async def keep_giving_back(purse: BudgetPurse, borrower: Borrower, every_s: float) -> None:
    """Return leases that are idle or over, until cancelled."""
    from agents.budget.lease import to_return

    while True:
        await asyncio.sleep(every_s)
        held, now = await purse.use(lambda store: (store.held(), store.now()))
        for lease in to_return(held, now):
            try:
                await borrower.give_back(lease)
            except GossamerError:
                continue  # told again at the next turn; until then the lender counts all of it
