"""Lending over the mesh: garbage is refused, idle leases go back, options reach the ladder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.budget.lease import Ask, Held, Return, Terms
from agents.budget.limits import Limit, Limits
from agents.budget.purse import BudgetPurse
from agents.budget.store import BudgetStore
from agents.cloud.lending import Borrower, LeaseService, keep_giving_back
from agents.cloud.options import ladder_options
from agents.config import CloudSection
from mesh.core.errors import ConfigError, GossamerError, PeerLost
from mesh.net.calls import IncomingCall

START = 1_800_000_000.0


class FakePeer:
    """A fake member: what the service reads of one."""

    node = b"h" * 16
    name = "holder"

    def may_publish(self, name: str) -> bool:
        return True


class FakeCall:
    """A fake call with a body."""

    peer = FakePeer()

    def __init__(self, body: bytes) -> None:
        self.body = body


def told(*_: str, **__: str) -> bool:
    return True


@asynccontextmanager
async def purse(path: Path, *, borrowing: bool = False) -> AsyncIterator[BudgetPurse]:
    limits = Limits() if borrowing else Limits(node=Limit(day=1000))
    made = BudgetPurse(lambda: BudgetStore(path, limits, borrowing=borrowing, wall=lambda: START))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def serve(path: Path, *bodies: bytes) -> list[bytes | str]:
    """What the service answers to each, or the code of its error."""

    async def main() -> list[bytes | str]:
        found: list[bytes | str] = []
        async with purse(path) as made:
            service = LeaseService(made, Terms(seconds=100), told, lambda _: None)
            for body in bodies:
                call = cast(IncomingCall, FakeCall(body))
                try:
                    found += [data async for data in service.serve(call)]
                except GossamerError as error:
                    found.append(error.code)
        return found

    return asyncio.run(main())


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_garbage_is_an_error_and_lends_nothing(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("book") / "book"
    ask = msgspec.msgpack.encode(Ask(id="a", want=1000, seconds=1.0))
    *_, last = serve(path, *bodies, ask)
    assert isinstance(last, bytes)  # all of it is still there


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_lease_without_a_sensible_id_is_refused(tmp_path: Path, name: str) -> None:
    body = msgspec.msgpack.encode(Ask(id=name, want=1, seconds=1.0))
    assert serve(tmp_path / "book", body) == ["malformed"]


def test_returning_a_lease_that_never_was_changes_nothing(tmp_path: Path) -> None:
    back = msgspec.msgpack.encode(Return(id="none", spent=-(10**9)))
    ask = msgspec.msgpack.encode(Ask(id="a", want=1001, seconds=1.0))
    assert serve(tmp_path / "book", back, ask)[1] == "rejected"


class FakeBorrower:
    """A fake borrower whose lender cannot be reached at first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done = asyncio.Event()

    async def give_back(self, lease: Held) -> None:
        self.asked.append(lease.id)
        if len(self.asked) == 1:
            raise PeerLost("gone")
        self.done.set()


def test_an_idle_lease_is_offered_back_until_the_lender_has_heard(tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with purse(tmp_path / "book", borrowing=True) as made:
            await made.use(lambda store: store.borrowed("idle", (), 50, START - 1.0))
            borrower = FakeBorrower()
            work = asyncio.create_task(
                keep_giving_back(made, cast(Borrower, borrower), every_s=0.01)
            )
            await borrower.done.wait()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return borrower.asked

    assert asyncio.run(main())[:2] == ["idle", "idle"]


def test_the_fitted_cascade_of_the_configuration_reaches_the_ladder(tmp_path: Path) -> None:
    cascade: dict[str, Any] = {"thresholds": [0.5], "gains": [0.1], "budget": 1, "questions": 20}
    file = tmp_path / "cascade.json"
    file.write_text(json.dumps(cascade))
    found = ladder_options(CloudSection(cascade=file, redirects=2))
    assert found == {"escalation": {"redirects": 2, "cascade": cascade}}
    file.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        ladder_options(CloudSection(cascade=file))
