"""The phone's round where its devices fail it, with an agent that answers as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agents.library import Generation, Published, Sample
from examples.wearable import phone
from examples.wearable.phone import Phone, Round
from mesh.core.errors import GossamerError, NoSuchName

VALUES = {
    "heart": {"heart_rate_bpm": 72.0},
    "activity": {"steps_today": 5000.0},
    "finger": {"spo2_percent": 97.0, "temperature_c": 36.8},
    "breath": {"breaths_per_min": 15.0},
    "room": {"co2_ppm": 600.0, "pm25_ug_m3": 5.0},
    "sleep": {"asleep_h": 7.5},
}
RIGHT = "Low risk: NEWS2 score 0, partial. No diagnosis."


class FakeAgent:
    """Stands for the phone's agent; ``late`` feeds exist only at the second look."""

    def __init__(self, *, says: str = RIGHT, late: tuple[str, ...] = ()) -> None:
        self.states = dict.fromkeys(phone.ORDER, "alive")
        self.says, self.late, self.broken = says, set(late), ""
        self.asked: list[str] = []
        self.alarms: list[str] = []

    async def peers(self) -> list[Any]:
        from types import SimpleNamespace

        return [SimpleNamespace(name=name, state=state) for name, state in self.states.items()]

    async def follow(self, name: str, *, timeout_s: float) -> AsyncIterator[Published]:
        place, _, device = name.partition("@")
        domain = place.split("/")[1]
        if domain in self.late:
            self.late.discard(domain)
            raise NoSuchName(f"nobody publishes {place}")
        if domain == self.broken:
            return  # its time is over without a word
        for at in (0.0, time.time() + 60.0):  # an old one comes first
            value = Sample(
                domain=domain, type="insight", source=device, at=at, values=VALUES[domain]
            )
            yield Published(
                name=place, node=device, key="now", version=1, epoch=1, sequence=1, at=at,
                value=value,
            )  # fmt: skip

    async def generate(self, name: str, text: str, **_: Any) -> Generation:
        self.asked.append(name)
        if name.endswith("@patch") and self.says == "breaks":
            raise GossamerError("the model ended")
        return Generation(text=self.says, finish="stop", name=name, node="x")

    async def publish(self, name: str, value: Any, *, key: str) -> None:
        self.alarms.append(value["text"])


def look(agent: FakeAgent, feeling: str = "I feel fine.") -> Round:
    made = Phone(agent)  # type: ignore[arg-type]
    return asyncio.run(made.look("now", feeling, since=time.time()))


def test_a_model_that_says_another_score_is_corrected() -> None:
    made = look(FakeAgent(says="High risk: NEWS2 score 9, partial."))
    assert len(made.corrected) == 3
    assert made.corrected[0] == "watch: the model said 9, the standard's rule 0"
    assert "NEWS2 is 0" in made.answer()
    assert not made.alarm


def test_a_model_that_breaks_stops_nothing() -> None:
    made = look(FakeAgent(says="breaks"))
    broken = [step for step in made.steps if step.status != "ok"]
    assert [step.device for step in broken] == ["patch"]
    assert made.hops == ["watch", "ring", "patch", "hub"]
    assert set(made.view.chosen) == {"pulse", "spo2", "temperature", "respiration"}


def test_a_feed_that_gossip_has_not_told_of_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phone, "AGAIN_S", 0.0)
    made = look(FakeAgent(late=("heart", "breath")))
    assert not made.view.missing


def test_a_suspect_is_asked_and_a_dead_one_is_not() -> None:
    agent = FakeAgent()
    agent.states |= {"watch": "suspect", "ring": "dead"}
    made = look(agent)
    assert made.absent == ["ring"]
    assert made.hops == ["watch", "patch", "hub"]
    assert not any(name.endswith("@ring") for name in agent.asked)


def test_a_device_that_says_nothing_new_leaves_its_part_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phone, "INSIGHT_S", 0.01)
    agent = FakeAgent()
    agent.broken = "finger"
    made = look(agent)
    assert made.view.missing == ["SpO2 (ring)", "temperature (ring)"]


def test_only_an_open_question_goes_to_the_practice() -> None:
    well, unwell = FakeAgent(), FakeAgent()
    look(well)
    assert phone.HEALTH not in well.asked
    look(unwell, "My back hurts.")
    assert unwell.asked[-1] == phone.HEALTH
