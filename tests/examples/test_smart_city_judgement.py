"""What the visitor's device concludes from findings, and who takes its question apart."""

from __future__ import annotations

import json

import pytest

from agents.orchestrator.modelplan import ModelPlanner
from agents.orchestrator.plan import PlanRefused
from agents.views import StepView
from examples.smart_city.checklist import KEPT_REFUSALS, TOPICS, CheckedPlanner, Checklist
from examples.smart_city.judgement import (
    PARTS,
    Outdoors,
    Risk,
    Unread,
    air,
    camera,
    events,
    traffic,
    weather,
)
from examples.smart_city.story import QUESTION

CALM = {
    "data.gpt/air/trend": "pm25 (ug/m3) = 6, steady, by dongsi, tiantan.",
    "knowledge.gpt/air_quality": "Good by the US AQI, from PM2.5. Fine for everyone.",
    "data.gpt/traffic/trend": "speed (mph) = 66, steady, by 7578.",
    "knowledge.gpt/traffic": "Level A, free flow, by the HCM. Drive as planned.",
    "data.gpt/weather/summary": "town hall: rain (mm) was 0, steady. temperature (C) was 20, "
    "between 18 and 21, steady. wind (m/s) was 2. (0 s ago)",
    "data.gpt/camera/summary": "square: closed roads was 0, steady. people was 7, steady.",
    "knowledge.gpt/city_events": "There is nothing on record in city_events.",
    "knowledge.gpt/city_incidents": "There is nothing on record in city_incidents.",
}


def steps(found: dict[str, str], failed: dict[str, str] | None = None) -> list[StepView]:
    made = [
        StepView(id=n, name=name, node=f"at-{n}", question="q", status="ok", text=text)
        for n, (name, text) in enumerate(found.items(), start=1)
    ]
    for name, error in (failed or {}).items():
        number = len(made) + 1
        made.append(
            StepView(id=number, name=name, node="", question="q", status="failed", error=error)
        )
    return made


def said(found: dict[str, str], failed: dict[str, str] | None = None) -> list[str]:
    return [one.text for one in Outdoors().join(QUESTION, steps(found, failed)).statements]


def test_a_calm_town_is_a_low_risk_and_every_part_has_its_line() -> None:
    lines = said(CALM)
    assert lines[0] == "Overall risk: low. Nothing that was found speaks against it."
    assert sum(line.startswith("Low: ") for line in lines) == len(PARTS)
    assert not any(line.startswith("Not known") for line in lines)


def test_the_worst_part_sets_the_risk_and_comes_first() -> None:
    bad = {
        **CALM,
        "data.gpt/air/trend": "pm25 (ug/m3) = 165.5, rising, by dongsi. Silent: tiantan.",
        "knowledge.gpt/air_quality": "Very unhealthy by the US AQI, from PM2.5. Stay in.",
        "knowledge.gpt/city_events": "Concert, park, 2026-06-20: Loud. [E1]",
    }
    lines = said(bad)
    assert lines[0].startswith("Overall risk: very high, for air. It should not be set up")
    assert lines[1] == (
        "Very high: air. PM2.5 of 165.5 ug/m3 is very unhealthy by the US AQI: stay in. "
        "Silent: tiantan. (at-1, at-2)"
    )
    assert lines[2].startswith("Moderate: events. The place is taken by concert on 2026-06-20 [E1]")


def test_statements_carry_their_sources() -> None:
    joined = Outdoors().join(QUESTION, steps(CALM))
    judged = [one for one in joined.statements if one.text.startswith("Low: ")]
    assert all(one.step and one.name and one.node for one in judged)
    findings = [one for one in joined.statements if one.text.startswith("- ")]
    assert [one.name for one in findings] == list(CALM)
    assert joined.inputs["risks"] == {part.title: "low" for part in PARTS}


def test_what_is_missing_is_named_with_its_reason_and_may_raise_the_risk() -> None:
    left = {name: text for name, text in CALM.items() if "weather" not in name}
    lines = said(left, {"data.gpt/weather/summary": "weather is not reachable"})
    assert "Not known: weather (weather is not reachable). The risk may be higher than said." in (
        lines
    )


def test_nothing_known_is_no_risk_at_all() -> None:
    failed = {name: f"nobody in the mesh offers {name}" for name in CALM}
    joined = Outdoors().join(QUESTION, steps({}, failed))
    assert joined.statements[0].text.startswith("Overall risk: unknown.")
    assert "air (nobody nearby offers it)" in joined.statements[1].text
    assert joined.decision == f"unknown: the worst of 0 parts, {len(PARTS)} not known"


def test_a_text_that_no_rule_reads_is_not_judged() -> None:
    lines = said({**CALM, "data.gpt/air/trend": "the air? lovely"})
    assert any(line.startswith("Not known: air (no figure in") for line in lines)


def test_another_question_keeps_its_findings() -> None:
    with pytest.raises(Unread):
        Outdoors().join("What is 2 + 2 and what is 3 + 3?", steps(CALM))


