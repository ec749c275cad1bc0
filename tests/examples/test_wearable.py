"""The wearable scenario, run once in its short form with real processes and a real broker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agents.boards.deploy.inventory import load_inventory
from agents.boards.deploy.release import gather, render
from capabilities.standards.vitals import score
from examples._stage import lacking
from examples.wearable.__main__ import play
from examples.wearable.feed import read_wave
from examples.wearable.story import PUBLISH, RAW, actors, people

Told = dict[str, Any]
INVENTORY = Path(__file__).parents[2] / "examples" / "wearable" / "inventory.toml"
needs_broker = pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    if lacking():
        pytest.skip(lacking())
    report = tmp_path_factory.mktemp("report")
    return asyncio.run(play(short=True, quiet=True, report=report))


def case(told: Told, session: str) -> Told:
    return next(one for one in told["rounds"] if one["case"] == session)


pytestmark = pytest.mark.timeout(400)  # nine agents start on whatever machine this is


@pytest.mark.e2e
def test_the_devices_infer_one_after_the_other(told: Told) -> None:
    calm = case(told, "calm")
    assert calm["hops"] == ["watch", "ring", "patch", "hub"]
    models = [step for step in calm["steps"] if step["what"] == "model"]
    assert [step["device"] for step in models] == ["watch", "ring", "patch", "hub"]
    # Each knows what those before it found out: the part that is known grows.
    assert ["1 of 7" in models[0]["text"], "3 of 7" in models[1]["text"]] == [True, True]
    assert "4 of 7" in models[2]["text"]
    # In sequence, the whole takes as long as its steps together.
    assert calm["wall_s"] >= calm["sum_of_steps_s"]


@pytest.mark.e2e
def test_the_heart_rate_is_that_of_the_recording(told: Told) -> None:
    from capabilities.sensors.ppg import heart_rate

    alone = heart_rate(read_wave(), 100.0).bpm
    assert case(told, "calm")["vitals"]["pulse"]["value"] == pytest.approx(1.2 * alone, abs=3)
    assert case(told, "evening-22h")["vitals"]["pulse"]["value"] == pytest.approx(2 * alone, abs=3)


@pytest.mark.e2e
def test_no_raw_reading_leaves_its_device(told: Told) -> None:
    assert told["raw"] == {
        f"{n}@{device}": "denied" for device, names in RAW.items() for n in names
    }
    for device, left in told["left"].items():
        assert left["readings_kept"] > 0
        assert left["insights"] > 0
        assert left["refused"] >= len(RAW[device])
        assert not [name for name in left["served"] if name.endswith("/raw")]
        assert "ppg" not in left["figures"]


@pytest.mark.e2e
def test_knowledge_is_asked_only_where_there_is_a_gap(told: Told) -> None:
    assert told["questions_on_the_calm_day"] == 0
    assert not case(told, "calm")["knowledge"]
    asked = case(told, "without-ring")
    assert asked["gap"]
    assert "dizziness.md" in asked["knowledge"]
    assert "Source: NHS" in asked["knowledge"]


@pytest.mark.e2e
def test_every_score_is_the_standards(told: Told) -> None:
    for one in told["rounds"]:
        values = {key: claim["value"] for key, claim in one["vitals"].items()}
        assert one["news2"] == score(values).total
        assert "No diagnosis." in one["answer"]


@pytest.mark.e2e
def test_a_bad_evening_raises_an_alarm_that_the_chosen_person_hears(told: Told) -> None:
    bad = case(told, "evening-22h")
    assert bad["news2"] >= 7
    assert "emergency" in bad["answer"]
    assert set(told["alarms"]) == {"evening-22h"}
    assert not case(told, "calm")["alarm"]


@pytest.mark.e2e
def test_a_missing_device_is_named_and_nothing_is_made_up(told: Told) -> None:
    without = case(told, "without-ring")
    assert without["absent"] == ["ring"]
    assert without["missing"] == ["SpO2 (ring)", "temperature (ring)"]
    assert set(without["vitals"]) == {"pulse", "respiration"}
    assert "carry on" not in without["answer"]


@pytest.mark.e2e
def test_a_contradiction_is_told_and_not_averaged(told: Told) -> None:
    both = case(told, "contradiction")
    assert both["conflicts"] == ["pulse: the watch says 71, the ring 134"]
    assert both["vitals"]["pulse"]["device"] == "watch"
    assert "measure again" in both["answer"]
    assert "carry on" not in both["answer"]


@pytest.mark.e2e
def test_away_from_the_hub_old_words_are_told_as_old(told: Told) -> None:
    away = case(told, "away")
    assert away["absent"] == ["hub"]
    assert away["hops"] == ["watch", "ring", "patch"]
    assert [text.split(" (")[0] for text in away["stale"]] == [
        "room of the hub",
        "sleep of the hub",
    ]


@pytest.mark.e2e
def test_the_report_writes_itself_and_reaches_the_practice(told: Told) -> None:
    report = told["report"]
    assert report["at_the_practice"]
    text = Path(report["markdown"]).read_text(encoding="utf-8")
    for words in ("Not a diagnosis", "Limits", "evening, 22:00", "Royal College of Physicians"):
        assert words in text
    assert "SpO2 (ring)" in text
    if report["pdf"]:
        pypdf = pytest.importorskip("pypdf")
        pages = pypdf.PdfReader(report["pdf"]).pages
        assert "NEWS2" in "".join(page.extract_text() for page in pages)


@pytest.mark.e2e
def test_a_groups_mean_comes_without_a_summand(told: Told) -> None:
    group = told["group"]
    assert group["inputs"] == 4
    assert group["means"] == pytest.approx(group["plain_means"], rel=1e-4)
    shown = json.dumps(group)
    for day in people().values():
        assert str(day["steps"]) not in shown


def test_the_inventory_deploys_what_the_scenario_runs(tmp_path: Path) -> None:
    inventory = load_inventory(INVENTORY)
    here = {actor.name: actor for actor in actors(1883, tmp_path)}
    assert {host.name for host in inventory.hosts} == set(here)
    for host in inventory.hosts:
        assert render(inventory, host, ())  # an agent would take it
        assert gather(inventory, host, b"k" * 32)  # every file is there
        assert set(host.groups) == set(here[host.name].groups)
        if host.name in PUBLISH:
            assert set(host.publish) == set(PUBLISH[host.name])
