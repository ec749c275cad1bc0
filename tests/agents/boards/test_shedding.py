"""When a node takes less work, and when more again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agents.admitting import Door
from agents.boards.readings import read
from agents.boards.shedding import Condition, Level, ShedConfig, Shedding
from agents.config import ShedSection, make_config
from agents.scheduling.admission import Ask
from capabilities.base import Capability, Occupancy
from mesh.core.errors import ConfigError
from mesh.core.records import ModelInfo
from tests.agents.boards.fake_board import FakeBoard


def ask(number: int) -> Ask:
    return Ask(caller=str(number), priority=0, time_left_s=60.0)


def condition(board: FakeBoard) -> Condition:
    seen = read(board.root)
    return Condition(
        slack_c=seen.slack_c,
        throttled=seen.throttled,
        low_voltage=seen.low_voltage,
        battery=seen.battery,
        discharging=seen.discharging,
    )


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    made = FakeBoard(tmp_path)
    made.model("Raspberry Pi 5 Model B Rev 1.0")
    made.heat(50)
    return made


def test_a_cool_board_takes_all_work(board: FakeBoard) -> None:
    shed = Shedding()
    assert shed.look(condition(board), 0.0) is Level.FULL
    assert shed.slots(4) == 4
    assert shed.reason == ""


def test_a_hot_board_gives_half_of_its_slots_and_a_hotter_one_none(board: FakeBoard) -> None:
    shed = Shedding()
    board.heat(77)  # a Raspberry Pi slows from 80
    assert shed.look(condition(board), 0.0) is Level.EASED
    assert [shed.slots(n) for n in (1, 2, 4, 5)] == [1, 1, 2, 2]
    assert "3 degrees below" in shed.reason
    board.heat(86)
    assert shed.look(condition(board), 1.0) is Level.RESTING
    assert shed.slots(4) == 0
    assert "6 degrees above" in shed.reason


def test_work_comes_back_a_level_at_a_time_and_only_after_it_was_calm(board: FakeBoard) -> None:
    shed = Shedding(ShedConfig(calm_s=60.0))
    board.heat(86)
    shed.look(condition(board), 0.0)
    board.heat(82)  # below the bound, within its margin
    assert shed.look(condition(board), 100.0) is Level.RESTING
    board.heat(60)
    assert shed.look(condition(board), 110.0) is Level.RESTING
    assert shed.look(condition(board), 169.0) is Level.RESTING
    assert shed.look(condition(board), 170.0) is Level.EASED
    assert shed.look(condition(board), 200.0) is Level.EASED
    assert shed.look(condition(board), 260.0) is Level.FULL
    assert shed.reason == ""


def test_a_board_about_its_bound_does_not_change_its_mind(board: FakeBoard) -> None:
    shed, levels = Shedding(), []
    for second, degrees in zip(range(0, 3600, 10), itertools.cycle([74.0, 76.0]), strict=False):
        board.heat(degrees)
        levels.append(shed.look(condition(board), float(second)))
    changes = sum(a is not b for a, b in itertools.pairwise(levels))
    assert changes == 1


@pytest.mark.parametrize(("margin", "back"), [(0.05, 36), (0.0, 31), (0.2, 51)])
def test_a_battery_must_be_charged_beyond_its_bound_by_the_margin(
    board: FakeBoard, margin: float, back: int
) -> None:
    shed = Shedding(ShedConfig(margin_battery=margin, calm_s=0.0))
    board.battery(25, "Discharging")
    shed.look(condition(board), 0.0)
    board.battery(back - 2, "Discharging")  # beyond the bound, or just short of it
    assert shed.look(condition(board), 10.0) is Level.EASED
    board.battery(back, "Discharging")
    assert shed.look(condition(board), 20.0) is Level.FULL


@pytest.mark.parametrize("margin", [0.0, 2.0, 20.0])
def test_a_board_must_cool_beyond_its_bound_by_the_margin(board: FakeBoard, margin: float) -> None:
    shed = Shedding(ShedConfig(margin_c=margin, calm_s=0.0))
    board.heat(77)
    shed.look(condition(board), 0.0)
    board.heat(75 - margin + 0.5)
    assert shed.look(condition(board), 10.0) is Level.EASED
    board.heat(75 - margin - 0.5)
    assert shed.look(condition(board), 20.0) is Level.FULL


def test_every_number_of_it_can_be_set_and_begins_as_documented() -> None:
    section = ShedSection()
    told = section.model_dump(exclude={"enabled", "root"})
    assert ShedConfig(**told) == ShedConfig()
    assert set(told) == set(ShedConfig.__struct_fields__)


@pytest.mark.parametrize("wrong", [{"margin_c": -1.0}, {"margin_battery": 0.6}])
def test_a_margin_that_would_never_let_work_back_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_config({"node": {"state": "s"}, "shed": wrong}, base=Path("/"), source="test")


@pytest.mark.parametrize(
    ("percent", "status", "level"),
    [
        (80, "Discharging", Level.FULL),
        (25, "Discharging", Level.EASED),
        (25, "Charging", Level.FULL),
        (5, "Discharging", Level.RESTING),
        (5, "Charging", Level.FULL),
    ],
)
def test_a_low_battery_counts_while_nothing_charges_it(
    board: FakeBoard, percent: int, status: str, level: Level
) -> None:
    board.battery(percent, status)
    assert Shedding().look(condition(board), 0.0) is level


@pytest.mark.parametrize("flags", [0x1, 0x2, 0x4, 0x8])
def test_low_voltage_and_throttling_ease_and_what_is_past_does_not(
    board: FakeBoard, flags: int
) -> None:
    board.firmware(flags)
    assert Shedding().look(condition(board), 0.0) is Level.EASED
    board.firmware(flags << 16)
    assert Shedding().look(condition(board), 0.0) is Level.FULL


class FakeModel(Capability):
    """Four slots and three places, never busy by its own word."""

    models = (ModelInfo(name="tiny"),)

    def occupancy(self) -> Occupancy:
        return Occupancy(inflight=0, queued=0, slots=4, tokens_per_s=0.0, places=3)

    names = admit = serve = None  # type: ignore[assignment]


def test_the_door_of_a_resting_node_says_why_and_still_serves_its_own() -> None:
    shed = Shedding()
    door = Door(FakeModel(), shedding=shed)
    assert all(door.admit(n, ask(n)).accepted for n in range(7))
    door = Door(FakeModel(), shedding=shed)
    shed.look(Condition(slack_c=2.0), 0.0)
    assert [door.admit(n, ask(n)).accepted for n in range(3)] == [True, True, False]
    shed.look(Condition(battery=0.05, discharging=True), 1.0)
    door = Door(FakeModel(), shedding=shed)
    refused = door.admit(1, ask(1))
    assert not refused.accepted
    assert refused.reason == "this node rests: battery at 5%"
    assert refused.retry_after_s > 0
    assert door.admit(2, ask(2), own=True).accepted
