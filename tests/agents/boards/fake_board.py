"""A fake board: a folder with the files of /sys, /proc and /etc that a real one would have."""

from __future__ import annotations

from pathlib import Path


class FakeBoard:
    """Written to by a test, read by everything that takes a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\n")
        self.write("sys/devices/system/cpu/present", "0-3\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def model(self, text: str) -> None:
        self.write("proc/device-tree/model", text + "\0")

    def heat(self, celsius: float) -> None:
        self.write("sys/class/thermal/thermal_zone0/temp", f"{celsius * 1000:.0f}\n")
        self.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")

    def firmware(self, flags: int) -> None:
        self.write("sys/devices/platform/soc/soc:firmware/get_throttled", f"{flags:x}\n")

    def battery(self, percent: int, status: str = "Discharging") -> None:
        for name, text in (("type", "Battery"), ("capacity", percent), ("status", status)):
            self.write(f"sys/class/power_supply/BAT0/{name}", f"{text}\n")

    def jetson_power(self, millivolts: int, milliamperes: int) -> None:
        monitor = "sys/class/hwmon/hwmon3"
        self.write(f"{monitor}/name", "ina3221\n")
        self.write(f"{monitor}/in1_label", "VDD_IN\n")
        self.write(f"{monitor}/in1_input", f"{millivolts}\n")
        self.write(f"{monitor}/curr1_input", f"{milliamperes}\n")

    def emmc(self, life: str, spare: str = "0x01") -> None:
        self.write("sys/block/mmcblk0/device/type", "MMC\n")
        self.write("sys/block/mmcblk0/device/life_time", f"{life}\n")
        self.write("sys/block/mmcblk0/device/pre_eol_info", f"{spare}\n")

    def link(self, name: str, state: str = "up", signal: int | None = None) -> None:
        self.write(f"sys/class/net/{name}/operstate", f"{state}\n")
        if signal is not None:
            self.write(f"sys/class/net/{name}/wireless/x", "")
            self.write("proc/net/wireless", f"a\nb\n {name}: 0000   50.  {signal}.  -256  0\n")

    def route(self) -> None:
        self.write("proc/net/route", "Iface Destination Gateway\neth0 00000000 0101A8C0 0003\n")
