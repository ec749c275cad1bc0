"""Joules per token: measured while tokens are written, else as the owner states."""

from __future__ import annotations

from agents.energy import EnergyMeter
from mesh.core.wire import Load

AT_WORK = Load(inflight=2, slots=4, tokens_per_s=10.0)
IDLE = Load(inflight=0, slots=4, tokens_per_s=10.0)


def test_power_at_work_is_shared_by_the_tokens_that_are_written() -> None:
    meter = EnergyMeter()
    assert meter.joules_per_token(AT_WORK) == 0.0
    meter.look(20.0, AT_WORK)
    assert meter.joules_per_token(IDLE) == 1.0
    meter.look(40.0, AT_WORK)
    assert 1.0 < meter.joules_per_token(IDLE) < 2.0


def test_idling_and_silence_teach_nothing() -> None:
    meter = EnergyMeter()
    meter.look(8.0, IDLE)
    meter.look(0.0, AT_WORK)
    meter.look(8.0, Load(inflight=1, slots=1, tokens_per_s=0.0))
    assert meter.joules_per_token(AT_WORK) == 0.0


def test_what_is_measured_outweighs_what_is_stated() -> None:
    meter = EnergyMeter(stated_w=40.0)
    assert meter.joules_per_token(IDLE) == 1.0  # all four slots at work
    meter.look(60.0, AT_WORK)
    assert meter.joules_per_token(IDLE) == 3.0


def test_more_at_work_than_slots_is_no_more_than_the_slots() -> None:
    meter = EnergyMeter()
    meter.look(40.0, Load(inflight=9, slots=4, tokens_per_s=10.0))
    assert meter.joules_per_token(IDLE) == 1.0
