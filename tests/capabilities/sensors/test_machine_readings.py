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
