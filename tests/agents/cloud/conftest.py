"""The stand-in without a model where the model's words are not the point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks._stand_in import Fault, StandIn, running


@pytest.fixture(scope="session")
def served() -> Iterator[StandIn]:
    with running(StandIn(with_model=False)) as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(served: StandIn) -> Iterator[StandIn]:
    served.script.clear()
    served.seen.clear()
    served.always = Fault(no_model=True)
    yield served
    served.script.clear()
