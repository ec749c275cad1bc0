"""How many threads compute, and what the machine says of itself."""

from __future__ import annotations

import math
from pathlib import Path

from capabilities.slm import machine
from capabilities.slm.threads import CALM_LOOKS, LOOK_S, ThreadPolicy, best, candidates


class World:
    """A machine whose load and warmth a test sets."""

    def __init__(self, cores: int, decode: int) -> None:
        self.busy = 0.0
        self.cool = 40.0
        self.now = 0.0
        self.policy = ThreadPolicy(cores, decode)

    def looks(self, count: int) -> tuple[int, int]:
        for _ in range(count):
            self.now += LOOK_S
            self.policy.look(self.now, lambda: self.busy, lambda: self.cool)
        return self.policy.counts


def test_an_idle_machine_gives_all_cores_to_prompts_and_the_best_count_to_tokens() -> None:
    assert World(4, 2).looks(3) == (2, 4)


def test_a_busy_neighbour_takes_one_core_at_once_and_gets_it_back_late() -> None:
    it = World(2, 2)
    it.busy = 1.0
    assert it.looks(1) == (1, 1)
    it.busy = 0.1
    assert it.looks(CALM_LOOKS - 1) == (1, 1)
    assert it.looks(1) == (2, 2)


def test_one_thread_is_left_however_busy_the_machine_is() -> None:
    it = World(4, 4)
    it.busy = 9.0
    assert it.looks(1) == (1, 1)


def test_a_hot_board_computes_with_half_its_threads_until_it_is_cool() -> None:
    it = World(4, 4)
    it.cool = 0.5
    assert it.looks(1) == (2, 2)
    it.cool = 3.0
    assert it.looks(3) == (2, 2)
    it.cool = 20.0
    assert it.looks(1) == (4, 4)


def test_the_machine_is_not_looked_at_in_every_step() -> None:
    it = World(2, 2)
    it.looks(1)
    it.busy = 2.0
    assert not it.policy.look(it.now + LOOK_S / 2, lambda: 2.0, lambda: 50.0)


def test_a_thread_that_brings_little_is_left_to_others() -> None:
    assert best({1: 10.0, 3: 24.0, 4: 24.5}) == 3
    assert best({1: 10.0, 2: 18.0}) == 2
    assert best({1: 10.0}) == 1
    assert candidates(1) == [1]
    assert candidates(2) == [1, 2]
    assert candidates(8) == [4, 7, 8]


def test_memory_is_what_the_system_and_the_control_group_leave(tmp_path: Path) -> None:
    assert machine.available_bytes(tmp_path) == machine.UNKNOWN_BYTES
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable:  2000 kB\n")
    assert machine.available_bytes(tmp_path) == 2000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000\nactive_file 1\n")
    assert machine.available_bytes(tmp_path) == 200_001
    (group / "memory.max").write_text("max\n")
    assert machine.available_bytes(tmp_path) == 2000 * 1024


def test_neighbours_are_all_others_and_not_oneself(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "proc").mkdir()
    stat = tmp_path / "proc/stat"
    stat.write_text("cpu  1000 0 0 0 0 0 0 0 0 0\n")
    it = machine.Neighbours(tmp_path, lambda: now[0])
    now[0] = 10.0
    stat.write_text("cpu  3000 0 0 0 0 0 0 0 0 0\n")
    ticks = machine._TICKS_PER_S
    assert 0 < it.busy_cores() <= 2000 / ticks / 10
    stat.unlink()
    now[0] = 20.0
    assert it.busy_cores() == 0.0


def test_a_weak_supply_and_an_empty_battery_leave_no_slack(tmp_path: Path) -> None:
    assert machine.slack_c(tmp_path) == math.inf
    told = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    volts = tmp_path / "sys/class/hwmon/hwmon3/in0_lcrit_alarm"
    battery = tmp_path / "sys/class/power_supply/BAT0"
    for folder in (told.parent, volts.parent, battery):
        folder.mkdir(parents=True)
    told.write_text("50000\n")  # it was short once, and is not now
    volts.with_name("name").write_text("rpi_volt\n")
    volts.write_text("0\n")
    (battery / "type").write_text("Battery\n")
    (battery / "status").write_text("Discharging\n")
    (battery / "capacity").write_text("80\n")
    assert not machine.power_short(tmp_path)
    for file, short, well in ((told, "50005", "0"), (volts, "1", "0")):
        file.write_text(short)
        assert machine.slack_c(tmp_path) == 0.0
        file.write_text(well)
    (battery / "capacity").write_text("9\n")
    assert machine.power_short(tmp_path)
    (battery / "status").write_text("Charging\n")
    assert not machine.power_short(tmp_path)
    told.write_text("nonsense")
    assert not machine.power_short(tmp_path)


def test_warmth_is_measured_against_the_limits_that_each_zone_names(tmp_path: Path) -> None:
    assert machine.cool_c(tmp_path) == math.inf
    for index, (now, kind, limit) in enumerate(
        (("41000", "passive", "85000"), ("83500", "critical", "105000"), ("none", "hot", "x"))
    ):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{index}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(now)
        (zone / "trip_point_0_type").write_text(kind + "\n")
        (zone / "trip_point_0_temp").write_text(limit)
    assert machine.cool_c(tmp_path) == 11.5
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5")
    assert machine.cool_c(tmp_path) == -3.5
