"""The city's story, told once in its short form: what the visitor gets, and survives getting."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.boards.deploy.inventory import load_inventory
from agents.boards.deploy.release import gather, render
from agents.config import make_config
from agents.orchestrator.plan import MAX_STEPS
from agents.sensors.broker import mosquitto
from capabilities.base import Request
from capabilities.messages import Done, Generate, Message, decode_event, encode
from examples.smart_city.boards import FOLDER, files
from examples.smart_city.checklist import Checklist
from examples.smart_city.feed import FEEDS, read_faults, series
from examples.smart_city.records import Records
from examples.smart_city.story import QUESTION
from mesh.core.errors import ConfigError
from tests.e2e.harness import processes_of

CAMERA = importlib.util.find_spec("cv2") is not None
needs_town = pytest.mark.skipif(
    mosquitto() is None or not CAMERA, reason="needs mosquitto and OpenCV (the extra examples)"
)
needs_camera = pytest.mark.skipif(not CAMERA, reason="OpenCV is not installed (the extra examples)")
LONGEST_S = 240.0  # of a loaded machine


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("city")
    command = [sys.executable, "-m", "examples.smart_city", "--short", "--json"]
    command += ["--state", str(folder / "state"), "--report", str(folder / "report")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    told["report"] = (folder / "report" / "report.md").read_text()
    told["left_behind"] = [p.pid for p in processes_of(folder)]
    return told


def act(story: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(story["acts"][name])


def step(act: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(s) for s in act["steps"] if s["name"] == name)


@pytest.mark.e2e
@needs_town
@pytest.mark.timeout(300)
class TestStory:
    def test_the_device_alone_cannot_know_and_says_what_is_missing(
        self, story: dict[str, Any]
    ) -> None:
        alone = act(story, "alone")
        assert alone["degraded"]
        assert len(alone["missing"]) == len(alone["steps"])
        assert alone["nodes"] == []
        assert alone["text"].startswith("Overall risk: unknown.")

    def test_the_question_is_taken_apart_and_asked_of_many_nearby(
        self, story: dict[str, Any]
    ) -> None:
        together = act(story, "together")
        assert together["plan"].startswith(("checklist", "model"))
        assert not together["degraded"]
        assert len(together["nodes"]) >= 6
        assert "phone" not in together["nodes"]
        assert {s["status"] for s in together["steps"]} == {"ok"}

    def test_the_device_s_own_model_is_asked_for_a_plan_once_and_it_is_told_who_planned(
        self, story: dict[str, Any]
    ) -> None:
        asked = act(story, "alone")
        assert asked["plan_by_model"]
        by_model = asked["plan"].startswith("model")
        assert by_model or "instead: " in asked["plan_by_model"]
        if not by_model:  # refused: not asked again for the same question
            assert act(story, "together")["plan_by_model"] == ""

    def test_the_answer_begins_with_a_judgement_that_the_worst_part_sets(
        self, story: dict[str, Any]
    ) -> None:
        together = act(story, "together")
        first, worst = together["text"].splitlines()[:2]
        risk = first.partition(": ")[2].partition(",")[0].partition(".")[0]
        assert risk in {"moderate", "high", "very high"}, "two events are on record there"
        assert worst.lower().startswith(f"{risk}: ")
        assert together["judgement"].startswith(f"{risk}: the worst of 6 parts, 0 not known")

    def test_parts_that_wait_for_nothing_run_side_by_side(self, story: dict[str, Any]) -> None:
        steps = act(story, "together")["steps"]
        free = [s for s in steps if not s["depends"]]
        waiting = [s for s in steps if s["depends"]]
        first_end = min(s["started_s"] + s["elapsed_s"] for s in waiting)
        # One after another, the last of six would begin when the models are long done.
        assert all(s["started_s"] < first_end for s in free)
        for one in waiting:
            parent = next(s for s in steps if s["id"] == one["depends"][0])
            assert one["started_s"] >= parent["started_s"]
        begun = sorted(waiting, key=lambda s: s["started_s"])
        assert begun[1]["started_s"] < begun[0]["started_s"] + begun[0]["elapsed_s"]

    def test_the_models_judge_what_the_sensors_measured(self, story: dict[str, Any]) -> None:
        together = act(story, "together")
        level = step(together, "data.gpt/air/trend")["text"].split("=")[1].split(",")[0].strip()
        assert float(level) > 0
        assert "US AQI" in step(together, "knowledge.gpt/air_quality")["text"]
        assert "HCM" in step(together, "knowledge.gpt/traffic")["text"]

    def test_the_answer_cites_nodes_and_records(self, story: dict[str, Any]) -> None:
        together = act(story, "together")
        assert "knowledge.gpt/city_events@calendar" in together["sources"]
        assert "[E1]" in together["text"]
        assert "[I1]" in together["text"]

    def test_a_station_that_died_is_named_and_the_answer_stands(
        self, story: dict[str, Any]
    ) -> None:
        assert {s["status"] for s in act(story, "just_dead")["steps"]} == {"ok"}
        dead = act(story, "station_dead")
        assert any("Silent: dongsi" in doubt for doubt in dead["doubts"])
        assert step(dead, "knowledge.gpt/air_quality")["node"] != "air-dongsi"

    def test_a_station_that_lies_is_named_and_not_counted(self, story: dict[str, Any]) -> None:
        lies = act(story, "station_lies")
        text = step(lies, "data.gpt/air/trend")["text"]
        assert "Not counted, far from the others: guanyuan." in text
        assert "guanyuan" not in text.split(".")[0]

    def test_a_closed_road_is_seen_by_the_camera_and_found_by_the_search(
        self, story: dict[str, Any]
    ) -> None:
        closed = act(story, "road_closed")
        assert "High: the square. A sign says that a road is closed" in closed["text"]
        assert "closed roads was 1" in step(closed, "data.gpt/camera/summary")["text"]
        assert "[I6]" in step(closed, "knowledge.gpt/city_incidents")["text"]
        assert "[I6]" not in act(story, "together")["text"]

    def test_a_crowd_is_helped_by_the_cloud_within_its_budget(self, story: dict[str, Any]) -> None:
        crowd = act(story, "crowd")
        assert crowd["answered_by_stations"] >= 1
        assert crowd["answered_by_cloud"] >= 1
        assert crowd["spent"] + crowd["reserved"] <= crowd["limit"]
        assert 0 < crowd["billed_by_provider"] <= crowd["limit"]
        told = crowd["answered_by_stations"] + crowd["answered_by_cloud"] + crowd["not_answered"]
        assert told == crowd["asked"]

    def test_a_split_costs_what_is_across_and_says_so(self, story: dict[str, Any]) -> None:
        split = act(story, "split")
        assert split["degraded"]
        assert any("What is the weather?" in line for line in split["missing"])
        assert "Not known: weather (" in split["text"]
        assert "The risk may be higher than said." in split["text"]
        assert step(split, "data.gpt/air/trend")["status"] == "ok"
        assert not set(split["nodes"]) & {"air-tiantan", "counter-t4013", "weather"}
        if split["across"]:  # with real namespaces the other side goes on
            assert "HCM" in split["across"]["text"]
            assert split["across"]["nodes"] == ["counter-t4013"]
        healed = act(story, "healed")
        assert not healed["degraded"]
        assert step(healed, "data.gpt/weather/summary")["node"] == "weather"

    def test_raw_readings_stay_and_bytes_are_told(self, story: dict[str, Any]) -> None:
        assert act(story, "raw")["refused"] == "denied"
        left = act(story, "left")
        assert set(left) >= {"camera-square", "air-tiantan", "search"}
        assert all(device["bytes"] > 0 for device in left.values())
        assert set(left["camera-square"]["served"]) <= {"data.gpt/camera/summary"}

    def test_the_report_tells_every_act_and_no_process_stays(self, story: dict[str, Any]) -> None:
        for title in ("The town answers", "A station lies", "The network is split"):
            assert f"## {title}" in story["report"]
        assert story["left_behind"] == []


# -- the parts by themselves ---------------------------------------------------------------------


def test_the_checklist_is_a_plan_and_other_questions_go_by_the_rules() -> None:
    plan = Checklist().plan(QUESTION)
    assert 4 < len(plan.steps) <= MAX_STEPS
    assert {s.name.split("/")[0] for s in plan.steps} == {"data.gpt", "knowledge.gpt"}
    assert len(Checklist().plan("What is 48 * 27?").steps) == 1


@needs_camera
@pytest.mark.parametrize(("people", "closed"), [(0, False), (7, True), (21, True), (12, False)])
def test_the_camera_counts_who_is_drawn_and_reads_the_sign(people: int, closed: bool) -> None:
    from examples.smart_city.camera import WARM_UP, OpenCvDetector, drawn

    detect = OpenCvDetector()
    for moment in range(WARM_UP):
        detect(drawn(0, closed=False, moment=moment))
    seen = detect(drawn(people, closed=closed, moment=WARM_UP))
    assert seen == {"people": people, "closed_roads": float(closed)}


@needs_camera
def test_frames_come_from_a_film_and_a_film_that_is_not_there_is_named(tmp_path: Path) -> None:
    import cv2

    from examples.smart_city.camera import HEIGHT, WARM_UP, WIDTH, OpenCvDetector, drawn, pictures

    film = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter.fourcc(*"MJPG"), 5, (WIDTH, HEIGHT))
    for moment in range(WARM_UP + 2):
        people = 9 if moment >= WARM_UP else 0
        writer.write(drawn(people, closed=False, moment=moment))
    writer.release()
    detect = OpenCvDetector()
    seen = [detect(picture)["people"] for picture in pictures(film, None, 0)]
    assert len(seen) == WARM_UP + 2
    assert seen[-1] == 9
    with pytest.raises(ConfigError, match="cannot be opened"):
        next(pictures(str(tmp_path / "absent.avi"), None, 0))


def searched(records: Records, question: str) -> str:
    async def main() -> str:
        await records.start()
        body = encode(Generate(messages=[Message("user", question)]))
        request = Request(name=records.names[0].name, body=body, timeout_s=5.0)
        (answer,) = [decode_event(m) async for m in records.serve(request)]
        await records.stop()
        assert isinstance(answer, Done)
        return answer.text

    return asyncio.run(main())


def test_the_search_stems_cites_and_says_when_there_is_nothing() -> None:
    assert "[I2]" in searched(Records("city_incidents", "incidents.jsonl"), "Were there floods?")
    nothing = searched(Records("city_incidents", "incidents.jsonl"), 'Penguins" OR "a?')
    assert nothing == "There is nothing on record in city_incidents."


def test_a_web_search_is_told_behind_the_records_and_its_failure_is_a_word() -> None:
    def found(request: httpx.Request) -> httpx.Response:
        assert request.url.params["format"] == "json"
        one = {"title": "Flood", "content": "Water.", "url": "https://example.org/1"}
        return httpx.Response(200, json={"results": [one]})

    records = Records("city_incidents", "incidents.jsonl", web="http://search.test/search")
    records.transport = httpx.MockTransport(found)
    text = searched(records, "floods")
    assert text.index("[I2]") < text.index("[https://example.org/1]")
    records.transport = httpx.MockTransport(lambda _: httpx.Response(500))
    assert "The web could not be searched." in searched(records, "floods")


def test_every_feed_has_numbers_for_every_sensor(tmp_path: Path) -> None:
    counts = {kind: len(series(kind)) for kind in FEEDS}
    assert counts == {"air": 4, "traffic": 2, "weather": 1}
    (tmp_path / "faults.json").write_text('{"half')
    assert read_faults(tmp_path / "faults.json") == {}


def test_the_inventory_is_what_the_cast_says_and_every_board_could_start(tmp_path: Path) -> None:
    for path, text in files().items():
        assert (FOLDER / path).read_text() == text, "python -m examples.smart_city.boards"
    inventory = load_inventory(FOLDER / "inventory.toml")
    assert len(inventory.hosts) == 12
    for host in inventory.hosts:
        text = render(inventory, host, seeds=["tcp://192.168.1.20:7102#KEY"])
        assert make_config(tomllib.loads(text), base=tmp_path).node.control_port == 7100
        sent = {blob.path for blob in gather(inventory, host, b"key")}
        assert {"examples/__init__.py", "examples/smart_city/records.py"} <= sent
        for run in host.run:
            assert f"{run.command[2].replace('.', '/')}.py" in sent
    # The folder goes to every board: the mesh's secret must lie elsewhere.
    assert not inventory.path(inventory.mesh.owner).is_relative_to(FOLDER)
