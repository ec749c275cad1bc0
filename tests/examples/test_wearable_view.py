"""The view that is formed from insights: what is believed, what is said, what is left open."""

from __future__ import annotations

import pytest

from examples.wearable.view import Heard, advice, alarm, gap, told, unify

WANTED = {"pulse": "watch", "spo2": "ring", "sleep": "hub"}
WATCH = Heard("watch", "heart", {"heart_rate_bpm": 72.0})


def test_what_nobody_told_is_missing() -> None:
    view = unify([WATCH], WANTED)
    assert view.missing == ["SpO2 (ring)", "sleep (hub)"]
    assert told(view) == "heart rate 72"


def test_nothing_heard_is_no_score_and_no_good_news() -> None:
    view = unify([], WANTED)
    assert view.score() is None
    assert view.uncertain
    assert advice(view) == ["No vital sign is known: nothing can be said of your state."]
    assert alarm(view) == ""


def test_an_old_pulse_is_no_pulse_but_last_nights_sleep_is_sleep() -> None:
    old = [
        Heard("watch", "heart", {"heart_rate_bpm": 72.0}, stale_s=60.0),
        Heard("hub", "sleep", {"asleep_h": 7.0}, stale_s=60.0),
    ]
    view = unify(old, WANTED)
    assert view.chosen == {}
    assert view.context == {"asleep_h": 7.0}
    assert len(view.stale) == 2


@pytest.mark.parametrize(("ring", "apart"), [(80.0, False), (87.0, False), (88.0, True)])
def test_pulses_contradict_each_other_beyond_fifteen(ring: float, apart: bool) -> None:
    view = unify([WATCH, Heard("ring", "finger", {"pulse_bpm": ring})], WANTED)
    assert bool(view.conflicts) is apart
    assert view.chosen["pulse"].value == 72.0


def test_a_contradiction_that_would_change_the_risk_forbids_all_clear() -> None:
    signs = {"spo2_percent": 97.0, "temperature_c": 36.8, "breaths_per_min": 15.0}
    near = unify([WATCH, Heard("ring", "finger", {**signs, "pulse_bpm": 95.0})], {})
    far = unify([WATCH, Heard("ring", "finger", {**signs, "pulse_bpm": 135.0})], {})
    assert not near.uncertain
    assert far.uncertain
    assert not any("carry on" in line for line in advice(far))


def test_a_faulty_sensor_is_named_and_gives_no_value() -> None:
    view = unify([Heard("ring", "finger", {"spo2_percent_faulty": 1.0})], WANTED)
    assert view.faulty == ["spo2 percent of the ring"]
    assert "SpO2 (ring)" in view.missing


def test_an_alarm_begins_at_five_and_names_what_weighs_most() -> None:
    four = unify([Heard("ring", "finger", {"spo2_percent": 91.0, "pulse_bpm": 95.0})], {})
    five = unify([Heard("ring", "finger", {"spo2_percent": 91.0, "pulse_bpm": 115.0})], {})
    assert alarm(four) == ""
    assert "SpO2" in alarm(five)
    assert "pulse" not in alarm(five)


@pytest.mark.parametrize("feeling", ["I feel fine.", "I'm OK", "I feel very well today!", ""])
def test_who_is_well_leaves_nothing_open(feeling: str) -> None:
    assert gap(feeling) == ""


@pytest.mark.parametrize(
    "feeling", ["I do not feel well.", "My arm hurts.", "Dizzy", "fine, but sad"]
)
def test_any_other_word_leaves_a_question(feeling: str) -> None:
    assert feeling in gap(feeling)
