"""The door of a capability: every place that is given comes back, however its call ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from agents.admitting import CLAIM_S, Door
from agents.scheduling.admission import Ask
from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from mesh.core.records import ModelInfo, ServedName


class FakeModel(Capability):
    """Two slots and a queue of one; ``model`` False makes it a sensor."""

    def __init__(self, *, model: bool = True) -> None:
        self._models = (ModelInfo("m"),) if model else ()

    @property
    def names(self) -> Sequence[ServedName]:
        return ()

    @property
    def models(self) -> Sequence[ModelInfo]:
        return self._models

    def admit(self, request: Request) -> Admission:
        return ACCEPTED

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        raise NotImplementedError

    def occupancy(self) -> Occupancy:
        return Occupancy(slots=2, inflight=0, places=1)


async def words(*said: object) -> AsyncIterator[bytes]:
    for word in said:
        if isinstance(word, Exception):
            raise word
        yield word  # type: ignore[misc]


def fill(door: Door, count: int) -> int:
    return sum(door.admit(100 + n, Ask(caller=str(n))).accepted for n in range(count))


def test_it_takes_its_slots_and_its_queue_and_no_more() -> None:
    assert fill(Door(FakeModel()), 10) == 3


def test_what_has_no_model_is_always_open() -> None:
    assert fill(Door(FakeModel(model=False)), 50) == 50


@pytest.mark.parametrize("said", [(b"a", b"b"), (b"a", ValueError("broken")), ()])
def test_a_place_comes_back_however_the_answer_ends(said: tuple[object, ...]) -> None:
    async def run() -> None:
        door = Door(FakeModel())
        for number in range(20):
            assert door.admit(number, Ask(caller="c")).accepted
            try:
                async for _ in door.through(number, words(*said)):
                    pass
            except ValueError:
                pass
        assert fill(door, 10) == 3

    asyncio.run(run())


def test_a_place_comes_back_when_the_caller_leaves_in_the_middle() -> None:
    async def run() -> None:
        door = Door(FakeModel())
        for number in range(20):
            assert door.admit(number, Ask(caller="c")).accepted
            answer = door.through(number, words(b"a", b"b"))
            await anext(answer)
            await answer.aclose()  # type: ignore[attr-defined]
        assert fill(door, 10) == 3

    asyncio.run(run())


def test_a_place_that_nobody_claims_comes_back_after_a_while() -> None:
    now = 0.0
    door = Door(FakeModel(), clock=lambda: now)
    assert fill(door, 10) == 3
    now = CLAIM_S + 0.1
    assert door.admit(1, Ask(caller="new")).accepted


def test_a_place_that_the_capability_refused_is_free_at_once() -> None:
    door = Door(FakeModel())
    for number in range(20):
        assert door.admit(number, Ask(caller="c")).accepted
        door.forget(number)
    assert fill(door, 10) == 3
