"""One stand-in cloud with a real model for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks._stand_in import StandIn, running


@pytest.fixture(scope="session")
def served() -> Iterator[StandIn]:
    with running(StandIn()) as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(served: StandIn) -> Iterator[StandIn]:
    served.script.clear()
    served.seen.clear()
    served.closed_early = 0
    yield served
    served.script.clear()