def test_the_table_outvotes_a_model_that_is_wrong_and_both_are_told() -> None:
    found = air("pm25 (ug/m3) = 165.5, steady.", "Good by the US AQI, from PM2.5. Fine for all.")
    assert found.risk is Risk.VERY_HIGH
    assert "the model said good; the table counts" in found.why
    assert "fine for all" not in found.why
    jam = traffic("speed (mph) = 12, steady.", "Level A, free flow, by the HCM.")
    assert jam.risk is Risk.HIGH
    assert "the model said level A" in jam.why


@pytest.mark.parametrize(
    ("level", "risk"),
    [
        (9.0, Risk.LOW),
        (35.4, Risk.LOW),
        (35.5, Risk.MODERATE),
        (55.5, Risk.HIGH),
        (125.5, Risk.VERY_HIGH),
        (900, Risk.VERY_HIGH),
    ],
)
def test_air_follows_the_breakpoints(level: float, risk: Risk) -> None:
    assert air(f"pm25 (ug/m3) = {level:g}, steady.", "").risk is risk


@pytest.mark.parametrize(
    ("text", "risk", "word"),
    [
        ("wind (m/s) was 4, between 2 and 18, rising.", Risk.HIGH, "high from 17.2"),
        ("rain (mm) was 3.", Risk.MODERATE, "moderate from 2.5"),
        ("temperature (C) was 35, between 30 and 41, rising.", Risk.VERY_HIGH, "up to 41 C"),
        ("temperature (C) was 2, between -3 and 4, rising.", Risk.MODERATE, "frost, down to -3 C"),
        ("wind (m/s) was 25. rain (mm) was 0.", Risk.VERY_HIGH, "no rain"),
    ],
)
def test_weather_is_as_bad_as_its_worst_reading(text: str, risk: Risk, word: str) -> None:
    found = weather(text, "")
    assert found.risk is risk
    assert word in found.why


def test_a_closed_road_counts_more_than_people_do() -> None:
    assert camera("square: closed roads was 1. people was 21.", "").risk is Risk.HIGH
    assert camera("square: closed roads was 0. people was 21.", "").risk is Risk.LOW


def test_records_are_cited_by_their_numbers() -> None:
    found = events("Run, park, 2026-07-04: Early. [E4] Fair, park, 2026-08-01: Late. [E9]", "")
    assert found.why == "the place is taken by run on 2026-07-04 [E4], fair on 2026-08-01 [E9]"


# -- the plan ------------------------------------------------------------------------------------

NAMES = [item.name for item in TOPICS[0].item]


def plan_of(*names: str) -> str:
    rows = [
        {"id": n, "question": f"part {chr(96 + n)}?", "name": name, "depends": []}
        for n, name in enumerate(names, start=1)
    ]
    return json.dumps({"steps": rows})


def test_a_model_s_plan_that_leaves_nothing_out_is_taken() -> None:
    planner = CheckedPlanner()
    assert planner.request(QUESTION, NAMES) is not None
    plan = planner.decoded(plan_of(*NAMES), QUESTION, NAMES)
    assert plan.method == f"model: {len(NAMES)} steps"


def test_a_model_s_plan_that_leaves_out_what_somebody_offers_is_refused_once() -> None:
    planner = CheckedPlanner()
    kept = [name for name in NAMES if name != "data.gpt/camera/summary"]
    with pytest.raises(PlanRefused, match=r"leaves out data\.gpt/camera/summary"):
        planner.decoded(plan_of(*kept), QUESTION, NAMES)
    assert planner.request(QUESTION, NAMES) is None, "it would only cost time again"
    assert planner.plan(QUESTION).method.startswith("checklist")


def test_a_plan_need_not_name_what_nobody_offers() -> None:
    here = NAMES[:3]
    assert len(CheckedPlanner().decoded(plan_of(*here), QUESTION, here).steps) == 3


def test_nonsense_of_the_model_falls_back_and_other_questions_are_still_planned_by_it() -> None:
    planner = CheckedPlanner()
    with pytest.raises(PlanRefused):
        planner.decoded("once upon a time", QUESTION, NAMES)
    other = "What is the air like, and how many people are there?"
    assert planner.request(other, NAMES) is not None
    assert planner.decoded(plan_of(NAMES[0]), other, NAMES).steps


def test_refusals_are_remembered_within_a_bound() -> None:
    planner = CheckedPlanner()
    for number in range(KEPT_REFUSALS + 1):
        with pytest.raises(PlanRefused):
            planner.decoded("no plan", f"{QUESTION} {number}", NAMES)
    assert planner.request(f"{QUESTION} 0", NAMES) is not None
    assert planner.request(f"{QUESTION} {KEPT_REFUSALS}", NAMES) is None


def test_a_part_that_failed_is_missing_and_nobody_else_stands_in_for_it() -> None:
    assert isinstance(CheckedPlanner(), ModelPlanner)
    assert CheckedPlanner().again(QUESTION, NAMES, NAMES[0], "it is silent") is None
    assert {item.name for item in TOPICS[0].item} >= {part.name for part in PARTS}
    assert Checklist().plan(QUESTION).steps
