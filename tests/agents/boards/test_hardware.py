"""What doctor says of fake boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.boards import hardware
from agents.boards.checks import FAIL, OK, WARN
from agents.boards.doctor import examine
from agents.boards.profiles import choose, look, named, profiles
from agents.boards.readings import read
from mesh.core.errors import ConfigError
from tests.agents.boards.fake_board import FakeBoard

GOOD_YEAR = 1_800_000_000.0


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    return FakeBoard(tmp_path)


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "pi-zero2"),
        ("Raspberry Pi 4 Model B Rev 1.5", "pi-4"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "pi-5"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("Some Board Nobody Knows", "pi-5"),
        ("", "laptop"),
    ],
)
def test_each_board_has_its_profile(board: FakeBoard, model: str, profile: str) -> None:
    if model:
        board.model(model)
    assert choose(look(board.root)).name == profile


def test_a_big_machine_without_a_battery_is_a_server_and_with_one_a_laptop(
    board: FakeBoard,
) -> None:
    board.write("proc/meminfo", "MemTotal: 32000000 kB\nMemAvailable: 30000000 kB\n")
    assert choose(look(board.root)).name == "server"
    board.battery(80, "Full")
    assert choose(look(board.root)).name == "laptop"


def test_a_profile_is_held_to_the_memory_of_the_board(board: FakeBoard) -> None:
    board.model("Raspberry Pi 5 Model B Rev 1.0")
    whole = choose(look(board.root)).size.file_mb
    board.write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 800000 kB\n")
    held = choose(look(board.root)).size.file_mb
    assert 0 < held < whole
    assert held + 250 <= 1000000 / 1024 * 0.75


def test_profiles_are_whole_and_a_larger_board_gets_no_smaller_model() -> None:
    known = profiles()
    ladder = ["pi-zero2", "pi-4", "pi-5", "jetson-orin-nano", "jetson-agx-orin"]
    assert set(ladder) | {"laptop", "server"} == set(known)
    sizes = [known[name].size.file_mb for name in ladder]
    assert sizes == sorted(sizes)
    for name in ladder:
        assert known[name].sources, f"{name} does not say where its figures come from"
        assert known[name].matches
    with pytest.raises(ConfigError, match="no profile 'toaster'"):
        named("toaster")


def test_a_jetson_tells_its_release_and_misses_its_toolkit(board: FakeBoard) -> None:
    board.model("NVIDIA Jetson Orin Nano Developer Kit")
    board.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 3, BOARD: generic\n")
    check = hardware.check_board(board.root)
    assert check.status == WARN
    assert "R36.4.0" in check.value
    assert "CUDA" in check.advice
    board.write("usr/local/cuda-12.6/bin/nvcc", "")
    assert hardware.check_board(board.root).status == OK


@pytest.mark.parametrize(
    ("celsius", "flags", "status", "word"),
    [
        (45, 0x0, OK, "slows at 80 C"),
        (84, 0x0, WARN, "84 C"),
        (60, 0x4, WARN, "slowed now"),
        (45, 0x40000, WARN, "was slowed since the boot"),
    ],
)
def test_heat_and_throttling_are_seen(
    board: FakeBoard, celsius: int, flags: int, status: str, word: str
) -> None:
    board.model("Raspberry Pi 4 Model B Rev 1.4")
    board.heat(celsius)
    board.firmware(flags)
    board.write("sys/class/thermal/thermal_zone1/temp", "asleep")
    check = hardware.check_temperature(board.root)
    assert check.status == status
    assert word in check.value
    assert bool(check.advice) == (status != OK)


def test_a_machine_without_sensors_is_no_fault(board: FakeBoard) -> None:
    assert hardware.check_temperature(board.root).value == "no sensor"
    assert hardware.check_power(board.root).status == OK


def test_a_clock_that_the_kernel_holds_down_is_throttling(board: FakeBoard) -> None:
    board.heat(70)
    board.write("sys/class/thermal/cooling_device0/type", "thermal-cpufreq-0\n")
    board.write("sys/class/thermal/cooling_device0/cur_state", "0\n")
    assert not read(board.root).throttled
    board.write("sys/class/thermal/cooling_device0/cur_state", "3\n")
    assert read(board.root).throttled


@pytest.mark.parametrize("flags", [0x1, 0x10000])
def test_low_voltage_now_and_since_the_boot_names_the_supply(board: FakeBoard, flags: int) -> None:
    board.firmware(flags)
    assert "power supply" in hardware.check_power(board.root).advice


def test_a_jetsons_power_and_a_battery_are_told(board: FakeBoard) -> None:
    board.jetson_power(5000, 1500)
    board.battery(20)
    check = hardware.check_power(board.root)
    assert check.value == "7.5 W, battery 20%, discharging"
    assert "charge it" in check.advice


@pytest.mark.parametrize(
    ("life", "spare", "status"),
    [("0x01 0x02", "0x01", OK), ("0x02 0x09", "0x01", WARN), ("0x01 0x01", "0x03", WARN)],
)
def test_the_wear_of_an_emmc_is_told(board: FakeBoard, life: str, spare: str, status: str) -> None:
    board.emmc(life, spare)
    assert hardware.check_storage(board.root).status == status


def test_errors_of_the_file_system_are_told(board: FakeBoard) -> None:
    board.write("sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
    assert hardware.check_storage(board.root).status == OK
    board.write("sys/fs/ext4/mmcblk0p2/errors_count", "4\n")
    check = hardware.check_storage(board.root)
    assert check.status == WARN
    assert "4 error(s) on mmcblk0p2" in check.value


def test_swap_on_a_card_is_warned_of_and_in_memory_it_is_not(board: FakeBoard) -> None:
    board.write("sys/block/mmcblk0/device/type", "SD\n")
    head = "Filename Type Size Used Priority\n"
    board.write("proc/swaps", head + "/var/swap file 204796 0 -2\n")
    assert hardware.check_swap(board.root).status == WARN
    board.write("proc/swaps", head + "/dev/zram0 partition 204796 0 100\n")
    assert hardware.check_swap(board.root).status == OK


def test_a_clock_is_judged_by_its_year_and_by_who_keeps_it(board: FakeBoard) -> None:
    assert hardware.check_clock(0.0, board.root).status == FAIL
    check = hardware.check_clock(GOOD_YEAR, board.root)
    assert check.status == WARN
    assert "no clock chip" in check.value
    board.write("sys/class/rtc/rtc0/name", "rtc\n")
    assert hardware.check_clock(GOOD_YEAR, board.root).status == OK
    board.write("run/systemd/timesync/synchronized", "")
    assert "time server" in hardware.check_clock(GOOD_YEAR, board.root).value


def test_the_network_is_told_by_link_and_signal(board: FakeBoard) -> None:
    board.link("lo", "unknown")
    assert hardware.check_network(board.root).status == WARN
    board.link("wlan0", "up", signal=-82)
    assert "weak" in hardware.check_network(board.root).advice
    board.link("wlan0", "up", signal=-50)
    board.route()
    check = hardware.check_network(board.root)
    assert check.status == OK
    assert check.value == "wlan0 -50 dBm"


def test_doctor_examines_the_board_below_its_root(board: FakeBoard) -> None:
    board.model("Raspberry Pi 4 Model B Rev 1.4")
    board.heat(85)
    board.firmware(0x50005)
    checks = {check.name: check for check in examine(board.root / "state", board.root)}
    assert "pi-4" in checks["board"].value
    assert checks["temperature"].status == WARN
    assert checks["power"].status == WARN
    assert checks["memory"].value == "2 930 MB free"
