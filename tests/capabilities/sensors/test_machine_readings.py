"""Readings of the machine: what the kernel does not tell is left out."""

from __future__ import annotations

from pathlib import Path

from capabilities.sensors.machine import read_machine


def test_a_battery_is_read_where_there_is_one(tmp_path: Path) -> None:
    supply = tmp_path / "class" / "power_supply" / "BAT0"
    supply.mkdir(parents=True)
    (supply / "capacity").write_text("42\n")
    assert read_machine(tmp_path, tmp_path)["battery"] == 0.42
    (supply / "capacity").write_text("unknown")
    assert "battery" not in read_machine(tmp_path, tmp_path)


def rails(root: Path, **milliwatts: int) -> None:
    """A Jetson's power monitor with these rails, each at 5 V."""
    monitor = root / "class" / "hwmon" / "hwmon3"
    monitor.mkdir(parents=True, exist_ok=True)
    (monitor / "name").write_text("ina3221\n")
    for number, (label, power) in enumerate(milliwatts.items(), 1):
        (monitor / f"in{number}_label").write_text(f"{label}\n")
        (monitor / f"in{number}_input").write_text("5000\n")
        (monitor / f"curr{number}_input").write_text(f"{power // 5}\n")


def test_the_power_is_the_inlets_or_the_sum_of_the_rails(tmp_path: Path) -> None:
    assert "power_w" not in read_machine(tmp_path, tmp_path)
    rails(tmp_path, VDD_GPU_SOC=6000, VDD_CPU_CV=2000)
    assert read_machine(tmp_path, tmp_path)["power_w"] == 8.0
    rails(tmp_path, VDD_IN=9000, VDD_CPU_GPU_CV=6000)
    assert read_machine(tmp_path, tmp_path)["power_w"] == 9.0


def test_a_battery_tells_the_power_only_while_it_is_used(tmp_path: Path) -> None:
    supply = tmp_path / "class" / "power_supply" / "BAT0"
    supply.mkdir(parents=True)
    (supply / "status").write_text("Discharging\n")
    (supply / "voltage_now").write_text("12000000\n")
    (supply / "current_now").write_text("1500000\n")
    assert read_machine(tmp_path, tmp_path)["power_w"] == 18.0
    (supply / "power_now").write_text("17000000\n")
    assert read_machine(tmp_path, tmp_path)["power_w"] == 17.0
    (supply / "status").write_text("Charging\n")
    assert "power_w" not in read_machine(tmp_path, tmp_path)


def test_a_sensor_that_says_nonsense_is_left_out(tmp_path: Path) -> None:
    rails(tmp_path, VDD_IN=9000)
    (tmp_path / "class" / "hwmon" / "hwmon3" / "curr1_input").write_text("none")
    assert "power_w" not in read_machine(tmp_path, tmp_path)
